//! The proof that a client knows the server's address, in the form of a session cookie.
//!
//! A server that hides behind a web site shows what it is only to a client whose first request carries such a proof. On a TLS
//! connection that ends at the server the proof is bound to that connection (RFC 9266), so that it is worth nothing on any
//! other. Where a reverse proxy stands between, it is bound to the time, and counts once.
//!
//! ```text
//!  cookie = base64url(nonce 16 · time 8 · tag 16)
//!  tag    = H(transport/knock, S, channel 33, nonce, time), 16 bytes     S = server's address 32 · token 32
//!  time   = Unix milliseconds, xored with H(transport/knock-time, S, nonce): every byte of a cookie looks random
//! ```

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use byway_identity::{Addr, labelled_hash};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What client and server know of each other: the server's address, and the token of an endpoint.
pub(crate) struct Secret(Zeroizing<[u8; 64]>);

/// What a proof is bound to besides the time.
#[derive(Clone, Copy)]
pub(crate) enum Channel {
    /// The TLS connection with this exported key: `EXPORTER-Channel-Binding`.
    Tls([u8; 32]),
    /// None that both ends see, so that the clock must do.
    Any,
}

/// Which proofs count at one listener.
pub(crate) struct Book {
    secret: Secret,
    /// Unix milliseconds. What is older could have been used before that.
    started: u64,
    seen: HashSet<[u8; NONCE]>,
    /// The same, oldest first, with the time of arrival.
    order: VecDeque<(Instant, [u8; NONCE])>,
}

const NONCE: usize = 16;
const LENGTH: usize = NONCE + 8 + 16;
/// Characters of a proof.
pub(crate) const TEXT: usize = (LENGTH * 8).div_ceil(6);
/// How far the clocks of two ends may differ.
const SKEW: Duration = Duration::from_secs(300);
/// Most proofs that are remembered. Only who knows the secret can make them, and could as well pass them on.
const SEEN_MAX: usize = 65_536;

impl Secret {
    pub(crate) fn new(server: &Addr, token: Option<[u8; 32]>) -> Self {
        let mut bytes = Zeroizing::new([0; 64]);
        bytes[..32].copy_from_slice(server.as_bytes());
        bytes[32..].copy_from_slice(&token.unwrap_or_default());
        Self(bytes)
    }

    /// For proofs of another form.
    #[cfg(feature = "quic")]
    pub(crate) fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// A proof made at `unix_ms`; no `nonce` may be used twice.
    pub(crate) fn knock(&self, channel: Channel, unix_ms: u64, nonce: [u8; NONCE]) -> String {
        let time = xored(unix_ms.to_be_bytes(), self.pad(&nonce));
        let mut bytes = [0; LENGTH];
        bytes[..NONCE].copy_from_slice(&nonce);
        bytes[NONCE..NONCE + 8].copy_from_slice(&time);
        bytes[NONCE + 8..].copy_from_slice(&self.tag(channel, &nonce, &time));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Nonce and time of a proof for `channel`.
    fn open(&self, channel: Channel, text: &str) -> Option<([u8; NONCE], u64)> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE>()?;
        let (time, tag) = rest.split_first_chunk::<8>()?;
        let is_ours = bool::from(tag.ct_eq(&self.tag(channel, nonce, time)));
        is_ours.then(|| (*nonce, u64::from_be_bytes(xored(*time, self.pad(nonce)))))
    }

    fn pad(&self, nonce: &[u8; NONCE]) -> [u8; 8] {
        let hash = labelled_hash("transport/knock-time", &[&*self.0, nonce]);
        std::array::from_fn(|at| hash[at])
    }

    fn tag(&self, channel: Channel, nonce: &[u8; NONCE], time: &[u8; 8]) -> [u8; 16] {
        let channel: [&[u8]; 2] = match &channel {
            Channel::Tls(exported) => [&[1], exported],
            Channel::Any => [&[0], &[0; 32]],
        };
        let hash = labelled_hash("transport/knock", &[&*self.0, channel[0], channel[1], nonce, time]);
        std::array::from_fn(|at| hash[at])
    }
}

