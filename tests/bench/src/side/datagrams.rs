//! The source and the sink of datagrams: programs of their own, on hosts of their own, that take orders by their standard input.
//!
//! Every datagram crosses the stack by itself, as those of ordinary programs do; but many are handed over with one system call, so
//! that the processors are left to what is measured.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg, setsockopt, sockopt};
use serde::{Deserialize, Serialize};

/// What the source is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// Number of the trial.
    pub number: u32,
    /// Bytes of each datagram.
    pub size: usize,
    /// Datagrams a second; 0: as fast as it goes.
    pub rate: f64,
    /// How long, in seconds.
    pub seconds: f64,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Datagrams that the kernel took.
    pub count: u64,
    /// How long that took.
    pub seconds: f64,
}

/// Bytes of the trial's number, at the front of each datagram.
pub const NUMBER: usize = 4;

/// The source sends what is due this often: as finely as the kernel's timers do without effort.
const TICK: Duration = Duration::from_micros(200);
/// Most datagrams at once. What the source could not send in time is not made up for: bursts would fill queues that a steady
/// sender leaves empty.
const BURST: usize = 64;
/// Room for one datagram in the sink.
const ROOM: usize = 2048;
/// Trials that the sink can tell apart.
const TRIALS: usize = 4096;

/// The source: reads orders until its input ends.
pub fn source(to: SocketAddr) -> Result<()> {
    let any: SocketAddr = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }.parse()?;
    let socket = UdpSocket::bind(any)?;
    give_room(&socket);
    socket.connect(to)?;
    println!("ready");
    for line in std::io::stdin().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        println!("{}", serde_json::to_string(&send(&socket, &order))?);
    }
    Ok(())
}

fn send(socket: &UdpSocket, order: &Order) -> Sent {
    let mut datagram = vec![0x5a; order.size.max(NUMBER)];
    datagram[..NUMBER].copy_from_slice(&order.number.to_le_bytes());
    let begun = Instant::now();
    let end = Duration::from_secs_f64(order.seconds);
    let (mut count, mut forgone) = (0_u64, 0_u64);
    loop {
        let elapsed = begun.elapsed();
        if elapsed >= end {
            return Sent { count, seconds: elapsed.as_secs_f64() };
        }
        let flood = order.rate <= 0.0;
        let due = ((order.rate * elapsed.as_secs_f64()) as u64).saturating_sub(count + forgone) as usize;
        let now = if flood { BURST } else { due.min(BURST) };
        if !flood {
            forgone += (due - now) as u64;
        }
        // What the kernel refuses for lack of room has not been sent.
        count += burst(socket, &datagram, now) as u64;
        if !flood && now < BURST {
            std::thread::sleep(TICK);
        }
    }
}

/// Sends a datagram so often; how many the kernel took.
fn burst(socket: &UdpSocket, datagram: &[u8], count: usize) -> usize {
    if count == 0 {
        return 0;
    }
    let mut headers = MultiHeaders::<()>::preallocate(count, None);
    let slices = vec![[IoSlice::new(datagram)]; count];
    let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, vec![None; count], [], MsgFlags::empty());
    sent.map_or(0, Iterator::count)
}

/// The sink: answers how many datagrams of a trial have come, until its input ends.
pub fn sink(at: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(at)?;
    give_room(&socket);
    let counts: Arc<Vec<AtomicU64>> = Arc::new((0..TRIALS).map(|_| AtomicU64::new(0)).collect());
    let shared = Arc::clone(&counts);
    std::thread::spawn(move || {
        let mut room = vec![0; BURST * ROOM];
        while let Ok(count) = receive(&socket, &mut room) {
            for datagram in room.chunks(ROOM).take(count) {
                let number = datagram.first_chunk().copied().map(u32::from_le_bytes);
                if let Some(counter) = number.and_then(|number| shared.get(number as usize)) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    println!("ready");
    for line in std::io::stdin().lines() {
        let number: usize = line?.trim().parse()?;
        let count = counts.get(number).context("too many trials")?;
        println!("{}", count.load(Ordering::Relaxed));
    }
    Ok(())
}

/// Waits for a datagram and takes what else is there, each at the next multiple of [`ROOM`]; how many.
fn receive(socket: &UdpSocket, room: &mut [u8]) -> Result<usize> {
    let mut headers = MultiHeaders::<()>::preallocate(BURST, None);
    let mut slices: Vec<_> = room.chunks_mut(ROOM).map(|part| [IoSliceMut::new(part)]).collect();
    let received = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, MsgFlags::MSG_WAITFORONE, None)?;
    Ok(received.count())
}

/// Room in the test programs' own sockets, in bytes, as far as the kernel gives it: they are not what is measured.
const BUFFER: usize = 16 << 20;

fn give_room(socket: &UdpSocket) {
    let plain = socket2::SockRef::from(socket);
    if setsockopt(socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        let _ = plain.set_recv_buffer_size(BUFFER);
    }
    if setsockopt(socket, sockopt::SndBufForce, &BUFFER).is_err() {
        let _ = plain.set_send_buffer_size(BUFFER);
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn bursts_arrive_whole_with_their_number() {
        let sink = UdpSocket::bind("[::1]:0").unwrap();
        let source = UdpSocket::bind("[::1]:0").unwrap();
        source.connect(sink.local_addr().unwrap()).unwrap();
        assert_eq!(burst(&source, &7_u32.to_le_bytes(), 0), 0);
        assert_eq!(burst(&source, &7_u32.to_le_bytes(), 5), 5);
        let mut room = vec![0; BURST * ROOM];
        assert_eq!(receive(&sink, &mut room).unwrap(), 5);
        assert!(room.chunks(ROOM).take(5).all(|part| part[..4] == [7, 0, 0, 0]));
    }

    #[test]
    fn a_paced_source_sends_no_more_than_it_is_asked_to() {
        let sink = UdpSocket::bind("[::1]:0").unwrap();
        let source = UdpSocket::bind("[::1]:0").unwrap();
        source.connect(sink.local_addr().unwrap()).unwrap();
        let sent = send(&source, &Order { number: 1, size: 64, rate: 5000.0, seconds: 0.1 });
        assert!((1..=505).contains(&sent.count) && sent.seconds >= 0.1, "{sent:?}");
    }
}
