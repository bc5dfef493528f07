//! Answers to dials that take time, gathered where the transport is polled.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::{DialError, DialId};

/// Dials that are under way in tasks of their own.
#[derive(Debug)]
pub struct Lookups<T> {
    sender: mpsc::Sender<(DialId, Result<T, DialError>)>,
    receiver: mpsc::Receiver<(DialId, Result<T, DialError>)>,
    under_way: usize,
}

/// More dials than these at once are refused: a dead resolver must not tie up every thread.
const UNDER_WAY_MAX: usize = 64;

impl<T: Send + 'static> Lookups<T> {
    /// None under way.
    #[expect(clippy::new_without_default, reason = "it makes a channel, which no default should")]
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(UNDER_WAY_MAX);
        Self { sender, receiver, under_way: 0 }
    }

    /// Runs `work` in a task; its outcome, or `late` after `patience`, comes out of [`Self::poll`].
    ///
    /// # Errors
    ///
    /// `late`, if 64 are under way already.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(
        &mut self,
        id: DialId,
        patience: Duration,
        late: DialError,
        work: impl Future<Output = Result<T, DialError>> + Send + 'static,
    ) -> Result<(), DialError> {
        if self.under_way >= UNDER_WAY_MAX {
            return Err(late);
        }
        self.under_way += 1;
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let result = tokio::time::timeout(patience, work).await.unwrap_or(Err(late));
            // Nobody listens any more only when the transport is gone.
            let _ = sender.send((id, result)).await;
        });
        Ok(())
    }

    /// An outcome, if there is one.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(DialId, Result<T, DialError>)> {
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(outcome)) => {
                self.under_way -= 1;
                Poll::Ready(outcome)
            }
            // It cannot close, since this holds a sender.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn dials_are_bounded_and_each_that_was_taken_is_answered() {
        let mut lookups: Lookups<u64> = Lookups::new();
        for number in 0..UNDER_WAY_MAX as u64 {
            lookups.start(DialId(number), LONG, DialError::Name, ready(Ok(number))).unwrap();
        }
        let refused = lookups.start(DialId(99), LONG, DialError::Name, ready(Ok(99)));
        assert_eq!(refused, Err(DialError::Name));
        let mut answers = Vec::new();
        for _ in 0..UNDER_WAY_MAX {
            answers.push(poll_fn(|cx| lookups.poll(cx)).await);
        }
        answers.sort_by_key(|(id, _)| *id);
        assert!(answers.into_iter().eq((0..64).map(|number| (DialId(number), Ok(number)))));
        assert_eq!(lookups.start(DialId(1), LONG, DialError::Name, ready(Ok(1))), Ok(()));
    }

    #[tokio::test]
    async fn what_takes_too_long_is_answered_all_the_same() {
        let mut lookups: Lookups<()> = Lookups::new();
        lookups.start(DialId(1), Duration::ZERO, DialError::Unreachable, pending()).unwrap();
        assert_eq!(poll_fn(|cx| lookups.poll(cx)).await, (DialId(1), Err(DialError::Unreachable)));
    }
}
