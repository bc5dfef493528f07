//! The binary frames of `GET /v1/nodes/{addr}/messages`: batches of records, in both directions.
//!
//! One WebSocket message carries any number of whole records, so that one system call moves many small messages. Two
//! windows bound what is under way, and a full one makes the sender of records wait rather than the socket: a client counts
//! what it has sent to each receiver and was not yet told the outcome of ([`WINDOW_TO_ONE`], [`WINDOW_TO_ALL`]), and the
//! daemon counts what the application has not yet taken ([`WINDOW_TO_CLIENT`]). So one receiver that does not read holds up
//! nothing but the messages to it. `spec/80-api.md` is the normative text.
//!
//! ```text
//!  0       4      5        6            10          42
//! ┌────────┬──────┬────────┬────────────┬───────────┬───────────┐
//! │ length │ kind │ mancon │ deadline   │ address   │ payload … │   length: u32 BE, of what follows it
//! └────────┴──────┴────────┴────────────┴───────────┴───────────┘
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use byway_identity::Addr;
use byway_wire::{Malformed, Reader};

use crate::{ApiError, Code, Kind, MESSAGE_MAX, ManCon};

/// Most bytes of one WebSocket message.
pub const FRAME_MAX: usize = 1 << 20;

/// Cost, as the windows count it, of unanswered messages to one receiver beyond which no further one may follow.
pub const WINDOW_TO_ONE: usize = 1 << 20;

/// The same for all receivers together.
pub const WINDOW_TO_ALL: usize = 4 << 20;

/// Cost of messages that the application has not taken beyond which the daemon sends no further one.
pub const WINDOW_TO_CLIENT: usize = 1 << 20;

/// Most bytes of the text in [`Record::Error`]; longer ones are cut.
pub const DETAIL_MAX: usize = 1_024;

/// Bytes of a record after its length and before its payload.
const HEADER: usize = 38;

/// What a payload costs in the windows.
pub const fn cost(payload: &Bytes) -> usize {
    payload.len() + 64
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A message or packet. Daemon to client: `addr` is the sender, no level, no deadline.
    Payload {
        /// Message or packet.
        kind: Kind,
        /// The receiver, or the sender.
        addr: Addr,
        /// The level, if the request names one.
        mancon: Option<ManCon>,
        /// Milliseconds to wait; 0: the default.
        deadline_ms: u32,
        /// The content.
        payload: Bytes,
    },
    /// Daemon to client: the oldest unanswered message to `addr` was refused. About a packet, of which none is answered
    /// otherwise, it is just a hint.
    Error {
        /// Message or packet.
        kind: Kind,
        /// The receiver.
        addr: Addr,
        /// Why.
        error: ApiError,
    },
    /// Daemon to client: the `count` oldest unanswered messages to `addr` were taken.
    Taken {
        /// The receiver.
        addr: Addr,
        /// The level that was used for the last of them.
        mancon: ManCon,
        /// Whether the last of them waits for a way or a session.
        held: bool,
        /// How many.
        count: u32,
    },
    /// Client to daemon: the application took messages that cost this much.
    Credit {
        /// The cost.
        cost: u32,
    },
}

/// Why a frame cannot be read; the rest of it means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is longer than [`FRAME_MAX`].
    #[error("a frame has at most {FRAME_MAX} bytes, not {0}")]
    TooLong(usize),
    /// A record ends early, goes on too long or has a field that its kind forbids.
    #[error("a record is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// A record is of no known kind.
    #[error("there is no record of kind {0}")]
    Kind(u8),
    /// A message has more than [`MESSAGE_MAX`] bytes.
    #[error("a message has at most {MESSAGE_MAX} bytes, not {0}")]
    MessageTooLong(usize),
}

/// The numbers on the wire.
mod kind {
    pub(super) const MESSAGE: u8 = 0;
    pub(super) const PACKET: u8 = 1;
    pub(super) const ERROR: u8 = 2;
    pub(super) const TAKEN: u8 = 3;
    pub(super) const CREDIT: u8 = 4;
}

const NO_LEVEL: u8 = 255;

impl Record {
    /// Appends the record to a frame.
    ///
    /// A message longer than [`MESSAGE_MAX`] is the caller's to refuse: it is written, and then refused by the reader.
    pub fn encode(&self, frame: &mut BytesMut) {
        match self {
            Self::Payload { kind, addr, mancon, deadline_ms, payload } => {
                head(
                    frame,
                    kind_code(*kind),
                    mancon.map_or(NO_LEVEL, ManCon::code),
                    *deadline_ms,
                    addr,
                    payload.len(),
                );
                frame.put_slice(payload);
            }
            Self::Error { kind, addr, error } => {
                let detail = cut(&error.detail);
                head(frame, kind::ERROR, NO_LEVEL, 0, addr, 2 + detail.len());
                frame.put_u8(kind_code(*kind));
                frame.put_u8(code_number(error.code));
                frame.put_slice(detail.as_bytes());
            }
            Self::Taken { addr, mancon, held, count } => {
                head(frame, kind::TAKEN, mancon.code(), 0, addr, 5);
                frame.put_u8(u8::from(*held));
                frame.put_u32(*count);
            }
            Self::Credit { cost } => {
                head(frame, kind::CREDIT, NO_LEVEL, 0, &Addr::NOBODY, 4);
                frame.put_u32(*cost);
            }
        }
    }

