//! Why a stream was not opened.

use byway_api::{ApiError, Code};

/// Why [`Endpoint::connect`](crate::Endpoint::connect) gave no stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The service's name is empty, longer than [`SERVICE_MAX`](crate::SERVICE_MAX) bytes, or has control characters.
    #[error("the name of a service has 1 to 255 bytes and no control characters")]
    Service,
    /// The other side has no such service, takes no streams, or does not want this one.
    #[error("the other side refuses")]
    Refused,
    /// The other side has more streams than it can look after.
    #[error("the other side is busy")]
    Busy,
    /// This endpoint talks to as many remotes as it may.
    #[error("too many remotes at once")]
    TooMany,
    /// The node could not send.
    #[error("{0}")]
    Unreachable(ApiError),
    /// No answer within the deadline.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke before the other side answered.
    #[error("the connection broke: {0}")]
    Lost(String),
    /// The endpoint, or its node, has ended.
    #[error("the node has ended")]
    Closed,
}

impl ConnectError {
    /// The code that the API gives for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Service => Code::BadRequest,
            Self::Refused => Code::Refused,
            Self::Busy | Self::TooMany => Code::Busy,
            Self::Unreachable(error) => error.code,
            Self::Timeout | Self::Lost(_) => Code::Down,
            Self::Closed => Code::Closed,
        }
    }
}

impl From<ConnectError> for ApiError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable(error) => error,
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

impl From<quinn::ConnectionError> for ConnectError {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::TimedOut => Self::Timeout,
            E::LocallyClosed => Self::Closed,
            E::ConnectionClosed(close)
                if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED =>
            {
                Self::Refused
            }
            other => Self::Lost(other.to_string()),
        }
    }
}
