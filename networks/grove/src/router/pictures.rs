//! Pictures and headers, held to the router that they are of.

use byway_identity::SeededEntropy;
use byway_network::{Action, Picture, Step as Decided};
use proptest::prelude::*;

use super::*;
use crate::cert::tests::{key, network};
use crate::coords::Place;
use crate::frame::{Seen, Sight, Told};
use crate::packet::{DATA, Led, ROUTED, Steered};
use crate::sketch::Sketch;

/// Families of these tests, and planes with links of theirs.
const FAMILIES: [Family; 3] = [Family::Loopback, Family::Ip, Family::Tor];

fn addr(number: u8) -> Addr {
    static ADDRS: std::sync::LazyLock<Vec<Addr>> =
        std::sync::LazyLock::new(|| (0..12).map(|number| key(number).public().addr()).collect());
    ADDRS[usize::from(number)]
}

fn hop(number: u8, family: Family) -> Hop {
    Hop { peer: addr(number), family }
}

/// Node 0; a leaf or not.
fn router(now: Instant, leaf: bool) -> Router {
    let entropy = Box::new(SeededEntropy::new(1));
    let setup = Setup { key: key(0), network: network(), digest: [0; 32], boot: 1, leaf, entropy };
    Router::new(now, setup, Config::default())
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(&FAMILIES[..])
}

fn plane() -> impl Strategy<Value = Plane> {
    prop_oneof![3 => Just(Plane::Any), 1 => prop::sample::select(&Plane::ALL[..])]
}

/// Places among few, so that many have a part of their way in common, under two roots.
fn coords(plane: Plane) -> impl Strategy<Value = Coords> {
    let steps = prop::collection::vec((1u16..4, prop::sample::select(&[10u16, 60, 110][..])), 0..5);
    let place = (0u8..3, prop::bool::weighted(0.1), steps).prop_map(move |(index, other, steps)| Place {
        tree: TreeId::new(plane, index),
        root: [if other { 2 } else { 1 }; 4],
        steps: steps.into_iter().map(|(label, cost)| Step { label, cost }).collect(),
    });
    prop::collection::vec(place, 0..4).prop_map(Coords::new)
}

type Link = (u8, Family, u8, bool, u16, Coords, Vec<(u8, Family, u16, Coords)>, u8);

/// Neighbours as they could be after anything: roles, silence, costs, places, views and blame.
fn link(plane: Plane) -> impl Strategy<Value = Link> {
    let seen = (1u8..12, family(), 1u16..200, coords(plane));
    let view = prop::collection::vec(seen, 0..4);
    (1u8..8, family(), 0u8..8, prop::bool::weighted(0.1), 1u16..300, coords(plane), view, 0u8..3)
}

fn put(router: &mut Router, now: Instant, link: &Link) {
    let (number, family, role, silent, cost, coords, view, blames) = link;
    let hop = hop(*number, *family);
    let class = Class::new(*family, 0);
    router.peer_up(now, hop, class, Cost::decode(*cost), &mut Outbox::default());
    let Some(peer) = router.peers.get_mut(&hop) else { return };
    peer.role = [Role::Unknown, Role::Leaf].get(usize::from(*role)).copied().unwrap_or(Role::Full);
    peer.silent = *silent;
    peer.coords = coords.clone();
    let sights = view.iter().map(|(number, family, cost, coords)| Seen {
        id: short_id(&addr(*number)),
        class: Class::new(*family, 0),
        cost: *cost,
        coords: coords.clone(),
    });
    peer.view = Arc::new(sights.collect());
    for _ in 0..*blames {
        peer.blame.swallowed(now);
    }
    router.moved = true;
}

/// A frame that is often right: its sender, and what it looks like.
#[derive(Clone, Debug)]
enum Sent {
    Data { mask: u8, remaining: u32, coords: Coords },
    Routed { at: u8, way: Vec<u8>, to: u8 },
}