    fn parse(record: &Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader::new(record);
        let (kind, mancon, deadline_ms) = (reader.u8()?, reader.u8()?, reader.u32_be()?);
        let addr = Addr::from_bytes(reader.array()?);
        let level = match mancon {
            NO_LEVEL => None,
            code => Some(ManCon::from_code(code).ok_or(Malformed::Invalid("mancon"))?),
        };
        let plain = |wanted: bool, field| if wanted { Ok(()) } else { Err(Malformed::Invalid(field)) };
        if kind > kind::PACKET {
            plain(deadline_ms == 0, "deadline")?;
            plain((kind == kind::TAKEN) == level.is_some(), "mancon")?;
        }
        let parsed = match kind {
            kind::MESSAGE | kind::PACKET => {
                let length = reader.remaining();
                if length > MESSAGE_MAX {
                    return Err(FrameError::MessageTooLong(length));
                }
                let payload = record.slice(HEADER..);
                return Ok(Self::Payload {
                    kind: kind_from(kind)?,
                    addr,
                    mancon: level,
                    deadline_ms,
                    payload,
                });
            }
            kind::ERROR => {
                let about = kind_from(reader.u8()?)?;
                let code = *Code::ALL.get(usize::from(reader.u8()?)).ok_or(Malformed::Invalid("code"))?;
                plain(reader.remaining() <= DETAIL_MAX, "detail")?;
                let detail = std::str::from_utf8(reader.rest()).map_err(|_| Malformed::Invalid("detail"))?;
                Self::Error { kind: about, addr, error: ApiError::new(code, detail) }
            }
            kind::TAKEN => {
                let held = match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed::Invalid("held").into()),
                };
                let mancon = level.ok_or(Malformed::Invalid("mancon"))?;
                Self::Taken { addr, mancon, held, count: reader.u32_be()? }
            }
            kind::CREDIT => {
                plain(addr == Addr::NOBODY, "address")?;
                Self::Credit { cost: reader.u32_be()? }
            }
            other => return Err(FrameError::Kind(other)),
        };
        reader.finish()?;
        Ok(parsed)
    }
}

/// Reads a frame record by record, without copying payloads; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    frame: Bytes,
    failed: Option<FrameError>,
}

impl Records {
    /// The records of `frame`.
    pub fn new(frame: Bytes) -> Self {
        if frame.len() > FRAME_MAX {
            return Self { failed: Some(FrameError::TooLong(frame.len())), frame: Bytes::new() };
        }
        Self { frame, failed: None }
    }

    fn take(&mut self) -> Result<Record, FrameError> {
        let length = Reader::new(&self.frame).u32_be()? as usize;
        if length > HEADER + MESSAGE_MAX {
            return Err(FrameError::MessageTooLong(length - HEADER));
        }
        if self.frame.len() < 4 + length {
            return Err(Malformed::Truncated.into());
        }
        let record = self.frame.split_to(4 + length).slice(4..);
        Record::parse(&record)
    }
}

impl Iterator for Records {
    type Item = Result<Record, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        if self.frame.is_empty() {
            return None;
        }
        let record = self.take();
        if record.is_err() {
            self.frame = Bytes::new();
        }
        Some(record)
    }
}

/// All records of a frame, or why it has none.
pub fn decode(frame: &[u8]) -> Result<Vec<Record>, FrameError> {
    Records::new(Bytes::copy_from_slice(frame)).collect()
}

fn head(frame: &mut BytesMut, kind: u8, mancon: u8, deadline_ms: u32, addr: &Addr, payload: usize) {
    let length = u32::try_from(HEADER + payload).expect("payloads of 4 GiB are refused long before");
    frame.reserve(4 + HEADER + payload);
    frame.put_u32(length);
    frame.put_u8(kind);
    frame.put_u8(mancon);
    frame.put_u32(deadline_ms);
    frame.put_slice(addr.as_bytes());
}

/// The text up to [`DETAIL_MAX`] bytes, never inside a character.
fn cut(detail: &str) -> &str {
    &detail[..detail.floor_char_boundary(DETAIL_MAX)]
}

fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Message => kind::MESSAGE,
        Kind::Packet => kind::PACKET,
    }
}

fn kind_from(code: u8) -> Result<Kind, FrameError> {
    match code {
        kind::MESSAGE => Ok(Kind::Message),
        kind::PACKET => Ok(Kind::Packet),
        other => Err(FrameError::Kind(other)),
    }
}

