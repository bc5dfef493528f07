//! Where the daemon tells about itself: stderr, at a level that can change while it runs.

use std::sync::OnceLock;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::LogLevel;

/// What `-v` and `-q` ask for; it goes before the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbosity(Option<LogLevel>);

impl Verbosity {
    /// No wish: the configuration decides.
    pub const CONFIGURED: Self = Self(None);

    /// What so many `-v`, or `-q`, mean.
    pub const fn of_flags(verbose: u8, quiet: bool) -> Self {
        Self(match (verbose, quiet) {
            (0, false) => None,
            (0, true) => Some(LogLevel::Error),
            (1, _) => Some(LogLevel::Debug),
            _ => Some(LogLevel::Trace),
        })
    }

    /// The level, where the configuration has `configured`.
    pub(crate) fn over(self, configured: LogLevel) -> LogLevel {
        self.0.unwrap_or(configured)
    }
}

static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Sets the level of the log on stderr, and opens it when called first.
pub fn log_at(level: LogLevel) {
    let filter = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Other crates log addresses, and some of them payloads: nothing of theirs is shown.
    let filter = Targets::new().with_target("byway", filter);
    let Some(handle) = LEVEL.get() else {
        let (layer, handle) = reload::Layer::new(filter);
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(true);
        // Systemd's journal has times of its own.
        let opened = if std::env::var_os("JOURNAL_STREAM").is_some() {
            tracing_subscriber::registry().with(layer).with(lines.without_time()).try_init()
        } else {
            tracing_subscriber::registry().with(layer).with(lines).try_init()
        };
        // A program that embeds the daemon may have a log already; it stays in charge.
        if opened.is_ok() {
            let _ = LEVEL.set(handle);
        }
        return;
    };
    if let Err(error) = handle.modify(|current| *current = filter) {
        tracing::warn!(%error, "the log level stays as it was");
    }
}
