//! How a command ends.

use byway_api::{ApiError, Code};

/// Why a command did not end in "yes".
#[derive(Debug)]
pub(crate) enum Failure {
    /// The answer is no: nothing answered, not found, refused. Exit status 1.
    No(String),
    /// The question could not be put: bad usage, no daemon. Exit status 2.
    CouldNot(String),
    /// Whoever read the data has enough. Success.
    Pipe,
}

impl Failure {
    /// The answer is no.
    pub(crate) fn no(text: impl Into<String>) -> Self {
        Self::No(text.into())
    }

    /// It could not run.
    pub(crate) fn could_not(text: impl Into<String>) -> Self {
        Self::CouldNot(text.into())
    }

    /// The exit status, and what to print on stderr.
    pub(crate) fn status(&self) -> (u8, Option<&str>) {
        match self {
            Self::No(text) => (1, Some(text).filter(|text| !text.is_empty()).map(String::as_str)),
            Self::CouldNot(text) => (2, Some(text)),
            Self::Pipe => (0, None),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error.code {
            Code::ManconUnsatisfied
            | Code::TargetForbidden
            | Code::NoWay
            | Code::Down
            | Code::Refused
            | Code::Unknown
            | Code::TooLong
            | Code::Busy
            | Code::Conflict => Self::No(error.detail),
            _ => Self::CouldNot(error.detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_and_a_failure_to_ask_have_different_statuses() {
        assert_eq!(Failure::from(ApiError::new(Code::NoWay, "x")).status(), (1, Some("x")));
        assert_eq!(Failure::from(ApiError::new(Code::Unauthorized, "x")).status(), (2, Some("x")));
        assert_eq!(Failure::Pipe.status(), (0, None));
    }
}
