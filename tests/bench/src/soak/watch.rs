//! What arrives at a device, as the kernel counts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// A thread that looks at the bytes that a device has received, ten times a second.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(f64, u64)>>>,
}

impl Watch {
    const EVERY: Duration = Duration::from_millis(100);

    /// Watches `device` in the network namespace of the process `pid`.
    pub(crate) fn start(pid: u32, device: &'static str) -> Result<Self> {
        received(pid, device).with_context(|| format!("no device {device}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut samples = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                samples.extend(received(pid, device).map(|bytes| (begun.elapsed().as_secs_f64(), bytes)));
                std::thread::park_timeout(Self::EVERY);
            }
            samples
        });
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it: seconds since the start, and bytes that had arrived by then, as far as the first `time`.
    pub(crate) fn end(mut self, time: Duration) -> Result<Vec<(f64, u64)>> {
        let thread = self.thread.take().context("ended already")?;
        self.stop.store(true, Ordering::Relaxed);
        thread.thread().unpark();
        let mut samples = thread.join().map_err(|_| anyhow!("the watch panicked"))?;
        samples.retain(|(at, _)| *at <= time.as_secs_f64());
        Ok(samples)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Bytes that a device in the network namespace of a process has received so far.
fn received(pid: u32, device: &str) -> Option<u64> {
    read(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?, device)
}

fn read(text: &str, device: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_bytes_of_one_device_are_read() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 7 1 0 0\nbyway0: 1234 5 0 0\nbyway01: 9 9\n";
        assert_eq!((read(text, "byway0"), read(text, "lo"), read(text, "eth0")), (Some(1234), Some(7), None));
    }

    #[test]
    fn a_watch_sees_what_arrives_until_it_is_ended() {
        let watch = Watch::start(std::process::id(), "lo").unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Watch::EVERY * 5 {
            std::thread::yield_now();
        }
        let samples = watch.end(Duration::from_secs(100)).unwrap();
        assert!(samples.len() > 2 && samples.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{samples:?}");
    }
}
