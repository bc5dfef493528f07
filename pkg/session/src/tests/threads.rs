//! The sending half under several threads: no counter twice, none with another epoch's key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cipher::{Chain, Cipher};
use crate::{Inbound, OpenError, Outbound, frame};

const RATCHET: Duration = Duration::from_millis(10);
/// Receiver index in all frames here.
const INDEX: u32 = 0x0102_0304;

fn chain() -> Chain {
    Chain::new(Cipher::Aes256Gcm, &[1; 32], &[2; 32])
}

fn halves(now: Instant, ratchet: Duration) -> (Arc<Outbound>, Inbound) {
    (Arc::new(Outbound::new(now, ratchet, INDEX, chain())), Inbound::new(now, Duration::ZERO, chain()))
}

fn counter(frame: &[u8]) -> u64 {
    u64::from_le_bytes(*frame[4..].first_chunk().expect("a frame"))
}

/// Seals some frames, of a payload that says by whom.
fn seal(outbound: &Outbound, now: Instant, count: u32, by: u8, frames: &mut Vec<Vec<u8>>) -> usize {
    let Some(mut sealer) = outbound.take(now, count) else { return 0 };
    let mut sealed = 0;
    loop {
        let mut frame = vec![0xee; frame::padded(frame::OVERHEAD + 1, 1452)];
        frame[frame::PAYLOAD] = by;
        let Some(number) = sealer.seal(frame::PACKET, by, 1, &mut frame) else { return sealed };
        assert_eq!(number, counter(&frame));
        frames.push(frame);
        sealed += 1;
    }
}

#[test]
fn threads_that_seal_while_epochs_pass_never_share_a_counter_and_all_their_frames_open() {
    const THREADS: u8 = 4;
    const TAKES: u32 = 6_000;
    let start = Instant::now();
    let (outbound, inbound) = halves(start, RATCHET);
    let running = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..THREADS)
        .map(|by| {
            let (outbound, running) = (outbound.clone(), running.clone());
            std::thread::spawn(move || {
                running.fetch_add(1, Ordering::SeqCst);
                while running.load(Ordering::SeqCst) < THREADS.into() {
                    std::hint::spin_loop();
                }
                let mut frames = Vec::new();
                for turn in 0..TAKES {
                    // Each has a clock of its own, up to an epoch apart; 120 epochs pass in all.
                    let now = start + RATCHET * turn / 50 + RATCHET * u32::from(by) / 3;
                    let count = 1 + (turn + u32::from(by)) % 7;
                    assert_eq!(seal(&outbound, now, count, by, &mut frames), count as usize);
                }
                frames
            })
        })
        .collect();
    let mut frames: Vec<_> =
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect();
    frames.sort_by_key(|frame| counter(frame));
    let sealed = (0..u32::from(THREADS)).flat_map(|by| (0..TAKES).map(move |turn| 1 + (turn + by) % 7));
    assert_eq!(frames.len(), sealed.sum::<u32>() as usize);
    assert!(frames.windows(2).all(|pair| counter(&pair[0]) < counter(&pair[1])), "a counter came twice");
    let epochs = counter(frames.last().expect("many")) >> 24;
    assert!((120..=125).contains(&epochs), "{epochs} epochs");
    let mut by_each = [0; THREADS as usize];
    for frame in &mut frames {
        let number = counter(frame);
        // Only the key of the counter's own epoch opens it.
        let opened = inbound.lock().open(start, frame).unwrap_or_else(|error| panic!("{number:x}: {error}"));
        assert_eq!((opened.counter, opened.kind), (number, frame::PACKET));
        assert_eq!(frame[opened.payload], [opened.flags]);
        by_each[usize::from(opened.flags)] += 1;
    }
    assert!(by_each.iter().all(|count| *count > TAKES), "{by_each:?}");
}

#[test]
fn counters_of_one_take_are_of_one_epoch_when_an_epoch_is_used_up() {
    let now = Instant::now();
    let (outbound, inbound) = halves(now, Duration::from_secs(120));
    // 2^24 is no multiple of 63, so one take would reach over the end.
    let mut last = 0;
    let (mut first_of_next, mut frame) = (None, vec![0; 64]);
    while first_of_next.is_none() {
        let mut sealer = outbound.take(now, 63).expect("far from used up");
        // Sealing each of the 16 million would take long; the first and the last of each take are told by these.
        let left = sealer.left();
        if last > (1 << 24) - 1_000 || last == 0 {
            let first = sealer.seal(frame::PACKET, 0, 0, &mut frame).expect("fresh");
            inbound.lock().open(now, &mut frame.clone()).expect("its own epoch's key");
            last = first + left as u64 - 1;
            assert_eq!(first >> 24, last >> 24);
            first_of_next = (first >> 24 == 1).then_some(first);
        } else {
            last += 63;
        }
    }
    let first = first_of_next.expect("seen");
    assert!((1 << 24..(1 << 24) + 63).contains(&first), "{first:x}");
}