fn sent(plane: Plane) -> impl Strategy<Value = Sent> {
    let remaining = prop_oneof![2 => Just(u32::MAX), 3 => 0u32..2_000];
    let mask = prop_oneof![3 => Just(7u8), 1 => any::<u8>()];
    prop_oneof![
        (mask, remaining, coords(plane)).prop_map(|(mask, remaining, coords)| Sent::Data {
            mask,
            remaining,
            coords
        }),
        (0u8..90, prop::collection::vec(any::<u8>(), 0..90), 0u8..3)
            .prop_map(|(at, way, to)| { Sent::Routed { at: at.min(way.len() as u8), way, to } }),
    ]
}

type Frames = Vec<(u8, Family, Sent, u8, u8, prop::sample::Index, u8, u8)>;
/// What payloads to each target begin with, and what becomes of frames.
type Known = (Vec<Option<(Hop, Bytes)>>, Vec<(Decided, Vec<u8>)>);

fn frames(plane: Plane) -> impl Strategy<Value = Frames> {
    let ttl = prop_oneof![6 => 2u8..=128, 1 => Just(0), 1 => Just(1), 1 => Just(129)];
    let frame =
        (1u8..9, family(), sent(plane), ttl, 0u8..12, any::<prop::sample::Index>(), 0u8..10, any::<u8>());
    prop::collection::vec(frame, 1..40)
}

fn bytes_of(router: &Router, plane: Plane, sent: &Sent, ttl: u8, target: u8) -> Vec<u8> {
    let labels: Vec<u16> = router.labels.keys().copied().collect();
    match sent {
        Sent::Data { mask, remaining, coords } => {
            let to = short_id(&addr(target));
            let (mask, remaining, coords) = (*mask, *remaining, coords.clone());
            Steered { plane, ttl, mask, remaining, to, coords }.emit(DATA, b"payload").to_vec()
        }
        Sent::Routed { at, way, to } => {
            let label = |pick: &u8| labels.get(usize::from(*pick) % (labels.len() + 1)).copied();
            let labels = way.iter().map(|pick| label(pick).unwrap_or(9_999)).collect();
            let to = [router.own.id.front(), [0; 4], [7; 4]][usize::from(*to)];
            Led { plane, ttl, at: *at, labels }.emit(ROUTED, &[&to[..], b"payload"].concat()).to_vec()
        }
    }
}

/// How many bytes at the front of a frame say where it goes.
fn head_of(frame: &[u8]) -> usize {
    let led = || Led::skim(frame, Family::Loopback).map(|led| led.length).ok();
    let length = if frame[0] == DATA { Steered::head_length(frame) } else { led() };
    length.expect("it was passed on")
}

