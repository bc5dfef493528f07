//! What sealing and opening alone cost: the floor under every daemon that encrypts.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

/// What one cipher does on one core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Its name.
    pub cipher: String,
    /// Bytes of each message.
    pub size: usize,
    /// Processor seconds to seal 10⁹ bytes.
    pub seal: f64,
    /// Processor seconds to open 10⁹ bytes.
    pub open: f64,
}

impl Speed {
    /// Both, as every byte that crosses a link is sealed once and opened once.
    pub fn both(&self) -> f64 {
        self.seal + self.open
    }
}

/// A full packet of an overlay with an MTU of 1,420, and what lies around it.
pub const SIZE: usize = 1424;

/// Measures both ciphers of the standard, each for about `time`, in processor time, which other load disturbs little.
pub fn measure(time: Duration) -> Result<Vec<Speed>> {
    [(&AES_256_GCM, "aes-256-gcm"), (&CHACHA20_POLY1305, "chacha20-poly1305")]
        .into_iter()
        .map(|(algorithm, name)| speed(algorithm, name, SIZE, time / 4))
        .collect()
}

fn speed(algorithm: &'static Algorithm, name: &str, size: usize, time: Duration) -> Result<Speed> {
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32])?);
    let mut data = vec![0x5a; size];
    let mut counter: u64 = 0;
    let seal = per_gigabyte(size, time, || {
        counter += 1;
        let tag = key.seal_in_place_separate_tag(nonce(counter), Aad::from(HEAD), black_box(&mut data))?;
        let _ = black_box(tag);
        Ok(())
    })?;

    // Opening in place spoils the text, so each turn starts with a copy, whose cost is taken off again.
    let mut sealed = vec![0x5a; size];
    key.seal_in_place_append_tag(nonce(1), Aad::from(HEAD), &mut sealed)?;
    let mut scratch = sealed.clone();
    let open = per_gigabyte(size, time, || {
        scratch.copy_from_slice(&sealed);
        black_box(key.open_in_place(nonce(1), Aad::from(HEAD), black_box(&mut scratch))?);
        Ok(())
    })?;
    let copy = per_gigabyte(size, time / 4, || {
        scratch.copy_from_slice(black_box(&sealed));
        black_box(&mut scratch);
        Ok(())
    })?;
    Ok(Speed { cipher: name.into(), size, seal, open: (open - copy).max(0.0) })
}

/// What is authenticated besides: a frame's index and counter.
const HEAD: [u8; 12] = [0; 12];

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Processor seconds for 10⁹ bytes.
fn per_gigabyte(size: usize, time: Duration, mut turn: impl FnMut() -> Result<()>) -> Result<f64> {
    let (begun, before) = (Instant::now(), thread_cpu()?);
    let mut turns: u64 = 0;
    while begun.elapsed() < time || turns == 0 {
        for _ in 0..64 {
            turn()?;
        }
        turns += 64;
    }
    Ok((thread_cpu()? - before) / (turns as f64 * size as f64) * 1e9)
}

fn thread_cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn both_ciphers_have_a_cost() {
        let speeds = measure(Duration::from_millis(200)).unwrap();
        assert_eq!(speeds.len(), 2);
        for speed in speeds {
            assert!(speed.seal > 0.0 && speed.open > 0.0 && speed.both() < 1000.0, "{speed:?}");
        }
    }
}
