//! Targets for sessions: strangers' datagrams, and an established pair on a hostile wire.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_identity::{Addr, SeededEntropy, SigningKey};
use byway_session::{Ciphers, Config, Connect, Endpoint, Event, FrameKind, Place, SessionId, Use};

use crate::input::Input;

/// Wall clock of all worlds here, Unix seconds.
pub(crate) const UNIX: u64 = 1_700_000_000;
/// Most steps of one run.
const STEPS: usize = 96;
/// Most datagrams under way; the wire loses more.
const FLIGHT: usize = 64;

/// A place of the fuzzer's world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spot {
    /// Which one.
    pub number: u8,
    /// For links, whose handshakes are masked; else for end-to-end sessions.
    pub link: bool,
}

impl Place for Spot {
    fn rate_key(&self) -> Option<u64> {
        self.link.then_some(self.number.into())
    }

    fn mtu(&self) -> usize {
        1_200
    }

    fn plane(&self) -> u8 {
        if self.link { 0 } else { self.number & 1 }
    }

    fn masked(&self) -> bool {
        self.link
    }
}

/// The key of the end with this number.
pub(crate) fn key(end: usize) -> SigningKey {
    SigningKey::from_seed(&[end as u8 + 1; 32])
}

fn addr(end: usize) -> Addr {
    key(end).public().addr()
}

fn endpoint(now: Instant, usage: Use, end: usize, seed: u64) -> Endpoint<Spot> {
    let config = Config {
        usage,
        key: key(end),
        group_key: None,
        boot: 1,
        unix: UNIX,
        ratchet: Duration::from_secs(5),
        ciphers: Ciphers { aes: end == 0, aegis: false },
    };
    Endpoint::new(now, config, Box::new(SeededEntropy::new(seed)))
}

/// Datagrams from nobody to a link endpoint: no session comes of them, and few bytes.
pub fn session_link_strangers(data: &[u8]) {
    strangers(Use::Link, data);
}

/// The same for end-to-end sessions, whose handshakes are not masked.
pub fn session_end_strangers(data: &[u8]) {
    strangers(Use::EndToEnd, data);
}

fn strangers(usage: Use, data: &[u8]) {
    let mut now = Instant::now();
    let mut input = Input::new(data);
    // Other randomness than in the recorded handshakes, which else would end in a session.
    let mut endpoint = endpoint(now, usage, 0, 100);
    let (mut received, mut sent) = (0, 0);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let place = Spot { number: input.u8(), link: usage == Use::Link };
        now += Duration::from_millis(u64::from(input.u8()) * 16);
        let bytes = input.bytes();
        received += bytes.len();
        let mut out = Vec::new();
        endpoint.handle(now, place, bytes.into(), &mut out);
        beat(&mut endpoint, now, &mut out);
        for event in out {
            match event {
                Event::Transmit { bytes, .. } => sent += bytes.len(),
                // A recorded m1 may carry an early payload, which is authentic.
                Event::Early { .. } => {}
                other => panic!("a stranger caused {other:?}"),
            }
        }
    }
    assert!(sent <= 3 * received, "{received} bytes brought forth {sent}");
}

/// An answer to the question for a key record: only the record that its owner signed leads to a handshake.
pub fn session_record(data: &[u8]) {
    let (mut asking, ask) = asking();
    let told = [&KEY_TELL.to_le_bytes()[..], &ask[4..12], data].concat();
    let mut out = Vec::new();
    asking.0.handle(asking.1, PLACE, BytesMut::from(&told[..]), &mut out);
    let goes_on = out.iter().any(|event| matches!(event, Event::Transmit { .. }));
    assert_eq!(goes_on, data == record(), "only the record that was signed is taken");
    assert!(out.iter().all(|event| matches!(event, Event::Transmit { .. })));
}

const KEY_TELL: u32 = 2;
const PLACE: Spot = Spot { number: 0, link: false };

