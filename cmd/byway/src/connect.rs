//! From a URL to a daemon.

use byway_client::{Client, Daemon};
use byway_daemon::Paths;

use crate::failure::Failure;

/// Where the token of an API on TCP is looked for before the user's own state directory.
pub(crate) const TOKEN: &str = "BYWAY_API_TOKEN";

/// The daemon at `url`; without one the user's, else the system's.
pub(crate) async fn connect(url: Option<&str>) -> Result<Daemon, Failure> {
    let url = url.filter(|url| !url.is_empty()).map_or_else(default, str::to_owned);
    let mut client = Client::new(&url)?;
    if !url.starts_with("unix:") && !url.contains("?token=") {
        let file = Paths::of_user().state.join("api.token");
        // Without a token the daemon says what it wants, better than could be guessed here.
        if let Some(token) = std::env::var(TOKEN).ok().or_else(|| std::fs::read_to_string(file).ok()) {
            client = client.with_token(&token);
        }
    }
    Ok(client.connect().await?)
}

fn default() -> String {
    let (user, system) = (Paths::of_user().socket, Paths::of_system().socket);
    let socket = if user.exists() || !system.exists() { user } else { system };
    format!("unix:{}", socket.display())
}