fn code_number(code: Code) -> u8 {
    let place = Code::ALL.iter().position(|known| *known == code);
    place.and_then(|place| u8::try_from(place).ok()).expect("the list has every code")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let addr = any::<[u8; 32]>().prop_map(Addr::from_bytes);
        let level = proptest::sample::select(&ManCon::ALL[..]);
        let kind = prop_oneof![Just(Kind::Message), Just(Kind::Packet)];
        let code = proptest::sample::select(&Code::ALL[..]);
        let bytes = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            (kind.clone(), addr.clone(), proptest::option::of(level.clone()), any::<u32>(), bytes).prop_map(
                |(kind, addr, mancon, deadline_ms, payload)| Record::Payload {
                    kind,
                    addr,
                    mancon,
                    deadline_ms,
                    payload
                }
            ),
            (kind, addr.clone(), code, "[ -~é]{0,40}").prop_map(|(kind, addr, code, detail)| Record::Error {
                kind,
                addr,
                error: ApiError::new(code, detail)
            }),
            (addr, level, any::<bool>(), any::<u32>())
                .prop_map(|(addr, mancon, held, count)| Record::Taken { addr, mancon, held, count }),
            any::<u32>().prop_map(|cost| Record::Credit { cost }),
        ]
    }

    fn encode(records: &[Record]) -> BytesMut {
        let mut frame = BytesMut::new();
        for record in records {
            record.encode(&mut frame);
        }
        frame
    }

    proptest! {
        #[test]
        fn records_go_through_a_frame_and_back(records in prop::collection::vec(record(), 0..8)) {
            prop_assert_eq!(decode(&encode(&records)), Ok(records));
        }

        #[test]
        fn any_bytes_are_read_or_refused_and_what_is_read_has_one_spelling(bytes: Vec<u8>) {
            if let Ok(records) = decode(&bytes) {
                prop_assert_eq!(encode(&records), bytes);
            }
        }

        #[test]
        fn a_changed_byte_gives_another_frame_or_none(records in prop::collection::vec(record(), 1..4), at: prop::sample::Index, to: u8) {
            let mut frame = encode(&records);
            let at = at.index(frame.len());
            frame[at] = to;
            if let Ok(read) = decode(&frame) {
                prop_assert_eq!(encode(&read), frame);
            }
        }

        #[test]
        fn a_torn_frame_is_refused(record in record(), at: prop::sample::Index) {
            let frame = encode(&[record]);
            let cut = 1 + at.index(frame.len() - 1);
            prop_assert_eq!(decode(&frame[..cut]), Err(Malformed::Truncated.into()));
        }
    }

    fn message(length: usize) -> Record {
        let payload = vec![0; length].into();
        Record::Payload { kind: Kind::Message, addr: Addr::NOBODY, mancon: None, deadline_ms: 0, payload }
    }

    #[test]
    fn the_longest_message_fits_and_one_byte_more_does_not() {
        for length in [0, MESSAGE_MAX] {
            assert_eq!(decode(&encode(&[message(length)])), Ok(vec![message(length)]));
        }
        let long = encode(&[message(MESSAGE_MAX + 1)]);
        assert_eq!(decode(&long), Err(FrameError::MessageTooLong(MESSAGE_MAX + 1)));
        assert_eq!(decode(&vec![0; FRAME_MAX + 1]), Err(FrameError::TooLong(FRAME_MAX + 1)));
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let addr = Addr::from_bytes([0xab; 32]);
        let record = Record::Payload {
            kind: Kind::Message,
            addr,
            mancon: Some(ManCon::Low),
            deadline_ms: 7,
            payload: "hi".into(),
        };
        let text = format!("00000028{}{}{}", "000500000007", "ab".repeat(32), "6869");
        assert_eq!(hex::encode(encode(&[record])), text);
        let credit = Record::Credit { cost: 258 };
        assert_eq!(
            hex::encode(encode(&[credit])),
            format!("0000002a04ff00000000{}00000102", "00".repeat(32))
        );
    }

    #[test]
    fn every_code_has_its_number_and_long_texts_are_cut() {
        for code in Code::ALL {
            let error = ApiError::new(code, "é".repeat(DETAIL_MAX));
            let frame = encode(&[Record::Error { kind: Kind::Message, addr: Addr::NOBODY, error }]);
            let records = decode(&frame).expect("the text was cut");
            assert!(matches!(&records[..], [Record::Error { error, .. }]
                if error.code == code && error.detail.len() == DETAIL_MAX));
        }
    }

    #[test]
    fn reading_stops_at_the_first_fault() {
        let mut frame = encode(&[message(1)]);
        frame.put_slice(&[0, 0, 0, 38, 9]);
        frame.put_slice(&[0xff; 1]);
        frame.put_slice(&[0; 36]);
        let mut records = Records::new(frame.freeze());
        assert_eq!(records.next(), Some(Ok(message(1))));
        assert_eq!(records.next(), Some(Err(FrameError::Kind(9))));
        assert_eq!(records.next(), None);
    }
}
