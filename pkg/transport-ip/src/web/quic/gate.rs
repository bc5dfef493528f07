//! Which datagrams reach QUIC at all.
//!
//! A site without HTTP/3 says nothing on UDP, and that is what strangers get: no datagram that one of them can make is
//! looked at, so that there is no refusal, no list of versions and no reset to be had. A client shows that it knows the
//! server's address by the first connection id that it makes up, which is random to everybody else.
//!
//! ```text
//!  first id of a client   nonce 6 · time 6 · tag 8         tag  = H(transport/quic, S, nonce, time), 8 bytes
//!  our own ids            nonce 6 · tag 6                  time = Unix milliseconds ⊕ H(transport/quic-time, S, nonce)
//! ```

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use byway_identity::{Entropy, OsEntropy, labelled_hash};
use quinn::{ConnectionId, ConnectionIdGenerator};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::super::knock::Secret;

/// Decides about datagrams.
pub(crate) struct Gate {
    /// None: nobody is let in who was not asked.
    knocks: Option<Knocks>,
    own: Own,
}

/// Connection ids of this endpoint, which it knows by their look.
#[derive(Clone)]
pub(crate) struct Own(Zeroizing<[u8; 32]>);

struct Knocks {
    secret: Secret,
    /// Unix milliseconds. What is older could have been used before that.
    started: u64,
    seen: HashMap<[u8; NONCE], (SocketAddr, Instant)>,
    order: VecDeque<[u8; NONCE]>,
}

const NONCE: usize = 6;
const TIME: usize = 6;
const KNOCK: usize = NONCE + TIME + 8;
const OWN: usize = NONCE + 6;
/// How far the clocks of two ends may differ, in milliseconds.
const SKEW: u64 = 300_000;
/// How long a client may say its first words again, from the same place.
const AGAIN: Duration = Duration::from_secs(10);
/// Most first ids that are remembered. Only who knows the secret can make them, and could as well pass them on.
const SEEN_MAX: usize = 65_536;

impl Gate {
    /// Lets in who knows `secret`, if there is one, and what belongs to connections with ids of `own`.
    pub(crate) fn new(secret: Option<Secret>, own: Own, started: u64) -> Self {
        let knocks =
            secret.map(|secret| Knocks { secret, started, seen: HashMap::new(), order: VecDeque::new() });
        Self { knocks, own }
    }

    /// Whether QUIC may see `datagram`: by the destination of its first packet (RFC 9000, section 17).
    pub(crate) fn admits(&mut self, now: Instant, unix_ms: u64, from: SocketAddr, datagram: &[u8]) -> bool {
        match datagram {
            [first, rest @ ..] if first & 0x80 == 0 => rest.get(..OWN).is_some_and(|id| self.own.made(id)),
            [_, 0, 0, 0, 1, length, rest @ ..] => match rest.get(..usize::from(*length)) {
                Some(id) if id.len() == OWN => self.own.made(id),
                Some(id) => id.try_into().is_ok_and(|id: [u8; KNOCK]| {
                    self.knocks.as_mut().is_some_and(|knocks| knocks.admits(now, unix_ms, from, &id))
                }),
                None => false,
            },
            _ => false,
        }
    }
}

impl Own {
    /// With a key of its own.
    pub(crate) fn new() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        OsEntropy.fill(&mut *key);
        Self(key)
    }

    fn tag(&self, nonce: &[u8]) -> [u8; OWN - NONCE] {
        let hash = labelled_hash("transport/quic-id", &[&*self.0, nonce]);
        std::array::from_fn(|at| hash[at])
    }

    fn made(&self, id: &[u8]) -> bool {
        let Some((nonce, tag)) = id.split_at_checked(NONCE) else { return false };
        bool::from(self.tag(nonce).ct_eq(tag))
    }
}

