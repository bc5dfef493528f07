//! The user's wish to end a command that goes on by itself.

use tokio::sync::watch;

/// Resolves when the user has pressed Ctrl-C.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A wish that is uttered by sending `true`.
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// One that Ctrl-C or SIGTERM utters, and with `hangup` the end of the terminal, too.
    pub(crate) fn on_signal(hangup: bool) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut gone = hangup.then(|| signal(SignalKind::hangup())).transpose()?;
        let (sender, stop) = Self::new();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                Some(_) = async { gone.as_mut()?.recv().await } => {}
            }
            sender.send_replace(true);
            sender.closed().await;
        });
        Ok(stop)
    }

    /// Waits for it; for ever if nobody can utter it any more.
    pub(crate) async fn wait(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