impl Book {
    /// Counts proofs that were made for `secret`, from `started` on in Unix milliseconds.
    pub(crate) fn new(secret: Secret, started: u64) -> Self {
        Self { secret, started, seen: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether `text` proves that its sender knows the secret, here and now and for the first time.
    pub(crate) fn admits(&mut self, now: Instant, unix_ms: u64, channel: Channel, text: &str) -> bool {
        let Some((nonce, time)) = self.secret.open(channel, text) else { return false };
        if let Channel::Tls(_) = channel {
            // Neither side can make the other's part of the exported key come again.
            return true;
        }
        let skew = u64::try_from(SKEW.as_millis()).unwrap_or(u64::MAX);
        if time < self.started || time.abs_diff(unix_ms) > skew {
            return false;
        }
        while let Some((came, nonce)) = self.order.front()
            && (self.order.len() >= SEEN_MAX || now.saturating_duration_since(*came) > 2 * SKEW)
        {
            self.seen.remove(nonce);
            self.order.pop_front();
        }
        let is_new = self.seen.insert(nonce);
        if is_new {
            self.order.push_back((now, nonce));
        }
        is_new
    }
}

fn xored(a: [u8; 8], b: [u8; 8]) -> [u8; 8] {
    std::array::from_fn(|at| a[at] ^ b[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn secret(last: u8) -> Secret {
        Secret::new(&Addr::from_bytes([last; 32]), None)
    }

    fn book() -> Book {
        Book::new(secret(1), NOW - 1_000_000)
    }

    #[test]
    fn proofs_are_those_of_the_vectors() {
        let text = include_str!("../../../../spec/vectors/knock.json");
        let vectors: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
        let vectors = vectors["vectors"].as_array().expect("a list").iter();
        let vectors: Vec<_> = vectors.filter(|vector| vector["kind"] == "knock").collect();
        assert_eq!(vectors.len(), 3);
        for vector in vectors {
            let bytes = |name: &str| hex::decode(vector[name].as_str().expect(name)).expect(name);
            let long = |name: &str| -> [u8; 32] { bytes(name).try_into().expect(name) };
            let channel =
                if vector["exported"].is_null() { Channel::Any } else { Channel::Tls(long("exported")) };
            let secret = Secret::new(&Addr::from_bytes(long("server")), Some(long("token")));
            let time = vector["unix_ms"].as_u64().expect("a number");
            let cookie = secret.knock(channel, time, bytes("nonce").try_into().expect("16 bytes"));
            assert_eq!(Some(cookie.as_str()), vector["cookie"].as_str());
            assert!(Book::new(secret, 0).admits(Instant::now(), time, channel, &cookie));
        }
    }

    #[test]
    fn a_proof_counts_once() {
        let (mut book, now) = (book(), Instant::now());
        let text = secret(1).knock(Channel::Any, NOW, [7; 16]);
        assert_eq!(text.len(), TEXT);
        assert!(book.admits(now, NOW, Channel::Any, &text));
        for later in [0, 1, 599] {
            let (now, unix) = (now + Duration::from_secs(later), NOW + later * 1_000);
            assert!(!book.admits(now, unix, Channel::Any, &text), "again after {later} s");
        }
    }

    #[test]
    fn a_proof_of_another_time_address_token_or_channel_does_not_count() {
        let now = Instant::now();
        let minute = 60_000;
        for (secret, channel, at) in [
            (secret(2), Channel::Any, NOW),
            (Secret::new(&Addr::from_bytes([1; 32]), Some([1; 32])), Channel::Any, NOW),
            (secret(1), Channel::Tls([0; 32]), NOW),
            (secret(1), Channel::Any, NOW - 6 * minute),
            (secret(1), Channel::Any, NOW + 6 * minute),
        ] {
            assert!(!book().admits(now, NOW, Channel::Any, &secret.knock(channel, at, [7; 16])));
        }
        let bound = secret(1).knock(Channel::Tls([3; 32]), 0, [7; 16]);
        assert!(book().admits(now, NOW, Channel::Tls([3; 32]), &bound), "the clock does not matter");
        assert!(!book().admits(now, NOW, Channel::Tls([4; 32]), &bound));
        let near = secret(1).knock(Channel::Any, NOW - 4 * minute, [7; 16]);
        assert!(book().admits(now, NOW, Channel::Any, &near));
    }

    #[test]
    fn what_could_have_been_used_before_the_start_does_not_count() {
        let mut book = Book::new(secret(1), NOW);
        let text = secret(1).knock(Channel::Any, NOW - 1, [7; 16]);
        assert!(!book.admits(Instant::now(), NOW + 5, Channel::Any, &text));
        let text = secret(1).knock(Channel::Any, NOW, [7; 16]);
        assert!(book.admits(Instant::now(), NOW + 5, Channel::Any, &text));
    }

    #[test]
    fn no_other_text_counts() {
        let now = Instant::now();
        let text = secret(1).knock(Channel::Any, NOW, [7; 16]);
        for at in 0..text.len() {
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(!book().admits(now, NOW, Channel::Any, &changed), "character {at}");
            assert!(!book().admits(now, NOW, Channel::Any, &text[..at]), "cut at {at}");
        }
        assert!(!book().admits(now, NOW, Channel::Any, &format!("{text}A")));
        assert!(book().admits(now, NOW, Channel::Any, &text));
    }

    #[test]
    fn the_memory_of_proofs_is_bounded_and_given_back() {
        let (mut book, now) = (book(), Instant::now());
        for number in 0..SEEN_MAX as u128 + 10 {
            let text = secret(1).knock(Channel::Any, NOW, number.to_be_bytes());
            assert!(book.admits(now, NOW, Channel::Any, &text));
        }
        assert_eq!((book.seen.len(), book.order.len()), (SEEN_MAX, SEEN_MAX));
        let (later, unix) = (now + 3 * SKEW, NOW + 900_000);
        let text = secret(1).knock(Channel::Any, unix, [9; 16]);
        assert!(book.admits(later, unix, Channel::Any, &text));
        assert_eq!((book.seen.len(), book.order.len()), (1, 1));
    }

    #[test]
    fn every_byte_of_a_proof_changes_with_its_nonce() {
        let texts: Vec<Vec<u8>> = (0..64u8)
            .map(|nonce| {
                let text = secret(1).knock(Channel::Any, NOW, [nonce; 16]);
                URL_SAFE_NO_PAD.decode(text).expect("what it is written in")
            })
            .collect();
        for at in 0..LENGTH {
            assert!(texts.iter().any(|text| text[at] != texts[0][at]), "byte {at} is constant");
        }
    }
}
