//! The loops over devices that are socket pairs, with tables that know nobody: everything takes the slow path.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::Service;
use byway_api::memory::Realm;
use byway_fastpath::{Ecn, HandUp, Head, Snapshot, Trains, vnet};
use byway_identity::Addr;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::*;
use crate::queue::{Queue, Queues};
use crate::testing::{icmp, udp};
use crate::{Allow, Who};

const LIMIT: Duration = Duration::from_secs(20);

/// A device with `queues` queues, and the kernel's ends of them.
fn device(queues: usize, vnet: bool) -> (Queues, Vec<OwnedFd>) {
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..queues)
        .map(|_| {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
        })
        .map(|(ours, theirs)| (Queue::new(ours, vnet), theirs))
        .unzip();
    let offloads = Offloads { checksum: vnet, tso: vnet, uso: vnet };
    (Queues::new("fake".into(), ours, offloads), theirs)
}

/// A socket of the fast path without any help of the kernel, and what went to the core.
#[derive(Debug)]
struct Fake {
    socket: UdpSocket,
    to_core: mpsc::SyncSender<HandUp>,
    /// What it does when it is asked for what came.
    mood: Mood,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Good,
    Panics,
    Fails,
}

impl Underlay for Fake {
    fn port(&self) -> u16 {
        7
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn send(&self, to: SocketAddr, _: Ecn, train: &[u8], segment: usize) -> io::Result<usize> {
        for frame in train.chunks(segment) {
            self.socket.send_to(frame, to)?;
        }
        Ok(train.len())
    }

    fn receive(&self, trains: &mut Trains) -> io::Result<()> {
        let (buffers, heads) = trains.fill();
        let (length, from) = self.socket.recv_from(&mut buffers[0])?;
        match self.mood {
            Mood::Good => {}
            Mood::Panics => panic!("a fault that a test wants"),
            Mood::Fails => return Err(nix::errno::Errno::EBADF.into()),
        }
        heads.push(Head { from, ecn: Ecn::NotEct, length, stride: length.max(1) });
        Ok(())
    }

    fn hand_up(&self, batch: &mut Vec<HandUp>) {
        for what in batch.drain(..) {
            let _ = self.to_core.try_send(what);
        }
    }
}

fn socket(mood: Mood) -> (Arc<dyn Underlay>, SocketAddr, mpsc::Receiver<HandUp>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let (at, (to_core, core)) = (socket.local_addr().unwrap(), mpsc::sync_channel(1_000));
    (Arc::new(Fake { socket, to_core, mood }), at, core)
}

fn tables() -> Arc<Tables> {
    Arc::new(Tables::new(Snapshot::new(Addr::from_bytes([1; 32]))))
}

fn config(threads: usize) -> Config {
    Config { threads, ..Config::default() }
}

/// What a program of this host writes: a packet with an empty vnet header, or none.
fn write(fd: &OwnedFd, packet: &[u8], vnet: bool) {
    let header = if vnet { &[0; vnet::LENGTH][..] } else { &[] };
    nix::unistd::write(fd, &[header, packet].concat()).unwrap();
}

/// What programs receive, without the vnet header.
async fn read(fd: &OwnedFd, vnet: bool) -> Vec<u8> {
    let mut space = vec![0; 70_000];
    let until = Instant::now() + LIMIT;
    loop {
        if let Ok(length) = nix::unistd::read(fd, &mut space) {
            return space[if vnet { vnet::LENGTH } else { 0 }..length].to_vec();
        }
        assert!(Instant::now() < until, "no packet came");
        tokio::task::yield_now().await;
    }
}

/// A portal over `device`, and its node's neighbourhood.
fn portal(realm: &Realm, device: Queues) -> Portal {
    let allow =
        vec![Allow { peer: Who::Anyone, ports: vec!["udp".parse().unwrap(), "icmp".parse().unwrap()] }];
    let config = crate::Config { allow, ..crate::Config::default() };
    Portal::over(Box::new(device), &config, realm.main()).unwrap()
}

fn run(portal: &Portal) -> tokio::task::JoinHandle<Result<(), crate::RunError>> {
    let portal = portal.clone();
    tokio::spawn(async move { portal.run(std::future::pending()).await })
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < limit, "waited in vain: {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_entries_all_packets_pass_by_the_slow_path_with_any_number_of_threads() {
    for (threads, queues, vnet) in
        [(1, 1, true), (2, 1, true), (2, 1, false), (4, 2, true), (6, 2, true), (1, 2, false)]
    {
        let realm = Realm::new();
        let (a_device, a_wire) = device(queues, vnet);
        let (b_device, b_wire) = device(1, false);
        let (a, b) = (portal(&realm, a_device), portal(&realm.neighbour(), b_device));
        let (first, ..) = socket(Mood::Good);
        let running = start(&config(threads), &tables(), &[first], Some(&a)).unwrap();
        assert_eq!(running.threads(), if threads == 1 { 1 } else { (queues * 2).min(threads) });
        assert_eq!(running.offloads().unwrap().tso, vnet);
        let _runs = (run(&a), run(&b));
        for wire in &a_wire {
            let request = icmp(a.ipv6(), b.ipv6(), 128, 5, b"hello");
            write(wire, &request, vnet);
            assert_eq!(read(&b_wire[0], false).await, request, "{threads} {queues} {vnet}");
            let reply = icmp(b.ipv6(), a.ipv6(), 129, 5, b"hello");
            write(&b_wire[0], &reply, false);
            assert_eq!(read(&a_wire[0], vnet).await, reply, "{threads} {queues} {vnet}");
        }
        assert_eq!(running.counters().reads, queues as u64);
        assert!(running.is_running() && running.failure().is_none());
    }
}

#[tokio::test]
async fn packets_pass_in_order_before_during_and_after_the_threads() {
    let realm = Realm::new();
    let (a_device, a_wire) = device(1, true);
    let (b_device, b_wire) = device(1, true);
    let (a, b) = (portal(&realm, a_device), portal(&realm.neighbour(), b_device));
    let _runs = (run(&a), run(&b));
    let mut running = None;
    for number in 0..300u32 {
        match number {
            100 => running = Some(start(&config(2), &tables(), &[], Some(&a)).unwrap()),
            200 => running = None,
            _ => {}
        }
        let packet = udp(a.ipv6(), b.ipv6(), (1, 9), &number.to_be_bytes());
        write(&a_wire[0], &packet, true);
        assert_eq!(read(&b_wire[0], true).await, packet, "{number}");
    }
    assert!(running.is_none());
    assert_eq!(a.counters().packets_out, 300);
}

#[tokio::test]
async fn the_device_goes_to_the_sender_with_a_burst_and_back_after_it_and_no_packet_waits_or_overtakes() {
    let realm = Realm::new();
    let (a_device, a_wire) = device(1, true);
    let (b_device, b_wire) = device(1, true);
    let (a, b) = (portal(&realm, a_device), portal(&realm.neighbour(), b_device));
    let _runs = (run(&a), run(&b));
    let running = start(&config(2), &tables(), &[], Some(&a)).unwrap();
    let packet = |number: u32, length| {
        let data = [&number.to_be_bytes()[..], &vec![0; length]].concat();
        udp(a.ipv6(), b.ipv6(), (1, 9), &data)
    };
    for round in 1..=5 {
        let numbers = round * 10..round * 10 + 10;
        // The first is much for one turn.
        let packets: Vec<_> =
            numbers.map(|number| packet(number, if number % 10 == 0 { 20_000 } else { 10 })).collect();
        for packet in &packets {
            write(&a_wire[0], packet, true);
        }
        for packet in packets {
            assert_eq!(read(&b_wire[0], true).await, packet, "round {round}");
        }
        until("the device is given back", || running.counters().given_back == u64::from(round)).await;
        assert_eq!(running.counters().handed_over, u64::from(round));
    }
    assert_eq!(a.counters().packets_out, 50);
}

#[test]
fn datagrams_that_nobody_knows_go_to_the_core_with_or_without_a_portal() {
    let realm = Realm::new();
    let (with, _wire) = device(1, true);
    for portal in [None, Some(portal(&realm, with))] {
        for threads in [1, 2] {
            let (fake, at, core) = socket(Mood::Good);
            let running = start(&config(threads), &tables(), &[fake], portal.as_ref()).unwrap();
            let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
            for number in 0..50u8 {
                stranger.send_to(&[number; 300], at).unwrap();
            }
            for number in 0..50u8 {
                match core.recv_timeout(LIMIT).unwrap() {
                    HandUp::Datagram { from, bytes } => {
                        assert_eq!((from, &bytes[..]), (stranger.local_addr().unwrap(), &[number; 300][..]));
                    }
                    HandUp::Unsealed { .. } => panic!("nobody can have opened it"),
                }
            }
            drop(running);
            // Nothing of the threads is left: the way to the core is closed.
            assert!(core.recv_timeout(LIMIT).is_err_and(|why| why == mpsc::RecvTimeoutError::Disconnected));
        }
    }
}

#[test]
fn threads_end_at_once_be_they_idle_or_busy() {
    for threads in [1, 2] {
        let realm = Realm::new();
        let (fake_device, wire) = device(1, true);
        let portal = portal(&realm, fake_device);
        let (fake, at, _core) = socket(Mood::Good);
        let running = start(&config(threads), &tables(), &[fake], Some(&portal)).unwrap();
        let begun = Instant::now();
        drop(running);
        assert!(begun.elapsed() < Duration::from_secs(2), "idle: {:?}", begun.elapsed());

        let (again, ..) = socket(Mood::Good);
        let running = start(&config(threads), &tables(), &[again], Some(&portal)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let flood = std::thread::spawn({
            let stop = Arc::clone(&stop);
            let packet = udp(portal.ipv6(), portal.ipv6(), (1, 9), &[0; 100]);
            move || {
                let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let _ = stranger.send_to(&[0; 100], at);
                    let _ = nix::unistd::write(&wire[0], &[&[0; vnet::LENGTH][..], &packet].concat());
                }
            }
        });
        while running.counters().reads < 1_000 {
            std::thread::yield_now();
        }
        let begun = Instant::now();
        drop(running);
        assert!(begun.elapsed() < Duration::from_secs(2), "busy: {:?}", begun.elapsed());
        stop.store(true, Ordering::Relaxed);
        flood.join().unwrap();
    }
}

#[tokio::test]
async fn a_thread_that_fails_or_panics_ends_the_fast_path_alone() {
    for mood in [Mood::Fails, Mood::Panics] {
        for threads in [1, 2] {
            let realm = Realm::new();
            let (a_device, a_wire) = device(1, true);
            let (b_device, b_wire) = device(1, true);
            let (a, b) = (portal(&realm, a_device), portal(&realm.neighbour(), b_device));
            let _runs = (run(&a), run(&b));
            let (fake, at, core) = socket(mood);
            let running = start(&config(threads), &tables(), &[fake], Some(&a)).unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", at).unwrap();
            until("the end of the threads", || !running.is_running()).await;
            until("the reason", || running.failure().is_some()).await;
            // The other thread too has let go of everything.
            until("the way to the core", || matches!(core.try_recv(), Err(mpsc::TryRecvError::Disconnected)))
                .await;
            let packet = udp(a.ipv6(), b.ipv6(), (1, 9), b"still here");
            write(&a_wire[0], &packet, true);
            assert_eq!(read(&b_wire[0], true).await, packet, "{mood:?} {threads}");
        }
    }
}

#[tokio::test]
async fn a_device_that_is_gone_ends_the_threads_and_then_the_portal() {
    let realm = Realm::new();
    let (fake_device, wire) = device(1, true);
    let portal = portal(&realm, fake_device);
    let ended = run(&portal);
    let running = start(&config(2), &tables(), &[], Some(&portal)).unwrap();
    drop(wire);
    until("the end of the threads", || !running.is_running()).await;
    let ended = tokio::time::timeout(LIMIT, ended).await.expect("in time").unwrap();
    assert!(matches!(ended, Err(crate::RunError::Device(_))), "{ended:?}");
}

#[test]
fn each_thread_calls_the_hook_first_with_its_name() {
    let realm = Realm::new();
    let (fake_device, _wire) = device(2, true);
    let portal = portal(&realm, fake_device);
    for (threads, expected) in [
        (1, &["byway-fast"][..]),
        (2, &["byway-rx", "byway-tx"][..]),
        (4, &["byway-rx-0", "byway-rx-1", "byway-tx-0", "byway-tx-1"][..]),
    ] {
        let names = Arc::new(Mutex::new(Vec::new()));
        let hook = {
            let names = Arc::clone(&names);
            move |name: &str| {
                assert_eq!(std::thread::current().name(), Some(name));
                names.lock().unwrap().push(name.to_owned());
            }
        };
        let config = Config { threads, on_thread_start: Some(Arc::new(hook)) };
        drop(start(&config, &tables(), &[], Some(&portal)).unwrap());
        let mut names = names.lock().unwrap().clone();
        names.sort();
        assert_eq!(names, expected);
    }
}

#[test]
fn what_the_slow_path_does_not_take_in_time_is_dropped_and_counted() {
    let realm = Realm::new();
    let (fake_device, wire) = device(1, true);
    let portal = portal(&realm, fake_device);
    // Nobody runs the portal: its queue fills.
    let running = start(&config(2), &tables(), &[], Some(&portal)).unwrap();
    let packet = udp(portal.ipv6(), crate::testing::node(9).1, (1, 9), b"x");
    let packet = [&[0; vnet::LENGTH][..], &packet].concat();
    let mut written = 0u64;
    let until = Instant::now() + LIMIT;
    while running.counters().portal_overrun < 100 {
        written += u64::from(nix::unistd::write(&wire[0], &packet).is_ok());
        assert!(Instant::now() < until, "{:?} after {written}", running.counters());
    }
    assert!(written >= crate::queue::Inlet::PACKETS as u64 + 100, "{written}");
}

/// A socket that takes nothing until it is told to.
#[derive(Debug)]
struct Full {
    fd: UdpSocket,
    room: AtomicBool,
    calls: mpsc::SyncSender<()>,
}

impl Underlay for Full {
    fn port(&self) -> u16 {
        7
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn send(&self, _: SocketAddr, _: Ecn, train: &[u8], segment: usize) -> io::Result<usize> {
        let _ = self.calls.try_send(());
        // Every other call finds room for one frame.
        match self.room.fetch_not(Ordering::Relaxed) {
            true => Ok(segment.min(train.len())),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn receive(&self, _: &mut Trains) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn hand_up(&self, _: &mut Vec<HandUp>) {}
}

#[test]
fn a_socket_that_is_full_for_a_moment_gets_the_rest_of_the_train() {
    use byway_fastpath::{Sink, Train};
    let shared = Arc::new(Shared {
        stop: AtomicBool::new(false),
        event: EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap(),
        failure: Mutex::new(None),
        counts: Counts::default(),
    });
    let (calls, called) = mpsc::sync_channel(100);
    let full = Full { fd: UdpSocket::bind("127.0.0.1:0").unwrap(), room: AtomicBool::new(false), calls };
    let mut wires = Wires::new(Arc::clone(&shared), vec![Arc::new(full)], None);
    let to = ([127, 0, 0, 1], 9).into();
    wires.transmit(Train { port: 7, to, ecn: Ecn::NotEct, bytes: &[0; 95], segment: 10 });
    // Ten frames, and before each a refusal.
    assert_eq!((called.try_iter().count(), shared.counts.read().send_overrun), (20, 0));
    // None is waited for when all shall end.
    shared.end();
    wires.transmit(Train { port: 7, to, ecn: Ecn::NotEct, bytes: &[0; 95], segment: 10 });
    assert_eq!(shared.counts.read().send_overrun, 1);
}

#[tokio::test]
async fn a_device_alone_gives_plain_packets_from_all_its_queues() {
    use std::future::poll_fn;
    for vnet in [true, false] {
        let (device, wire) = device(2, vnet);
        let packet = |n: u8| udp(crate::testing::node(1).1, crate::testing::node(2).1, (1, 9), &[n]);
        write(&wire[0], &packet(0), vnet);
        write(&wire[1], &packet(1), vnet);
        let mut batch = Vec::new();
        while batch.len() < 2 {
            let polled = poll_fn(|cx| crate::Device::poll_recv(&device, cx, &mut batch));
            tokio::time::timeout(LIMIT, polled).await.expect("in time").unwrap();
        }
        assert_eq!(batch, [packet(0), packet(1)]);
        let mut out: VecDeque<Bytes> = [packet(2)].into();
        poll_fn(|cx| crate::Device::poll_send(&device, cx, &mut out)).await.unwrap();
        assert_eq!(read(&wire[0], vnet).await, packet(2));
    }
}
