//! Lines of tor's control port as replies, and the words in them (control-spec, sections 2.3 and 2.1.1).
//!
//! ```text
//! 250-KEY=value        more follows
//! 250+KEY=             data follows, up to a line of one full stop
//! 250 OK               the end
//! 650 …                an event, which nobody asked for at this moment
//! ```

use bytes::{Buf, BytesMut};

/// One whole reply, or event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    /// Without codes and line ends; data is left out.
    pub(crate) lines: Vec<String>,
}

/// This is no control port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Cuts bytes into replies.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    incoming: BytesMut,
    lines: Vec<String>,
    /// Bytes of `lines`, and of data that was left out.
    length: usize,
    in_data: bool,
}

/// Longest reply with all its lines; what is asked for is far shorter.
const LENGTH_MAX: usize = 64 << 10;

impl Reply {
    /// Whether the command was done.
    pub(crate) fn is_ok(&self) -> bool {
        self.code == 250
    }

    /// The last line, which says in words what became of the command.
    pub(crate) fn words(&self) -> &str {
        self.lines.last().map(String::as_str).unwrap_or_default()
    }

    /// What follows `start` in the line that begins with it.
    pub(crate) fn after(&self, start: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(start))
    }
}

impl Reader {
    /// Bytes came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
    }

    /// The next reply, if it is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Reply>, Malformed> {
        loop {
            let Some(end) = self.incoming.iter().position(|byte| *byte == b'\n') else {
                let is_long = self.length + self.incoming.len() > LENGTH_MAX;
                return if is_long { Err(Malformed) } else { Ok(None) };
            };
            let line = self.incoming.split_to(end);
            self.incoming.advance(1);
            self.length += line.len() + 1;
            if self.length > LENGTH_MAX {
                return Err(Malformed);
            }
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if self.in_data {
                self.in_data = line != b".";
                continue;
            }
            let Some((start, text)) = line.split_at_checked(4) else { return Err(Malformed) };
            let code = std::str::from_utf8(&start[..3]).ok().filter(|text| is_number(text));
            let Some(code) = code.and_then(|text| text.parse().ok()) else { return Err(Malformed) };
            self.lines.push(String::from_utf8_lossy(text).into_owned());
            match start[3] {
                b'-' => {}
                b'+' => self.in_data = true,
                b' ' => {
                    self.length = 0;
                    return Ok(Some(Reply { code, lines: std::mem::take(&mut self.lines) }));
                }
                _ => return Err(Malformed),
            }
        }
    }
}

/// The value of `key` among `KEY=value` words; a value may be quoted.
pub(crate) fn value(text: &str, key: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let word = rest.find([' ', '=']);
        let name = word.map_or(rest, |end| &rest[..end]);
        rest = &rest[name.len()..];
        if let Some(after) = rest.strip_prefix('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => {
                    let end = after.find(' ').unwrap_or(after.len());
                    (after[..end].to_owned(), &after[end..])
                }
            };
            if name == key {
                return Some(value);
            }
            rest = after;
        }
        if rest.is_empty() {
            return None;
        }
    }
}

/// The content of a quoted string whose first quote is gone, and what follows the last.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    loop {
        let (first, after) = rest.split_first()?;
        rest = after;
        match first {
            b'"' => {
                let at = text.len() - rest.len();
                return Some((String::from_utf8_lossy(&bytes).into_owned(), text.get(at..)?));
            }
            b'\\' => {
                let (escaped, after) = rest.split_first()?;
                let octal = rest.first_chunk::<3>().and_then(|digits| std::str::from_utf8(digits).ok());
                let octal = octal.filter(|digits| is_number(digits));
                if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
                    bytes.push(byte);
                    rest = &rest[3..];
                    continue;
                }
                bytes.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => *other,
                });
                rest = after;
            }
            other => bytes.push(*other),
        }
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Reply>, Malformed> {
        let mut reader = Reader::default();
        reader.push(bytes);
        let mut replies = Vec::new();
        while let Some(reply) = reader.next()? {
            replies.push(reply);
        }
        Ok(replies)
    }

    #[test]
    fn replies_of_all_kinds_are_told_apart() {
        let text = b"250-AUTH METHODS=NULL\r\n250 OK\r\n250+info=\r\n650 not an event\r\n.\r\n250 OK\r\n\
                     650 STATUS_CLIENT NOTICE X\n515 no\r\n25";
        let replies = read(text).expect("in order");
        let codes: Vec<_> = replies.iter().map(|reply| (reply.code, reply.words())).collect();
        assert_eq!(
            codes,
            [(250, "OK"), (250, "OK"), (650, "STATUS_CLIENT NOTICE X"), (515, "no")],
            "data is no line"
        );
        assert_eq!(replies[0].after("AUTH "), Some("METHODS=NULL"));
        assert!(replies[0].is_ok() && !replies[3].is_ok());
    }

    #[test]
    fn what_no_control_port_says_is_an_error_and_endless_replies_too() {
        for odd in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"\r\n", b"250\r\n", b"+50 OK\r\n", b"250*OK\r\n"] {
            assert_eq!(read(odd), Err(Malformed), "{odd:?}");
        }
        assert_eq!(read(&vec![b'2'; LENGTH_MAX + 1]), Err(Malformed), "one line without an end");
        assert_eq!(read(&b"250-x\r\n".repeat(LENGTH_MAX / 6)), Err(Malformed), "lines without an end");
        let data = [&b"250+x=\r\n"[..], &b"more\r\n".repeat(LENGTH_MAX / 5)].concat();
        assert_eq!(read(&data), Err(Malformed), "data without an end");
    }

    #[test]
    fn values_are_found_among_words_quoted_or_not() {
        let text = r#"NOTICE BOOTSTRAP PROGRESS=45 TAG=a SUMMARY="Asking = \"for\" relays\\\303\251" LAST="#;
        assert_eq!(value(text, "PROGRESS").as_deref(), Some("45"));
        assert_eq!(value(text, "SUMMARY").as_deref(), Some("Asking = \"for\" relays\\é"));
        assert_eq!(value(text, "LAST").as_deref(), Some(""));
        assert_eq!(value(text, "for"), None);
        assert_eq!(value(text, "NOTICE"), None, "a word without a value");
        assert_eq!(value("A=\"open", "A"), None);
        assert_eq!(value("A=\"x\\", "A"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text: String) {
            let _ = read(&bytes);
            let _ = value(&text, "A");
            let _ = value(&format!("A=\"{text}"), "A");
        }
    }
}
