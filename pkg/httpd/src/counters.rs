//! What `/metrics` says about the API itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counters of the API. Labels come from the list of routes, never from a client, so that they stay few.
#[derive(Default)]
pub(crate) struct Counters {
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    /// Streams of either kind that are open.
    pub(crate) streams: AtomicU64,
    /// Messages of INET256 clients that could not be sent; their protocol has no word for it.
    pub(crate) unsent: AtomicU64,
    /// Connections that are open.
    pub(crate) connections: AtomicU64,
    /// Connections that were turned away because there were too many.
    pub(crate) turned_away: AtomicU64,
}

impl Counters {
    pub(crate) fn request(&self, method: &axum::http::Method, route: &str, status: u16) {
        let method = match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "DELETE" => "DELETE",
            "CONNECT" => "CONNECT",
            _ => "other",
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((method, route.to_owned(), status)).or_default() += 1;
    }

    /// Appends all of them in the text form of OpenMetrics, without its end mark.
    pub(crate) fn write(&self, text: &mut String) {
        // Writing to a string cannot fail.
        text.push_str("# TYPE byway_api_requests counter\n# HELP byway_api_requests Requests answered.\n");
        for ((method, route, status), count) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner)
        {
            let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
            let _ = writeln!(text, "byway_api_requests_total{{{labels}}} {count}");
        }
        for (name, kind, help, value) in [
            ("connections", "gauge", "Connections that are open.", &self.connections),
            ("streams", "gauge", "Message streams that are open.", &self.streams),
            ("turned_away", "counter", "Connections refused because there were too many.", &self.turned_away),
            (
                "inet256_unsent",
                "counter",
                "Messages of INET256 clients that could not be sent.",
                &self.unsent,
            ),
        ] {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let value = value.load(Ordering::Relaxed);
            let _ = writeln!(text, "# TYPE byway_api_{name} {kind}\n# HELP byway_api_{name} {help}");
            let _ = writeln!(text, "byway_api_{name}{suffix} {value}");
        }
    }
}