#[test]
fn a_session_whose_epochs_are_used_up_gives_no_counter_to_anybody() {
    let now = Instant::now();
    // Every look at the clock begins another epoch.
    let (outbound, inbound) = halves(now, Duration::ZERO);
    let mut frame = vec![0; 64];
    for epoch in 1..256 {
        let mut sealer = outbound.take(now, 1).expect("there are 256");
        assert_eq!(sealer.seal(frame::MESSAGE, 0, 0, &mut frame), Some(epoch << 24));
        inbound.lock().open(now, &mut frame.clone()).expect("the next epoch");
    }
    for _ in 0..1_000 {
        assert!(outbound.take(now, 1).is_none());
    }
}

#[test]
fn nothing_is_taken_after_the_end_or_after_thirty_minutes() {
    let now = Instant::now();
    let (outbound, inbound) = halves(now, Duration::from_secs(120));
    assert!(outbound.take(now + Duration::from_secs(1799), 64).is_some());
    assert!(outbound.take(now + Duration::from_secs(1800), 1).is_none());
    let mut frame = vec![0; 64];
    outbound.take(now, 1).expect("young").seal(frame::PACKET, 0, 0, &mut frame).expect("fits");
    outbound.end();
    inbound.end();
    assert!(outbound.take(now, 1).is_none());
    assert_eq!(inbound.lock().open(now, &mut frame), Err(OpenError::Ended));
}

#[test]
fn a_sealer_seals_as_often_as_it_has_counters_and_only_what_fits() {
    let now = Instant::now();
    let (outbound, inbound) = halves(now, Duration::from_secs(120));
    let mut sealer = outbound.take(now, 3).expect("fresh");
    let mut frame = vec![0xee; 128];
    assert_eq!(sealer.seal(frame::PACKET, 0, 97, &mut frame), None, "a payload too long for the frame");
    assert_eq!(sealer.seal(frame::PACKET, 0, usize::MAX, &mut frame), None);
    assert_eq!(sealer.seal(frame::PACKET, 0, 0, &mut frame[..31]), None, "no frame at all");
    assert_eq!(sealer.left(), 3, "what is not sealed costs nothing");
    for (flags, payload, length) in [(frame::CONT, 96, 128), (frame::NEEDS_CSUM, 1, 128), (0, 0, 32)] {
        let mut frame = vec![0xee; length];
        sealer.seal(frame::PACKET, flags, payload, &mut frame).expect("it fits");
        let opened = inbound.lock().open(now, &mut frame).expect("it opens");
        assert_eq!((opened.flags, opened.payload.len()), (flags, payload));
        assert!(frame[opened.payload.clone()].iter().all(|byte| *byte == 0xee));
        let padding = &frame[opened.payload.end..length - frame::TAG];
        assert!(padding.iter().all(|byte| *byte == 0), "padding is zeros, whatever was there");
    }
    assert_eq!((sealer.left(), sealer.seal(frame::PACKET, 0, 0, &mut frame)), (0, None));
    assert_eq!(outbound.take(now, 1_000).expect("fresh").left(), 64, "no more than 64 at a time");
}

#[test]
fn a_frame_opens_once_whoever_opens_it() {
    let now = Instant::now();
    let (outbound, inbound) = halves(now, Duration::from_secs(120));
    let mut frames = Vec::new();
    for _ in 0..50 {
        seal(&outbound, now, 40, 1, &mut frames);
    }
    let frames = Arc::new(frames);
    let opened = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for train in frames.chunks(40) {
                    let mut opening = inbound.lock();
                    for frame in train {
                        match opening.open(now, &mut frame.clone()) {
                            Ok(_) => drop(opened.fetch_add(1, Ordering::Relaxed)),
                            Err(error) => assert_eq!(error, OpenError::Replayed),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(opened.into_inner(), frames.len());
}

#[test]
fn a_panic_of_one_thread_does_not_take_the_session_from_the_others() {
    let now = Instant::now();
    let (outbound, inbound) = halves(now, Duration::from_millis(1));
    let mut frames = Vec::new();
    seal(&outbound, now, 1, 1, &mut frames);
    std::thread::scope(|scope| {
        let broken = scope.spawn(|| {
            let _opening = inbound.lock();
            panic!("a fault elsewhere, on purpose");
        });
        assert!(broken.join().is_err());
    });
    inbound.lock().open(now, &mut frames[0]).expect("it opens");
}

#[test]
fn what_several_threads_note_is_added_up() {
    let now = Instant::now();
    let (outbound, inbound) = halves(now, Duration::from_secs(120));
    assert_eq!((outbound.sent().last, inbound.received().last), (None, None));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (outbound, inbound) = (&outbound, &inbound);
            scope.spawn(move || {
                for turn in 0..1_000 {
                    outbound.note_sent(now + Duration::from_micros(turn * 4 + thread), 2, 100);
                    inbound.note_received(now + Duration::from_micros(turn * 4 + thread), 1, 50);
                }
            });
        }
    });
    let last = Some(now + Duration::from_micros(3_999));
    let (sent, received) = (outbound.sent(), inbound.received());
    assert_eq!((sent.frames, sent.bytes, sent.last), (8_000, 400_000, last));
    assert_eq!((received.frames, received.bytes, received.last), (4_000, 200_000, last));
}
