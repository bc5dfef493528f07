//! The fair queue in virtual time.

use super::*;

const MS: Duration = Duration::from_millis(1);
const LIMITS: Limits = Limits { memory: 4 << 20, packets: 4096 };

/// A queue that is drained at a constant rate.
struct Bench {
    queue: FairQueue<(u64, Instant)>,
    now: Instant,
    /// Bytes per millisecond.
    rate: u64,
    /// What each flow got, in bytes, and how long its last packets waited.
    got: HashMap<u64, u64>,
    waits: HashMap<u64, Vec<Duration>>,
    signals: HashMap<u64, u32>,
    lost: u64,
}

impl Bench {
    fn new(rate: u64) -> Self {
        Self {
            queue: FairQueue::new(LIMITS),
            now: Instant::now(),
            rate,
            got: HashMap::new(),
            waits: HashMap::new(),
            signals: HashMap::new(),
            lost: 0,
        }
    }

    fn push(&mut self, peer: u64, flow: u64, bytes: u32) {
        let ticket = Ticket { peer, flow, bytes, memory: bytes };
        let lost = &mut self.lost;
        self.queue.push(self.now, ticket, (flow, self.now), |_| *lost += 1);
    }

    /// Takes one packet, which takes its time; `size` says how long it is.
    fn pop(&mut self, size: impl Fn(u64) -> u32) -> Option<(u64, Signal)> {
        let ((flow, since), signal) = self.queue.pop(self.now)?;
        let bytes = u64::from(size(flow));
        *self.got.entry(flow).or_default() += bytes;
        self.waits.entry(flow).or_default().push(self.now - since);
        if signal == Signal::SlowDown {
            *self.signals.entry(flow).or_default() += 1;
        }
        self.now += Duration::from_micros(bytes * 1000 / self.rate);
        Some((flow, signal))
    }

    fn median_wait(&mut self, flow: u64) -> Duration {
        let waits = self.waits.get_mut(&flow).expect("it was served");
        waits.sort();
        waits[waits.len() / 2]
    }
}

#[test]
fn what_one_flow_sends_stays_in_order() {
    let mut queue = FairQueue::new(LIMITS);
    let now = Instant::now();
    for number in 0..500u32 {
        let flow = u64::from(number % 7);
        let ticket = Ticket { peer: flow % 2, flow, bytes: 100 + number, memory: 1 };
        queue.push(now, ticket, number, |_| panic!("it fits"));
    }
    let mut last = [None; 7];
    let mut count = 0;
    while let Some((number, _)) = queue.pop(now) {
        let flow = number as usize % 7;
        assert!(last[flow].is_none_or(|last| last < number), "flow {flow}");
        last[flow] = Some(number);
        count += 1;
    }
    assert_eq!((count, queue.len(), queue.memory()), (500, 0, 0));
}

#[test]
fn a_sparse_flow_passes_a_bulk_flow() {
    let mut bench = Bench::new(600_000);
    for _ in 0..20 {
        bench.push(1, 1, 60_000);
    }
    bench.pop(|_| 60_000);
    for round in 0..200 {
        bench.push(1, 1, 60_000);
        if round % 4 == 0 {
            bench.push(1, 2, 100);
            let (flow, _) = bench.pop(|flow| if flow == 1 { 60_000 } else { 100 }).expect("there is one");
            assert_eq!(flow, 2, "round {round}");
        }
        bench.pop(|flow| if flow == 1 { 60_000 } else { 100 });
    }
    assert_eq!(bench.median_wait(2), Duration::ZERO);
    assert!(bench.median_wait(1) > MS);
}

#[test]
fn a_greedy_flow_takes_no_more_than_its_share() {
    let mut bench = Bench::new(100_000);
    // Flow 1 pushes ten times what each of the others pushes, in larger packets, and all push more than there is room for.
    let size = |flow: u64| if flow == 1 { 50_000 } else { 1_000 };
    let start = bench.now;
    for round in 1..=2_000 {
        for _ in 0..10 {
            bench.push(1, 1, size(1));
        }
        for flow in [2, 3] {
            for _ in 0..50 {
                bench.push(1, flow, size(flow));
            }
        }
        let until = start + round * MS;
        while bench.now < until && bench.pop(size).is_some() {}
    }
    let [one, two, three] = [1, 2, 3].map(|flow| bench.got[&flow]);
    assert!(two.abs_diff(three) < two / 20, "{two} and {three}");
    assert!(one < two * 11 / 10, "{one} against {two}");
    assert!(one > two * 8 / 10, "{one} against {two}");
}

