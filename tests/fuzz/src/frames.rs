//! Targets for what programs send over the local API.

use bytes::{Bytes, BytesMut};
use byway_api::{body, exchange, frame, inet256};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// INET256's stream of frames, read in two pieces as a socket may give it: the same frames, and written the same.
pub fn inet256_frames(data: &[u8]) {
    let (cut, data) = data.split_first().map_or((0, data), |(cut, data)| (usize::from(*cut), data));
    let whole = read_inet256(&[data]);
    let (front, back) = data.split_at(cut.min(data.len()));
    assert_eq!(read_inet256(&[front, back]), whole, "what comes in pieces is read differently");
    let (frames, _) = whole;
    let mut written = BytesMut::new();
    for frame in &frames {
        frame.encode(&mut written);
    }
    assert!(data.starts_with(&written), "a frame is written differently than it was read");
}

/// Whole frames, and whether the stream ended in an error.
fn read_inet256(pieces: &[&[u8]]) -> (Vec<inet256::Frame>, bool) {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match inet256::decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// Batches of records on the WebSocket: whatever is read has one spelling.
pub fn batch_frames(data: &[u8]) {
    if let Ok(records) = frame::decode(data) {
        let mut written = BytesMut::new();
        for record in &records {
            record.encode(&mut written);
        }
        assert_eq!(written, data);
    }
    let lazily: Vec<_> = frame::Records::new(Bytes::copy_from_slice(data)).collect();
    assert!(lazily.iter().rev().skip(1).all(Result::is_ok), "reading went on after an error");
}

/// JSON bodies: what is read is written, and read again as the same.
pub fn api_bodies(data: &[u8]) {
    json::<body::PeerSpec>(data);
    json::<body::Status>(data);
    json::<exchange::OpenNodeRequest>(data);
    json::<exchange::SendMessage>(data);
    json::<exchange::SendAnswer>(data);
    json::<exchange::FindAnswer>(data);
    json::<exchange::KeyAnswer>(data);
    json::<inet256::OpenBody>(data);
    json::<inet256::FindQuestion>(data);
    json::<inet256::FindReply>(data);
    json::<inet256::KeyQuestion>(data);
    json::<inet256::KeyReply>(data);
}

fn json<T: DeserializeOwned + Serialize + PartialEq>(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(data) {
        let text = serde_json::to_vec(&value).expect("what was JSON is JSON");
        let again = serde_json::from_slice::<T>(&text);
        assert!(again.is_ok_and(|again| again == value), "{}", std::any::type_name::<T>());
    }
}