/// Somebody who wants a session with end 0, and what they ask first.
fn asking() -> ((Endpoint<Spot>, Instant), Bytes) {
    let now = Instant::now();
    let mut asking = endpoint(now, Use::EndToEnd, 1, 1);
    let mut out = Vec::new();
    asking.connect(now, Connect { remote: addr(0), place: PLACE, token: None, digest: None }, &mut out);
    let ask = out.into_iter().find_map(|event| match event {
        Event::Transmit { bytes, .. } => Some(bytes),
        _ => None,
    });
    ((asking, now), ask.expect("a handshake starts with a question for the record"))
}

/// The record of end 0, as it answers.
pub(crate) fn record() -> &'static [u8] {
    static RECORD: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    RECORD.get_or_init(|| {
        let ((_, now), ask) = asking();
        let mut out = Vec::new();
        endpoint(now, Use::EndToEnd, 0, 0).handle(now, PLACE, BytesMut::from(&ask[..]), &mut out);
        // It comes in parts, each with ten bytes in front.
        let parts = out.iter().filter_map(|event| match event {
            Event::Transmit { bytes, .. } => Some(&bytes[10..]),
            _ => None,
        });
        let answer: Vec<u8> = parts.flatten().copied().collect();
        assert_eq!(answer[..12], [&KEY_TELL.to_le_bytes()[..], &ask[4..12]].concat());
        answer[12..].to_vec()
    })
}

/// A pair of link endpoints, and a wire that loses, repeats, reorders, reflects and changes.
pub fn session_link_pair(data: &[u8]) {
    Pair::new(Use::Link).run(&mut Input::new(data));
}

/// The same end to end, with early payloads and two planes.
pub fn session_end_pair(data: &[u8]) {
    Pair::new(Use::EndToEnd).run(&mut Input::new(data));
}

/// A pair of link endpoints, of which the second sends frames of any kind.
pub fn session_link_hostile(data: &[u8]) {
    let mut pair = Pair::new(Use::Link);
    pair.hostile = true;
    pair.run(&mut Input::new(data));
}

/// The same end to end.
pub fn session_end_hostile(data: &[u8]) {
    let mut pair = Pair::new(Use::EndToEnd);
    pair.hostile = true;
    pair.run(&mut Input::new(data));
}

/// One datagram under way.
#[derive(Clone)]
struct Datagram {
    to: usize,
    from: Spot,
    bytes: Bytes,
}

struct Pair {
    now: Instant,
    link: bool,
    /// Whether the second end sends what it likes, so that anything may come in at the first.
    hostile: bool,
    ends: [Endpoint<Spot>; 2],
    flight: Vec<Datagram>,
    sessions: [Vec<SessionId>; 2],
    /// By plane, the session that a user who goes by `Up` and `Down` alone believes to have.
    believed: [[Option<SessionId>; 2]; 2],
    /// Payloads that were sent to each end, less those that arrived.
    under_way: [HashMap<Bytes, usize>; 2],
}

impl Pair {
    /// A pair with a session.
    fn new(usage: Use) -> Self {
        let now = Instant::now();
        let mut pair = Self {
            now,
            link: usage == Use::Link,
            hostile: false,
            ends: [endpoint(now, usage, 0, 0), endpoint(now, usage, 1, 1)],
            flight: Vec::new(),
            sessions: [Vec::new(), Vec::new()],
            believed: [[None; 2]; 2],
            under_way: [HashMap::new(), HashMap::new()],
        };
        pair.connect(0, 0, None);
        for _ in 0..64 {
            if pair.sessions.iter().all(|sessions| !sessions.is_empty()) {
                break;
            }
            if pair.flight.is_empty() {
                pair.pass(Duration::from_millis(250));
            } else {
                pair.deliver(0);
            }
            // End to end, only a payload confirms the session to the one who answered.
            if let ([first, ..], true) = (&pair.sessions[0][..], pair.sessions[1].is_empty()) {
                let first = *first;
                pair.send(0, first, FrameKind::Control, b"first");
            }
        }
        assert!(
            pair.sessions.iter().all(|sessions| !sessions.is_empty()),
            "no session came up on a good wire"
        );
        pair
    }

