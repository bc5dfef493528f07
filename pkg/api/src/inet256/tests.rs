//! The public vectors, to the byte, and what is refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn vectors(kind: &str) -> Vec<Value> {
    let text = include_str!("../../../../spec/vectors/inet256-public.json");
    let all: Value = serde_json::from_str(text).expect("the vectors are JSON");
    let vectors = all["vectors"].as_array().expect("they are a list");
    vectors.iter().filter(|vector| vector["kind"] == kind && vector["profile"] == "v0.0.8").cloned().collect()
}

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(vector[field].as_str().expect("the field is text")).expect("the field is hexadecimal")
}

fn read(bytes: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(bytes);
    let frame = decode(&mut buffer).expect("it is well formed").expect("it is whole");
    assert!(buffer.is_empty(), "nothing is left");
    frame
}

fn written(frame: &Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out.to_vec()
}

#[test]
fn the_vectors_are_read_and_written_to_the_byte() {
    let vectors = vectors("ipc_frame");
    assert_eq!(vectors.len(), 6, "no vector was left out");
    for vector in vectors {
        let name = vector["name"].as_str().expect("every vector has a name");
        let given = bytes(&vector, "frame_hex");
        let frame = read(&given);
        assert_eq!(written(&frame), given, "{name}");
        let id = |frame: &Frame| match frame {
            Frame::Find { id, .. } | Frame::PublicKey { id, .. } => id.to_vec(),
            _ => Vec::new(),
        };
        match (&frame, name) {
            (Frame::Keep, "keepalive") => {}
            (Frame::Data { addr, payload }, "data_empty") => {
                assert_eq!(addr.as_bytes().as_slice(), bytes(&vector, "id_hex"));
                assert_eq!(*payload, bytes(&vector, "payload_hex"));
            }
            (Frame::Find { body, .. }, "find_addr_request") => {
                assert_eq!(id(&frame), bytes(&vector, "request_id_hex"));
                let question: FindQuestion = serde_json::from_slice(body).expect("it is JSON");
                assert_eq!(question.prefix.0, bytes(&vector, "prefix_hex"));
                assert_eq!(vector["nbits"], question.nbits);
                same_json(&question, body);
            }
            (Frame::PublicKey { body, .. }, "lookup_key_request") => {
                let question: KeyQuestion = serde_json::from_slice(body).expect("it is JSON");
                assert_eq!(vector["id_base64"], question.target.to_string());
                same_json(&question, body);
            }
            (Frame::Find { body, .. }, "find_addr_error") => {
                let error = Some("no address with prefix".into());
                same_json(&FindReply { ok: Found { addr: Addr::NOBODY }, error }, body);
            }
            (Frame::PublicKey { body, .. }, "lookup_key_error") => {
                let error = Some("public key not found".into());
                same_json(&KeyReply { ok: Key::default(), error }, body);
            }
            (frame, name) => panic!("{name} was read as {frame:?}"),
        }
    }
}

/// `ours`, written as JSON, says what `theirs` says.
fn same_json(ours: &impl Serialize, theirs: &[u8]) {
    let theirs: Value = serde_json::from_slice(theirs).expect("it is JSON");
    assert_eq!(serde_json::to_value(ours).expect("it has a JSON form"), theirs);
}

#[test]
fn the_body_that_opens_a_node_holds_its_key() {
    let [vector] = &vectors("http_open_request")[..] else { panic!("there is one such vector") };
    let body = vector["body"].as_str().expect("the body is text");
    let open: OpenBody = serde_json::from_str(body).expect("it is JSON");
    let key = open.private_key.to_key().expect("it holds a key");
    assert_eq!(key.seed().as_slice(), bytes(vector, "seed_hex"));
    let request = vector["request_text"].as_str().expect("the request is text");
    assert!(request.starts_with(&format!("CONNECT /nodes/{} ", key.public().addr())));
    assert_eq!(
        serde_json::to_value(&open).expect("it has a JSON form"),
        serde_json::from_str::<Value>(body).unwrap()
    );
    let answer = KeyReply { ok: Key { public_key: Some(KeyText(key.public())) }, error: None };
    let text = serde_json::to_value(&answer).expect("it has a JSON form");
    assert!(text["ok"]["public_key"].is_string() && text == json!({"ok": text["ok"]}));
}

#[test]
fn what_breaks_the_form_is_refused_as_soon_as_it_shows() {
    let refused = |bytes: &[u8]| decode(&mut BytesMut::from(bytes)).expect_err("it is refused");
    assert_eq!(refused(&65_572u32.to_be_bytes()), FrameError::TooLong(65_572));
    assert_eq!(refused(b"\0\0\0\x03ABC"), FrameError::Malformed(Malformed::Truncated));
    assert_eq!(refused(b"\0\0\0\0"), FrameError::Malformed(Malformed::Truncated));
    assert_eq!(refused(b"\0\x01\0\0MTU_"), FrameError::Type(*b"MTU_"));
    assert_eq!(refused(b"\0\0\0\x05KEEP!"), FrameError::Malformed(Malformed::Trailing));
    assert_eq!(refused(b"\0\0\0\x05DATA!"), FrameError::Malformed(Malformed::Truncated));
    assert_eq!(refused(b"\0\0\0\x05FIND!"), FrameError::Malformed(Malformed::Truncated));
}

#[test]
fn the_longest_message_fits() {
    let frame = Frame::Data { addr: Addr::EVERYBODY, payload: vec![1; MESSAGE_MAX].into() };
    let bytes = written(&frame);
    assert_eq!(bytes.len(), 4 + FRAME_MAX);
    assert_eq!(read(&bytes), frame);
}

fn frame() -> impl Strategy<Value = Frame> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    prop_oneof![
        (any::<[u8; 32]>(), bytes.clone())
            .prop_map(|(addr, payload)| Frame::Data { addr: Addr::from_bytes(addr), payload }),
        Just(Frame::Keep),
        (any::<RequestId>(), bytes.clone()).prop_map(|(id, body)| Frame::Find { id, body }),
        (any::<RequestId>(), bytes).prop_map(|(id, body)| Frame::PublicKey { id, body }),
    ]
}

proptest! {
    #[test]
    fn frames_are_found_however_the_stream_is_cut(frames in prop::collection::vec(frame(), 0..8), chunk in 1usize..50) {
        let stream: Vec<u8> = frames.iter().flat_map(written).collect();
        let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(chunk) {
            buffer.put_slice(piece);
            while let Some(frame) = decode(&mut buffer)? {
                seen.push(frame);
            }
        }
        prop_assert_eq!(seen, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = decode(&mut buffer) {
            let whole = written(&frame);
            prop_assert_eq!(&bytes[bytes.len() - buffer.len() - whole.len()..bytes.len() - buffer.len()], &whole[..]);
        }
    }
}
