//! What goes over a stream before its bytes: the name of the service, and the answer.
//!
//! ```text
//!  dialler ──►  length u8 (1 … 255) · name, UTF-8 without control characters
//!  acceptor ◄── answer u8: 0 go on, 1 refused, 2 busy
//! ```

use std::io;

use quinn::{RecvStream, SendStream};

/// Most bytes of a service's name.
pub const SERVICE_MAX: usize = 255;

/// The answer to a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Answer {
    /// What follows are the stream's bytes.
    Accepted = 0,
    /// No such service, or not for this dialler.
    Refused = 1,
    /// Nobody came for the stream in time.
    Busy = 2,
}

impl Answer {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Accepted, Self::Refused, Self::Busy].into_iter().find(|answer| *answer as u8 == byte)
    }
}

/// Whether `name` may be the name of a service.
pub(crate) fn is_service(name: &str) -> bool {
    (1..=SERVICE_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// The header that asks for the service `name`; none: it cannot be one's name.
pub(crate) fn emit(name: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(name.len()).ok()?;
    is_service(name).then(|| [&[length], name.as_bytes()].concat())
}

/// The name in a header after its length byte; none: it cannot be one's name.
pub(crate) fn parse(name: Vec<u8>) -> Option<String> {
    String::from_utf8(name).ok().filter(|name| is_service(name))
}

/// Reads a header.
pub(crate) async fn read(stream: &mut RecvStream) -> io::Result<String> {
    let mut length = [0; 1];
    stream.read_exact(&mut length).await.map_err(io::Error::other)?;
    let mut name = vec![0; usize::from(length[0])];
    stream.read_exact(&mut name).await.map_err(io::Error::other)?;
    parse(name).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not the name of a service"))
}

/// Sends the answer.
pub(crate) async fn answer(stream: &mut SendStream, answer: Answer) -> io::Result<()> {
    Ok(stream.write_all(&[answer as u8]).await?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_leads_back_to_its_name_and_nothing_else_is_a_name(name in "\\PC{0,300}") {
            match emit(&name) {
                Some(header) => {
                    prop_assert_eq!(usize::from(header[0]), header.len() - 1);
                    prop_assert_eq!(parse(header[1..].to_vec()), Some(name));
                }
                None => prop_assert!(name.is_empty() || name.len() > SERVICE_MAX),
            }
        }

        #[test]
        fn any_bytes_are_a_name_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(name) = parse(bytes.clone()) {
                prop_assert_eq!(name.as_bytes(), &bytes[..]);
                prop_assert!(is_service(&name));
            }
        }
    }

    #[test]
    fn control_characters_are_in_no_name() {
        assert_eq!(emit("a\nb"), None);
        assert_eq!(parse(b"a\0".to_vec()), None);
        assert_eq!(parse(vec![0xff]), None);
    }

    #[test]
    fn an_answer_has_one_byte_and_unknown_ones_are_none() {
        for byte in 0..=255 {
            assert_eq!(Answer::from_byte(byte).map(|answer| answer as u8), (byte < 3).then_some(byte));
        }
    }
}