    fn run(&mut self, input: &mut Input<'_>) {
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            self.step(input);
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let choice = input.u8();
        let end = usize::from(choice >> 7);
        match choice & 15 {
            0 | 1 | 11 if self.hostile && choice & 32 == 0 => {
                let Some(session) = self.session(1, input) else { return };
                let (kind, flags) = (input.u8() % 12, input.u8());
                let mut out = Vec::new();
                self.ends[1].send_any_frame(self.now, session, (kind, flags), input.bytes(), &mut out);
                self.take(1, out);
            }
            0 | 1 => {
                let kind = [FrameKind::Packet, FrameKind::Message, FrameKind::Control][input.below(3)];
                let Some(session) = self.session(end, input) else { return };
                let payload = input.bytes();
                self.send(end, session, kind, payload);
            }
            2 => {
                // Long ones, in fragments.
                let Some(session) = self.session(end, input) else { return };
                let payload = vec![input.u8(); usize::from(input.u16())];
                self.send(end, session, FrameKind::Message, &payload);
            }
            3 | 4 => self.deliver(0),
            5 => {
                let at = input.below(self.flight.len());
                self.deliver(at);
            }
            6 => {
                for _ in 0..8 {
                    self.deliver(0);
                }
            }
            7 if !self.flight.is_empty() => {
                self.flight.remove(input.below(self.flight.len()));
            }
            8 if !self.flight.is_empty() => {
                let again = self.flight[input.below(self.flight.len())].clone();
                self.put(again);
            }
            9 if !self.flight.is_empty() => {
                let at = input.below(self.flight.len());
                let changed = &mut self.flight[at];
                let mut bytes = BytesMut::from(&changed.bytes[..]);
                if !bytes.is_empty() {
                    let place = input.below(bytes.len());
                    bytes[place] ^= 1 << (input.u8() % 8);
                }
                let length = bytes.len() - input.below(4).min(bytes.len());
                bytes.truncate(length);
                changed.bytes = bytes.freeze();
            }
            10 if !self.flight.is_empty() => {
                let at = input.below(self.flight.len());
                let from = self.spot(input.u8());
                self.flight[at].from = from;
                if choice & 16 != 0 {
                    self.flight[at].to ^= 1;
                }
            }
            11 => {
                let from = self.spot(input.u8());
                let bytes = Bytes::copy_from_slice(input.bytes());
                self.put(Datagram { to: end, from, bytes });
            }
            12 => {
                let early = (!self.link && choice & 16 != 0).then(|| Bytes::copy_from_slice(input.bytes()));
                let number = input.u8();
                self.connect(end, number, early);
            }
            13 => {
                let Some(session) = self.session(end, input) else { return };
                let mut out = Vec::new();
                if choice & 16 == 0 {
                    self.ends[end].close(self.now, session, &mut out);
                } else {
                    self.ends[end].cancel(&addr(1 - end));
                }
                self.take(end, out);
            }
            14 => self.pass(Duration::from_millis(u64::from(input.u16()) * 16)),
            _ => self.pass(Duration::from_millis(u64::from(input.u8()))),
        }
    }

    fn spot(&self, number: u8) -> Spot {
        Spot { number, link: self.link }
    }

    fn session(&self, end: usize, input: &mut Input<'_>) -> Option<SessionId> {
        let sessions = &self.sessions[end];
        sessions.get(sessions.len().checked_sub(1 + input.below(sessions.len()))?).copied()
    }

    fn connect(&mut self, end: usize, number: u8, early: Option<Bytes>) {
        let connect = Connect { remote: addr(1 - end), place: self.spot(number), token: None, digest: None };
        let mut out = Vec::new();
        match early {
            Some(early) => {
                *self.under_way[1 - end].entry(early.clone()).or_default() += 1;
                self.ends[end].connect_early(self.now, connect, early, &mut out);
            }
            None => self.ends[end].connect(self.now, connect, &mut out),
        }
        self.take(end, out);
    }

