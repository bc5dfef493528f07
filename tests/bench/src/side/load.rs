//! What processes use, read from `/proc`: those that are measured, and all others.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Hundredths of a second: the unit of `/proc` on every Linux that Rust runs on.
const TICK: f64 = 0.01;

/// A process at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    parent: u32,
    /// Its own processor time, in seconds.
    own: f64,
    /// The same with that of children that have ended and been waited for.
    with_children: f64,
}

/// User and system time of these processes so far, in seconds; those that have ended count nothing.
pub fn cpu(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| stat(*pid)).map(|stat| stat.own).sum()
}

/// Most memory that these processes had resident, in bytes, each at its own time.
pub fn peak_resident(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| memory(*pid, "VmHWM:")).sum()
}

/// Memory that a process has resident now, in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    memory(pid, "VmRSS:")
}

/// The cores that processes which are not ours use from now on: a lower bound, to tell a quiet machine from a busy one.
pub struct Others {
    begun: Instant,
    before: HashMap<u32, Stat>,
}

impl Others {
    /// Begins to count.
    pub fn watch() -> Self {
        Self { begun: Instant::now(), before: others(&snapshot(), std::process::id()) }
    }

    /// Cores used by others since, on average.
    pub fn cores(&self) -> f64 {
        let after = others(&snapshot(), std::process::id());
        used(&self.before, &after) / self.begun.elapsed().as_secs_f64().max(1e-3)
    }
}

/// Waits until others use less than `most` cores, at most `limit`; what they used at last.
pub fn wait_quiet(limit: Duration, most: f64) -> f64 {
    let begun = Instant::now();
    loop {
        let watch = Others::watch();
        std::thread::sleep(Duration::from_millis(700));
        let cores = watch.cores();
        if cores <= most || begun.elapsed() >= limit {
            return cores;
        }
    }
}

/// Waits until these processes have done next to nothing for a while, at most `limit`; whether they have.
pub fn wait_idle(pids: &[u32], limit: Duration) -> bool {
    let begun = Instant::now();
    let (mut since, mut before) = (begun, cpu(pids));
    while begun.elapsed() < limit {
        std::thread::park_timeout(Duration::from_millis(20));
        // Within what the unit tells apart.
        let now = cpu(pids);
        if now - before > TICK * 1.5 {
            (since, before) = (Instant::now(), now);
        } else if since.elapsed() >= QUIET {
            return true;
        }
    }
    false
}

/// For how long next to nothing must have been done.
const QUIET: Duration = Duration::from_millis(300);

/// Processor time between two snapshots, in seconds.
///
/// Seen twice over, and the larger counts: by processes that live through it, and by the sums that parents keep of their children,
/// which know what began and ended in between, but miss what nobody waited for.
fn used(before: &HashMap<u32, Stat>, after: &HashMap<u32, Stat>) -> f64 {
    let alive: f64 = after
        .iter()
        .map(|(pid, stat)| (stat.own - before.get(pid).map_or(0.0, |before| before.own)).max(0.0))
        .sum();
    let total = |stats: &HashMap<u32, Stat>| stats.values().map(|stat| stat.with_children).sum::<f64>();
    alive.max(total(after) - total(before))
}

/// All but the process `own`, what descends from it, and the kernel's threads, which work for everyone.
fn others(all: &HashMap<u32, Stat>, own: u32) -> HashMap<u32, Stat> {
    let mut ours = HashSet::from([own]);
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|(pid, stat)| ours.contains(&stat.parent) && !ours.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        ours.extend(more);
    }
    let kernel = |pid: u32, stat: &Stat| pid == 2 || stat.parent == 2;
    all.iter()
        .filter(|(pid, stat)| !ours.contains(pid) && !kernel(**pid, stat))
        .map(|(pid, stat)| (*pid, *stat))
        .collect()
}

fn snapshot() -> HashMap<u32, Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return HashMap::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(text: &str) -> Option<Stat> {
    // The second field is the name in brackets, which may hold anything.
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let own = ticks(11)? + ticks(12)?;
    let children = ticks(13)? + ticks(14)?;
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: own * TICK,
        with_children: (own + children) * TICK,
    })
}

fn memory(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn process(parent: u32, own: f64, children: f64) -> Stat {
        Stat { parent, own, with_children: own + children }
    }

    #[test]
    fn a_process_with_brackets_in_its_name_is_read() {
        let stat = parse("12 (a) b) S 7 1 1 0 -1 0 0 0 0 0 150 50 1000 0 20 0 1 0 5").unwrap();
        assert_eq!(stat, process(7, 2.0, 10.0));
        assert_eq!(parse("12 (a"), None);
    }

    #[test]
    fn our_own_and_the_kernels_are_not_others() {
        let all = HashMap::from([
            (1, process(0, 1.0, 0.0)),
            (2, process(0, 1.0, 0.0)),
            (3, process(2, 1.0, 0.0)),
            (10, process(1, 1.0, 0.0)),
            (11, process(10, 1.0, 0.0)),
            (12, process(11, 1.0, 0.0)),
            (20, process(1, 1.0, 0.0)),
        ]);
        let mut left: Vec<_> = others(&all, 10).into_keys().collect();
        left.sort_unstable();
        assert_eq!(left, [1, 20]);
    }

    #[test]
    fn what_began_and_ended_in_between_counts_if_its_parent_waited() {
        let before = HashMap::from([(20, process(1, 5.0, 0.0)), (21, process(20, 1.0, 0.0))]);
        let after = HashMap::from([(20, process(1, 5.5, 4.0))]);
        // 0.5 s of its own; 4 s of children, of which 1 s had been used before.
        assert!((used(&before, &after) - 3.5).abs() < 1e-9);
        // Nobody waited for it: only what lives on is seen.
        let unseen = HashMap::from([(20, process(1, 5.5, 0.0))]);
        assert!((used(&before, &unseen) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn one_that_does_nothing_is_idle_soon_and_one_that_works_is_not() {
        let limit = Duration::from_secs(2);
        assert!(wait_idle(&[u32::MAX], limit));
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let idle = wait_idle(&[std::process::id()], limit);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(!idle);
        });
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let own = std::process::id();
        assert!(resident(own).is_some_and(|bytes| bytes > 100_000));
        assert!(peak_resident(&[own]) >= resident(own).unwrap() / 2);
        assert!(cpu(&[own]) >= 0.0 && cpu(&[u32::MAX]) == 0.0);
    }
}