/// What the router itself does with the frame, in the words of a picture; and what goes on.
fn decided(router: &mut Router, now: Instant, from: Hop, frame: &[u8]) -> (Decided, Bytes) {
    let frame = Bytes::copy_from_slice(frame);
    let mut out = Outbox::default();
    let passes = frame.first().is_some_and(|kind| [DATA, ROUTED].contains(kind));
    let result = router.handle_below(now, from, frame.clone(), &mut out);
    // What the router had to tell its neighbours anyway is no answer to the frame.
    let answers = |kind: &u8| [DATA, ROUTED, packet::BROKEN].contains(kind);
    let is_answer = |action: &Action| match action {
        Action::Send { frame, .. } => frame.first().is_some_and(answers),
        _ => true,
    };
    let mut actions = out.drain().filter(is_answer);
    match (result, actions.next(), actions.next()) {
        (Ok(()), Some(Action::Send { hop, frame: onwards }), None) if passes => {
            (Decided::Forward { hop, head: head_of(&onwards) }, onwards)
        }
        (Ok(()), Some(Action::Deliver { plane, payload, .. }), None) if passes => {
            (Decided::Deliver { plane, at: frame.len() - payload.len() }, frame)
        }
        _ => (Decided::Core, frame),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_picture_carries_as_the_router_that_it_is_of(
        leaf in prop::bool::weighted(0.1),
        (plane, own, links, frames) in plane().prop_flat_map(|plane| {
            let links = prop::collection::vec(link(plane), 0..10);
            (Just(plane), coords(plane), links, frames(plane))
        }),
    ) {
        let now = Instant::now();
        let mut router = router(now, leaf);
        links.iter().for_each(|link| put(&mut router, now, link));
        router.coords = own;
        router.news = News::default();
        for (from, family, sent, ttl, target, at, what, byte) in frames {
            let from = hop(from, family);
            let mut frame = bytes_of(&router, plane, &sent, ttl, target);
            match what {
                0 => frame.truncate(at.index(frame.len())),
                1 => { let at = at.index(frame.len()); frame[at] = byte; }
                _ => {}
            }
            // What the router learns from a frame is on the next picture.
            let picture = router.picture();
            let silent = router.peers.get(&from).is_some_and(|peer| peer.silent);
            let (mut once, mut twice) = (frame.clone(), frame.clone());
            let step = picture.carry(from, &mut once);
            prop_assert_eq!(picture.carry(from, &mut twice), step, "what it remembers is what it decides");
            prop_assert_eq!(&once, &twice);
            let (expected, onwards) = decided(&mut router, now, from, &frame);
            let far = matches!(sent, Sent::Routed { at, .. } if Led::changes_to(at) > byway_network::FRONT_MAX);
            // Whoever has an old place of this node is told so.
            let head = Steered::parse(&frame, from.family).map(|(head, _)| head);
            let misled = frame.first() == Some(&DATA)
                && head.is_ok_and(|head| head.to == router.own.id && router.coords.denies(&head.coords));
            if step == Decided::Core && (far || silent || misled) {
                prop_assert_eq!(&once, &frame);
                continue; // The picture may always leave it to the router, and here it must.
            }
            prop_assert_eq!(step, expected);
            prop_assert_eq!(&once[..], &onwards[..]);
            let changed = once.iter().zip(&frame).rposition(|(a, b)| a != b);
            prop_assert!(changed.is_none_or(|last| last < byway_network::FRONT_MAX));
            if let Decided::Forward { hop: next, .. } = step {
                let plane = Plane::from_byte(frame[1]).expect("it was parsed");
                prop_assert!(plane.has(from.family) && plane.has(next.family));
            }
        }
    }

    #[test]
    fn a_picture_and_headers_are_good_until_the_generation_grows(
        leaf in prop::bool::weighted(0.2),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut play = Play::new(leaf);
        let mut before = (play.router.generation(), play.known());
        for event in &events {
            play.apply(event);
            let after = (play.router.generation(), play.known());
            prop_assert!(after.0 > before.0 || after == before, "{:?}", event);
            before = after;
        }
    }

    #[test]
    fn a_header_makes_the_frame_that_the_router_would_send(
        leaf in prop::bool::weighted(0.2),
        events in prop::collection::vec(event(), 0..60),
        plane in plane(),
        of in 0u8..9,
        payload in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut play = Play::new(leaf);
        events.iter().for_each(|event| play.apply(event));
        let (to, by) = (To::Node(addr(of)), Constraint::in_plane(plane));
        let header = play.router.header(to, &by);
        let mut out = Outbox::default();
        let _refused = play.router.handle_above(play.now, to, &payload.clone().into(), &by, &mut out);
        let sent = out.drain().find_map(|action| match action {
            Action::Send { hop, frame } if frame.first().is_some_and(|kind| [DATA, ROUTED].contains(kind)) => {
                Some((hop, frame))
            }
            _ => None,
        });
        match (header, sent) {
            (Some((next, header)), Some((hop, frame))) => {
                prop_assert_eq!(next, hop);
                prop_assert_eq!([&header[..], &payload].concat(), &frame[..]);
            }
            (header, sent) => prop_assert!(header.is_none() && sent.is_none(), "{:?} {:?}", header, sent),
        }
    }
}

/// Anything that changes what a node knows.
#[derive(Clone, Debug)]
enum Event {
    Up(u8, Family, u32),
    Hello { from: u8, family: Family, leaf: bool, boot: u64, cost: u32 },
    Down(u8, Family),
    Reprice(u8, Family, u32),
    View { from: u8, family: Family, of: u8, cost: u16, coords: Coords },
    Certs { from: u8, family: Family, root: bool },
    Home { from: u8, family: Family, coords: Coords },
    Ask { of: u8, plane: Plane },
    Answer { from: u8, family: Family, of: u8, counter: u64, coords: Coords },
    Trace { from: u8, family: Family },
    Broken { from: u8, family: Family, of: u8, label: u16 },
    Time(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let from = || (1u8..5, family());
    prop_oneof![
        3 => (from(), 1u32..90).prop_map(|((from, family), cost)| Event::Up(from, family, cost)),
        4 => (from(), prop::bool::weighted(0.1), 1u64..3, 1u32..90).prop_map(
            |((from, family), leaf, boot, cost)| Event::Hello { from, family, leaf, boot, cost }
        ),
        1 => from().prop_map(|(from, family)| Event::Down(from, family)),
        1 => (from(), 1u32..90).prop_map(|((from, family), cost)| Event::Reprice(from, family, cost)),
        3 => (from(), 1u8..9, 1u16..200, coords(Plane::Any)).prop_map(
            |((from, family), of, cost, coords)| Event::View { from, family, of, cost, coords }
        ),
        2 => (from(), any::<bool>()).prop_map(|((from, family), root)| Event::Certs { from, family, root }),
        1 => (from(), coords(Plane::Any)).prop_map(
            |((from, family), coords)| Event::Home { from, family, coords }
        ),
        4 => (5u8..9, plane()).prop_map(|(of, plane)| Event::Ask { of, plane }),
        4 => (from(), 5u8..9, 1u64..4, coords(Plane::Any)).prop_map(
            |((from, family), of, counter, coords)| Event::Answer { from, family, of, counter, coords }
        ),
        3 => from().prop_map(|(from, family)| Event::Trace { from, family }),
        2 => (from(), 5u8..9, 0u16..3).prop_map(
            |((from, family), of, label)| Event::Broken { from, family, of, label }
        ),
        2 => prop_oneof![1u64..3_000, 1u64..400_000].prop_map(Event::Time),
    ]
}

/// Places near those that are told.
fn near() -> Coords {
    let place = |index| Place {
        tree: TreeId::new(Plane::Any, index),
        root: [1; 4],
        steps: Box::new([Step { label: 1, cost: 60 }]),
    };
    Coords::new(vec![place(0), place(1)])
}

/// A router, and what it has asked and probed, so that it can be answered.
struct Play {
    now: Instant,
    router: Router,
    lookups: Vec<(u64, Addr)>,
    probes: Vec<(u64, ShortId, u16)>,
}

impl Play {
    fn alone(leaf: bool) -> Self {
        let now = Instant::now();
        Self { now, router: router(now, leaf), lookups: Vec::new(), probes: Vec::new() }
    }

    fn new(leaf: bool) -> Self {
        let mut play = Self::alone(leaf);
        // Most of what can happen needs neighbours, and somebody far away.
        let (family, plane) = (Family::Ip, Plane::Any);
        for from in 1..4 {
            let cost = 20 * u32::from(from);
            play.apply(&Event::Up(from, family, cost));
            play.apply(&Event::Hello { from, family, leaf: false, boot: 1, cost });
            play.apply(&Event::Certs { from, family, root: true });
        }
        play.apply(&Event::View { from: 1, family, of: 6, cost: 60, coords: near() });
        play.apply(&Event::Home { from: 1, family, coords: near() });
        play.apply(&Event::Ask { of: 5, plane });
        play.apply(&Event::Answer { from: 1, family, of: 5, counter: 1, coords: near() });
        play
    }

    /// All that threads could be told: what becomes of frames, and what payloads begin with.
    fn known(&self) -> Known {
        let targets = Plane::ALL.into_iter().flat_map(|plane| (0..9).map(move |of| (plane, of)));
        let header = |(plane, of)| self.router.header(To::Node(addr(of)), &Constraint::in_plane(plane));
        let headers = targets.clone().map(header).collect();
        let picture = self.router.picture();
        let mut steps = Vec::new();
        for (plane, of) in targets {
            let coords = near();
            let to = short_id(&addr(of));
            let coords = if plane == Plane::Any { coords } else { Coords::default() };
            let data = Steered { plane, ttl: 9, mask: 3, remaining: u32::MAX, to, coords }.emit(DATA, b"x");
            let way = Led::start(plane, vec![0, u16::from(of) * 9]).emit(ROUTED, b"\0\0\0\0x");
            for from in (1..5).flat_map(|peer| FAMILIES.map(|family| hop(peer, family))) {
                for frame in [&data, &way] {
                    let mut frame = frame.to_vec();
                    steps.push((picture.carry(from, &mut frame), frame));
                }
            }
        }
        (headers, steps)
    }

    fn hears(&mut self, from: Hop, frame: Bytes) {
        let mut out = Outbox::default();
        // Many a one is refused, which is as good.
        let _refused = self.router.handle_below(self.now, from, frame, &mut out);
        self.note(&mut out);
    }

    fn note(&mut self, out: &mut Outbox) {
        for action in out.drain() {
            let Action::Send { hop, frame } = action else { continue };
            if frame.first() == Some(&packet::PROBE) {
                let (head, at) = Steered::parse(&frame, hop.family).expect("it is a frame");
                let notes = packet::Notes::parse(&frame[at..], true).expect("it is a probe");
                self.probes.push((notes.salt, head.to, notes.out.unwrap_or_default()));
            } else if let Ok(Frame::Lookup(lookup)) = Frame::parse(&frame, hop.family) {
                self.lookups.extend(lookup.prefix.addr().map(|addr| (lookup.nonce, addr)));
            }
        }
    }

    fn apply(&mut self, event: &Event) {
        let mut out = Outbox::default();
        let class = |family| Class::new(family, 0);
        match event.clone() {
            Event::Up(from, family, cost) => {
                let cost = Cost::from_units(cost);
                self.router.peer_up(self.now, hop(from, family), class(family), cost, &mut out);
            }
            Event::Down(from, family) => self.router.peer_down(self.now, hop(from, family), &mut out),
            Event::Reprice(from, family, cost) => {
                let cost = Cost::from_units(cost);
                self.router.peer_cost(self.now, hop(from, family), class(family), cost, &mut out);
            }
            Event::Hello { from, family, leaf, boot, cost } => {
                let cost = Cost::from_units(cost).encode();
                let key = Some(*key(from).public().as_raw());
                let hello = Hello { leaf, answer: false, boot, cost, certs: 0, filters: 0, view: 0, key };
                self.hears(hop(from, family), Frame::Hello(hello).emit());
            }
            Event::View { from, family, of, cost, coords } => {
                let sketch = Sketch::new(&coords, &Coords::default());
                let told = Told { id: short_id(&addr(of)), class: class(family), cost, sketch };
                let sights = vec![Sight::There(told)];
                self.hears(hop(from, family), Frame::View { version: 1, whole: of % 2 == 0, sights }.emit());
            }
            Event::Certs { from, family, root } => {
                let parent = if root { from } else { 9 };
                let cert =
                    |of: u8, parent: u8| frame::Item::Cert(crate::cert::tests::cert(of, parent, 1).claim());
                let items = vec![cert(from, parent), cert(9, 9)];
                self.hears(hop(from, family), Frame::Certs(items).emit());
            }
            Event::Home { from, family, coords } => {
                let step = Step { label: 3, cost: 60 };
                self.hears(hop(from, family), Frame::Home { version: 1, step, coords }.emit());
            }
            Event::Ask { of, plane } => {
                let (to, by) = (To::Node(addr(of)), Constraint::in_plane(plane));
                let payload = Bytes::from_static(b"payload");
                let _refused = self.router.handle_above(self.now, to, &payload, &by, &mut out);
            }
            Event::Answer { from, family, of, counter, coords } => {
                let Some((nonce, _)) = self.lookups.iter().rev().find(|(_, asked)| *asked == addr(of)) else {
                    return;
                };
                let seq = Seq { boot: 1, counter };
                let location = Location::make(&key(of), &network(), seq, Plane::Any, coords, [0; 32]);
                let (plane, way) = (Plane::Any, Vec::new());
                let found = Frame::Found { plane, nonce: *nonce, way, location: Box::new(location) };
                self.hears(hop(from, family), found.emit());
            }
            Event::Trace { from, family } => {
                let Some((salt, to, out)) = self.probes.pop() else { return };
                let Some(target) = (0..12).find(|of| short_id(&addr(*of)) == to) else { return };
                let mut hops = Vec::new();
                for (out, of) in [(out, from), (5, target)] {
                    let tag = crate::names::tag(salt, &addr(of));
                    hops.push(packet::Noted { out, back: 6, class: class(family), cost: 60, tag });
                }
                let notes = packet::Notes { salt, hops, out: None, wander: 0 };
                let head = Led { at: 2, ..Led::start(Plane::Any, vec![6, 6]) };
                self.hears(hop(from, family), head.emit(packet::TRACE, &notes.write()));
            }
            Event::Broken { from, family, of, label } => {
                let mut broken = short_id(&addr(of)).0.to_vec();
                broken.extend_from_slice(&label.to_be_bytes());
                let way = if label == 2 { vec![6] } else { Vec::new() };
                let head = Led { at: way.len() as u8, ..Led::start(Plane::Any, way) };
                self.hears(hop(from, family), head.emit(packet::BROKEN, &broken));
            }
            Event::Time(millis) => {
                self.now += Duration::from_millis(millis);
                self.router.heartbeat(self.now, &mut out);
            }
        }
        self.note(&mut out);
    }
}

#[test]
fn greetings_leave_the_generation_alone_and_the_picture_as_it_is() {
    let mut play = Play::alone(false);
    let (from, family, cost) = (1, Family::Ip, 50);
    play.apply(&Event::Up(from, family, cost));
    let hello = Event::Hello { from, family, leaf: false, boot: 1, cost };
    play.apply(&hello);
    // The trees settle first.
    for _ in 0..40 {
        play.apply(&Event::Time(250));
        play.apply(&hello);
    }
    let (generation, picture) = (play.router.generation(), play.router.picture());
    for _ in 0..100 {
        play.apply(&Event::Time(1_000));
        play.apply(&hello);
    }
    assert_eq!(play.router.generation(), generation);
    assert!(Arc::ptr_eq(&picture, &play.router.picture()), "it is not drawn anew");
    play.apply(&Event::Down(from, family));
    assert!(play.router.generation() > generation);
}

#[test]
fn what_a_picture_remembers_has_a_bound() {
    let now = Instant::now();
    let mut router = router(now, false);
    let neighbour: Link = (1, Family::Ip, 7, false, 60, Coords::default(), Vec::new(), 0);
    put(&mut router, now, &neighbour);
    router.rest(now, &mut Outbox::default());
    let picture = router.picture();
    for remaining in 100..5_000u32 {
        let (plane, to, coords) = (Plane::Any, short_id(&addr(1)), Coords::default());
        let mut frame = Steered { plane, ttl: 9, mask: 1, remaining, to, coords }.emit(DATA, b"x").to_vec();
        let next = hop(1, Family::Ip);
        assert_eq!(picture.carry(next, &mut frame), Decided::Forward { hop: next, head: 17 });
    }
    assert!(picture.memo.len() <= crate::picture::MEMO_MAX);
    assert_eq!(router.trail.len(), 1, "threads note where frames come from");
}