    fn send(&mut self, end: usize, session: SessionId, kind: FrameKind, payload: &[u8]) {
        let mut out = Vec::new();
        if self.ends[end].send(self.now, session, kind, payload, &mut out).is_ok() {
            *self.under_way[1 - end].entry(Bytes::copy_from_slice(payload)).or_default() += 1;
        }
        self.take(end, out);
    }

    fn put(&mut self, datagram: Datagram) {
        if self.flight.len() < FLIGHT {
            self.flight.push(datagram);
        }
    }

    fn deliver(&mut self, at: usize) {
        if at >= self.flight.len() {
            return;
        }
        let Datagram { to, from, bytes } = self.flight.remove(at);
        let mut out = Vec::new();
        self.ends[to].handle(self.now, from, BytesMut::from(&bytes[..]), &mut out);
        self.take(to, out);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for end in [0, 1] {
            let mut out = Vec::new();
            beat(&mut self.ends[end], self.now, &mut out);
            self.take(end, out);
        }
    }

    /// What comes in was sent by the other end, and comes in once.
    fn take(&mut self, end: usize, out: Vec<Event<Spot>>) {
        for event in out {
            match event {
                Event::Transmit { place, bytes } => self.put(Datagram { to: 1 - end, from: place, bytes }),
                Event::Up { session, remote, place, .. } => {
                    assert_eq!(remote, addr(1 - end), "a session with nobody we know");
                    self.sessions[end].push(session);
                    self.believed[end][usize::from(place.plane())] = Some(session);
                }
                Event::Received { remote, payload, .. } | Event::Early { remote, payload, .. } => {
                    assert_eq!(remote, addr(1 - end));
                    if self.hostile {
                        continue;
                    }
                    let left = self.under_way[end].get_mut(&payload).filter(|left| **left > 0);
                    *left.expect("a payload that was never sent, or came in twice") -= 1;
                }
                Event::Down { session, plane, .. } => {
                    let believed = self.believed[end][usize::from(plane)].take();
                    assert_eq!(believed, Some(session), "the end of another session than the one told of");
                }
                Event::Moved { .. } | Event::Failed { .. } => {}
            }
        }
        for session in self.believed[end].iter().flatten() {
            assert!(self.ends[end].place(*session).is_some(), "a session is gone, and nobody was told");
        }
    }
}

/// Does what is due, and sees to it that this ends: whatever is due is done or put off.
fn beat(endpoint: &mut Endpoint<Spot>, now: Instant, out: &mut Vec<Event<Spot>>) {
    for _ in 0..64 {
        if endpoint.next_heartbeat().is_none_or(|due| due > now) {
            return;
        }
        endpoint.heartbeat(now, out);
    }
    panic!("what is due stays due");
}

/// Datagrams of a real handshake with the endpoint that strangers meet, as inputs of the strangers' target.
pub(crate) fn recorded(link: bool) -> Vec<Vec<u8>> {
    let usage = if link { Use::Link } else { Use::EndToEnd };
    let now = Instant::now();
    let (mut answering, mut asking) = (endpoint(now, usage, 0, 0), endpoint(now, usage, 1, 1));
    let place = Spot { number: 1, link };
    let connect = Connect { remote: addr(0), place, token: None, digest: None };
    let mut told = Vec::new();
    asking.connect_early(now, connect, Bytes::from_static(b"early"), &mut told);
    let (mut seeds, mut play) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let mut answers = Vec::new();
        for event in told.drain(..) {
            if let Event::Transmit { bytes, .. } = event {
                let step = [&[1, 0][..], &(bytes.len() as u16).to_be_bytes(), &bytes].concat();
                play.extend_from_slice(&step);
                seeds.push(step);
                answering.handle(now, place, BytesMut::from(&bytes[..]), &mut answers);
            }
        }
        for event in answers {
            if let Event::Transmit { bytes, .. } = event {
                asking.handle(now, place, BytesMut::from(&bytes[..]), &mut told);
            }
        }
    }
    seeds.push(play);
    seeds
}
