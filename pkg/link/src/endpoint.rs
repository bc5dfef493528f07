//! SKELETON: endpoint URLs.

use std::fmt;
use std::str::FromStr;

/// The scheme of an endpoint URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `udp://host:port`
    Udp,
    /// `unix:///path`
    Unix,
}

/// Where a peer can be dialled, as a URL; `?token=` may follow.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    text: String,
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

impl Endpoint {
    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        todo!()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(_text: &str) -> Result<Self, EndpointError> {
        todo!()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint([redacted])")
    }
}