impl ConnectionIdGenerator for Own {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut nonce = [0; NONCE];
        OsEntropy.fill(&mut nonce);
        ConnectionId::new(&[&nonce[..], &self.tag(&nonce)].concat())
    }

    fn cid_len(&self) -> usize {
        OWN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl Knocks {
    fn admits(&mut self, now: Instant, unix_ms: u64, from: SocketAddr, id: &[u8; KNOCK]) -> bool {
        let (Some((nonce, rest)), secret) = (id.split_first_chunk::<NONCE>(), &self.secret) else {
            return false;
        };
        let Some((time, tag)) = rest.split_first_chunk::<TIME>() else { return false };
        if !bool::from(tag_of(secret, nonce, time).ct_eq(tag)) {
            return false;
        }
        if let Some((first, came)) = self.seen.get(nonce) {
            return *first == from && now.saturating_duration_since(*came) <= AGAIN;
        }
        let time = masked(secret, nonce, *time).iter().fold(0, |time, byte| time << 8 | u64::from(*byte));
        if time < self.started || time.abs_diff(unix_ms) > SKEW {
            return false;
        }
        while let Some(oldest) = self.order.front()
            && let Some((_, came)) = self.seen.get(oldest)
            && (self.order.len() >= SEEN_MAX
                || now.saturating_duration_since(*came) > 2 * Duration::from_millis(SKEW))
        {
            self.seen.remove(oldest);
            self.order.pop_front();
        }
        self.seen.insert(*nonce, (from, now));
        self.order.push_back(*nonce);
        true
    }
}

/// A first connection id that shows at `unix_ms` that `secret` is known.
pub(crate) fn knock(secret: &Secret, unix_ms: u64, nonce: [u8; NONCE]) -> [u8; KNOCK] {
    let [_, _, time @ ..] = unix_ms.to_be_bytes();
    let time = masked(secret, &nonce, time);
    let mut id = [0; KNOCK];
    id[..NONCE].copy_from_slice(&nonce);
    id[NONCE..NONCE + TIME].copy_from_slice(&time);
    id[NONCE + TIME..].copy_from_slice(&tag_of(secret, &nonce, &time));
    id
}

fn tag_of(secret: &Secret, nonce: &[u8; NONCE], time: &[u8; TIME]) -> [u8; KNOCK - NONCE - TIME] {
    let hash = labelled_hash("transport/quic", &[secret.as_bytes(), nonce, time]);
    std::array::from_fn(|at| hash[at])
}

fn masked(secret: &Secret, nonce: &[u8; NONCE], time: [u8; TIME]) -> [u8; TIME] {
    let hash = labelled_hash("transport/quic-time", &[secret.as_bytes(), nonce]);
    std::array::from_fn(|at| time[at] ^ hash[at])
}

#[cfg(test)]
mod tests {
    use byway_identity::{Addr, SeededEntropy};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn secret(last: u8) -> Secret {
        Secret::new(&Addr::from_bytes([last; 32]), None)
    }

    fn gate() -> Gate {
        Gate::new(Some(secret(1)), Own::new(), NOW - 1_000_000)
    }

    fn from(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// An Initial packet of version 1 to `id`.
    fn initial(id: &[u8]) -> Vec<u8> {
        [&[0xc0, 0, 0, 0, 1, id.len() as u8][..], id, &[0; 1_100]].concat()
    }

    #[test]
    fn first_ids_are_those_of_the_vectors() {
        let text = include_str!("../../../../../spec/vectors/knock.json");
        let vectors: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
        let vectors = vectors["vectors"].as_array().expect("a list").iter();
        let vectors: Vec<_> = vectors.filter(|vector| vector["kind"] == "quic").collect();
        assert_eq!(vectors.len(), 2);
        for vector in vectors {
            let bytes = |name: &str| hex::decode(vector[name].as_str().expect(name)).expect(name);
            let server = Addr::from_bytes(bytes("server").try_into().expect("32 bytes"));
            let time = vector["unix_ms"].as_u64().expect("a number");
            let id = knock(&Secret::new(&server, None), time, bytes("nonce").try_into().expect("6 bytes"));
            assert_eq!(hex::encode(id), vector["id"].as_str().expect("hex"));
            let mut gate = Gate::new(Some(Secret::new(&server, None)), Own::new(), 0);
            assert!(gate.admits(Instant::now(), time, from(1), &initial(&id)));
        }
    }

    #[test]
    fn who_knows_the_address_is_let_in_once_and_may_repeat_itself() {
        let (mut gate, now) = (gate(), Instant::now());
        let datagram = initial(&knock(&secret(1), NOW, [7; 6]));
        assert!(gate.admits(now, NOW, from(1), &datagram));
        assert!(gate.admits(now + Duration::from_secs(5), NOW + 5_000, from(1), &datagram));
        assert!(!gate.admits(now, NOW, from(2), &datagram), "from elsewhere it is a replay");
        assert!(
            !gate.admits(now + Duration::from_secs(11), NOW + 11_000, from(1), &datagram),
            "and so it is later"
        );
    }

    #[test]
    fn other_addresses_times_versions_and_noise_are_not_let_in() {
        let now = Instant::now();
        for (secret, time) in [(secret(2), NOW), (secret(1), NOW - 300_001), (secret(1), NOW + 300_001)] {
            assert!(!gate().admits(now, NOW, from(1), &initial(&knock(&secret, time, [7; 6]))));
        }
        let mut late = Gate::new(Some(secret(1)), Own::new(), NOW);
        assert!(!late.admits(now, NOW, from(1), &initial(&knock(&secret(1), NOW - 1, [7; 6]))));
        let good = initial(&knock(&secret(1), NOW, [7; 6]));
        for at in (0..26).filter(|at| *at != 0) {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(!gate().admits(now, NOW, from(1), &changed), "byte {at}");
        }
        for cut in 0..26 {
            assert!(!gate().admits(now, NOW, from(1), &good[..cut]), "cut at {cut}");
        }
        let mut only_dials = Gate::new(None, Own::new(), 0);
        assert!(!only_dials.admits(now, NOW, from(1), &good));
        let (mut gate, mut entropy) = (gate(), SeededEntropy::new(1));
        for _ in 0..10_000 {
            let mut noise = vec![0; 1 + entropy.below(1_300) as usize];
            entropy.fill(&mut noise);
            assert!(!gate.admits(now, NOW, from(1), &noise), "{noise:02x?}");
        }
    }

    #[test]
    fn what_goes_to_our_own_ids_is_let_in_and_to_those_of_others_is_not() {
        let now = Instant::now();
        let (mut own, mut other) = (Own::new(), Own::new());
        let mut gate = Gate::new(None, own.clone(), 0);
        for _ in 0..100 {
            let (ours, theirs) = (own.generate_cid(), other.generate_cid());
            assert!(gate.admits(now, NOW, from(1), &initial(&ours)));
            assert!(gate.admits(now, NOW, from(1), &[&[0x40][..], &ours, &[0; 30]].concat()));
            assert!(!gate.admits(now, NOW, from(1), &initial(&theirs)));
            assert!(!gate.admits(now, NOW, from(1), &[&[0x40][..], &theirs, &[0; 30]].concat()));
        }
    }

    #[test]
    fn the_memory_of_knocks_is_bounded_and_given_back() {
        let (mut gate, now) = (gate(), Instant::now());
        let knocked = |number: u64| {
            let mut nonce = [0; 6];
            nonce.copy_from_slice(&number.to_be_bytes()[2..]);
            initial(&knock(&secret(1), NOW, nonce))
        };
        for number in 0..SEEN_MAX as u64 + 10 {
            assert!(gate.admits(now, NOW, from(1), &knocked(number)));
        }
        let seen = |gate: &Gate| gate.knocks.as_ref().map(|knocks| (knocks.seen.len(), knocks.order.len()));
        assert_eq!(seen(&gate), Some((SEEN_MAX, SEEN_MAX)));
        let (later, unix) = (now + Duration::from_secs(900), NOW + 900_000);
        assert!(gate.admits(later, unix, from(1), &initial(&knock(&secret(1), unix, [255; 6]))));
        assert_eq!(seen(&gate), Some((1, 1)));
    }
}