#[test]
fn many_flows_to_one_peer_take_no_more_than_one_flow_to_another() {
    let mut bench = Bench::new(100_000);
    for _ in 0..1_000 {
        for flow in 0..20 {
            bench.push(1, flow, 10_000);
        }
        for _ in 0..20 {
            bench.push(2, 99, 10_000);
        }
        let until = bench.now + MS;
        while bench.now < until && bench.pop(|_| 10_000).is_some() {}
    }
    let alone = bench.got[&99];
    let together: u64 = (0..20).map(|flow| bench.got[&flow]).sum();
    assert!(alone.abs_diff(together) < alone / 10, "{alone} against {together}");
}

#[test]
fn a_sender_that_heeds_signals_waits_about_the_target() {
    // As a transport does: a window that grows by a packet each millisecond, and halves at a signal, once each 2 ms.
    let mut bench = Bench::new(600_000);
    let (mut window, mut under_way, mut deaf) = (4.0f64, 0, bench.now);
    let start = bench.now;
    let mut waits = Vec::new();
    while bench.now < start + 2000 * MS {
        while under_way < window as u32 {
            bench.push(1, 1, 60_000);
            under_way += 1;
        }
        let before = bench.now;
        let Some((_, signal)) = bench.pop(|_| 60_000) else { break };
        under_way -= 1;
        window += 0.1;
        if signal == Signal::SlowDown && bench.now >= deaf {
            window = (window / 2.0).max(1.0);
            deaf = bench.now + 2 * MS;
        }
        if before > start + 500 * MS {
            waits.push(bench.waits[&1].last().copied().unwrap_or_default());
        }
    }
    waits.sort();
    let (median, high) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
    assert!(median < 2 * TARGET, "median {median:?}");
    assert!(high < 6 * TARGET, "99 % {high:?}");
}

#[test]
fn a_sender_that_heeds_nothing_is_signalled_more_and_more_and_costs_others_nothing() {
    let mut bench = Bench::new(100_000);
    let mut counts = Vec::new();
    let size = |flow: u64| if flow == 1 { 10_000 } else { 200 };
    for round in 0..1_000 {
        for _ in 0..20 {
            bench.push(1, 1, size(1));
        }
        bench.push(1, 2, size(2));
        let until = bench.now + MS;
        while bench.now < until && bench.pop(size).is_some() {}
        if round % 250 == 249 {
            counts.push(bench.signals.get(&1).copied().unwrap_or_default());
        }
    }
    let later = counts[3] - counts[2];
    assert!(counts[0] > 0 && later > 2 * counts[0], "{counts:?}");
    assert_eq!(bench.signals.get(&2), None);
    assert!(bench.median_wait(2) < MS);
    assert!(bench.lost > 0, "the rest is lost");
}

#[test]
fn a_queue_that_was_long_for_a_moment_is_not_signalled() {
    let mut bench = Bench::new(100_000);
    for _ in 0..150 {
        bench.push(1, 1, 10_000);
    }
    while bench.pop(|_| 10_000).is_some() {}
    assert!(bench.median_wait(1) > 2 * TARGET);
    assert_eq!(bench.signals.get(&1), None, "it was gone within an interval");
}

#[test]
fn memory_and_packets_are_bounded_and_the_longest_flow_pays() {
    let limits = Limits { memory: 100_000, packets: 100 };
    let mut queue = FairQueue::new(limits);
    let (now, mut dropped) = (Instant::now(), Vec::new());
    let ticket = |flow, memory| Ticket { peer: flow, flow, bytes: 1, memory };
    for _ in 0..10 {
        queue.push(now, ticket(1, 1_000), 1, |flow| dropped.push(flow));
    }
    for _ in 0..10_000 {
        queue.push(now, ticket(2, 5_000), 2, |flow| dropped.push(flow));
        assert!(queue.memory() <= limits.memory && queue.len() <= limits.packets);
    }
    assert!(dropped.iter().all(|flow| *flow == 2));
    assert_eq!(queue.overflowed(), dropped.len() as u64);
    // Packets that take nothing are bounded by their number, flows too, and what is longer than all is not kept.
    for flow in 10..10_000 {
        queue.push(now, ticket(flow, 0), flow, |_| {});
        assert!(queue.len() <= limits.packets);
        assert!(queue.flows.len() <= 2 * limits.packets && queue.peers.len() <= 2 * limits.packets);
        assert!(queue.turns.new.len() + queue.turns.old.len() <= 2 * limits.packets);
    }
    queue.push(now, ticket(3, 200_000), 3, |_| {});
    assert!(queue.memory() <= limits.memory);
    while queue.pop(now).is_some() {}
    assert_eq!((queue.len(), queue.memory()), (0, 0));
    assert!(queue.pop(now).is_none());
    assert!(queue.flows.is_empty() && queue.peers.is_empty());
}
