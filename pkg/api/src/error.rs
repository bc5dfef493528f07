//! Errors that cross the API, with codes that programs may rely on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of error it is; the names never change once released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// No transport that the level allows is there.
    ManconUnsatisfied,
    /// The target may not be reached this way.
    TargetForbidden,
    /// Waited in vain for a transport, helper, peer or route.
    NoWay,
    /// The remote node is down.
    Down,
    /// The remote node refuses.
    Refused,
    /// No such address, node or peer.
    Unknown,
    /// The message exceeds [`MESSAGE_MAX`](crate::MESSAGE_MAX).
    TooLong,
    /// A queue is full; trying again soon may work.
    Busy,
    /// The node, or its daemon, has ended.
    Closed,
    /// The request makes no sense.
    BadRequest,
    /// The caller has not shown that it may do this.
    Unauthorized,
    /// It exists already, or another holds it.
    Conflict,
    /// Something that should work did not; the daemon's log says more.
    Internal,
}

/// Why a call failed: a code for programs, a text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    /// For programs.
    pub code: Code,
    /// For people: what is wrong, and what to do.
    pub detail: String,
}

impl Code {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ManconUnsatisfied => "mancon-unsatisfied",
            Self::TargetForbidden => "target-forbidden",
            Self::NoWay => "no-way",
            Self::Down => "down",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::TooLong => "too-long",
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::BadRequest => "bad-request",
            Self::Unauthorized => "unauthorized",
            Self::Conflict => "conflict",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that goes with it.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Unknown => 404,
            Self::ManconUnsatisfied | Self::TargetForbidden | Self::Conflict => 409,
            Self::Closed => 410,
            Self::TooLong => 413,
            Self::Internal => 500,
            Self::Down | Self::Refused => 502,
            Self::Busy => 503,
            Self::NoWay => 504,
        }
    }

    /// The name of that status, as RFC 9110 has it.
    pub const fn title(self) -> &'static str {
        match self.status() {
            400 => "Bad Request",
            401 => "Unauthorized",
            404 => "Not Found",
            409 => "Conflict",
            410 => "Gone",
            413 => "Content Too Large",
            500 => "Internal Server Error",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            _ => "Gateway Timeout",
        }
    }

    /// Every code; the place in this list is its number in binary frames, which never changes.
    pub const ALL: [Self; 13] = [
        Self::ManconUnsatisfied,
        Self::TargetForbidden,
        Self::NoWay,
        Self::Down,
        Self::Refused,
        Self::Unknown,
        Self::TooLong,
        Self::Busy,
        Self::Closed,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Conflict,
        Self::Internal,
    ];
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl ApiError {
    /// An error with `code` that tells people `detail`.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}
