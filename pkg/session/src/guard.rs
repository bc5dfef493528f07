//! Load: who may make this side compute.
//!
//! Under load, from 64 unfinished handshakes or 200 first messages per second on, an m1 costs one hash until it comes
//! with a cookie, which proves that its source is real; where sources have no meaning, a puzzle takes its place. No state
//! is kept for either. At all times a source may start ten handshakes per second.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use byway_identity::{Entropy, labelled_hash, shake256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::message::Proof;
use crate::replay::M1Hash;

/// Most handshakes that wait for their end.
pub(crate) const UNFINISHED: usize = 1024;

const UNFINISHED_LOAD: usize = 64;
const RATE_LOAD: f64 = 200.0;
const SECRET_LIFE: Duration = Duration::from_secs(120);
const PER_SOURCE: f64 = 10.0;
const SOURCES: usize = 4096;
/// Answers per second to a `KEY?` that is shorter than its answer, and to one that is not.
const SHORT_ASKS: f64 = 20.0;
const EVEN_ASKS: f64 = 5000.0;
/// How often one solved puzzle opens the gate: its handshake may have had to give way to others and come again.
const PROOF_USES: u8 = 4;
/// Solved puzzles that are remembered; beyond, a new secret makes the older ones worthless.
const PROOFS: usize = 4096;
const EASIEST: u8 = 12;
const HARDEST: u8 = 22;

/// What to do with an m1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer it.
    Admit,
    /// Ask for it again, with this cookie and as many zero bits.
    Retry { cookie: [u8; 32], bits: u8 },
    /// Too many from this source.
    Drop,
}

/// The gate before all asymmetric cryptography.
pub(crate) struct Guard {
    secret: Zeroizing<[u8; 32]>,
    last_secret: Zeroizing<[u8; 32]>,
    since: Instant,
    /// How often puzzles were used that each of the two secrets made; without it one solution would buy any number
    /// of checks of an m1 that does not open.
    used: HashMap<M1Hash, u8>,
    last_used: HashMap<M1Hash, u8>,
    m1_rate: Rate,
    sources: HashMap<(u64, bool), Bucket>,
    short_asks: Bucket,
    even_asks: Bucket,
}

/// A count that fades: half of it is gone after 0.7 s.
struct Rate {
    at: Instant,
    level: f64,
}

/// Permits that come back with time, at most for one second.
#[derive(Clone, Copy)]
struct Bucket {
    at: Instant,
    permits: f64,
}

impl Guard {
    pub(crate) fn new(now: Instant, entropy: &mut dyn Entropy) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        let mut last_secret = Zeroizing::new([0; 32]);
        entropy.fill(&mut *secret);
        entropy.fill(&mut *last_secret);
        Self {
            secret,
            last_secret,
            since: now,
            used: HashMap::new(),
            last_used: HashMap::new(),
            m1_rate: Rate { at: now, level: 0.0 },
            sources: HashMap::new(),
            short_asks: Bucket::full(now, SHORT_ASKS),
            even_asks: Bucket::full(now, EVEN_ASKS),
        }
    }

    /// Judges an m1 from `source`, with the `proof` that came with it.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        source: Option<u64>,
        hash: &M1Hash,
        proof: Option<&Proof>,
        unfinished: usize,
        entropy: &mut dyn Entropy,
    ) -> Verdict {
        self.rotate(now, entropy);
        let rate = self.m1_rate.count(now);
        let loaded = is_loaded(rate, unfinished);
        let proved = proof.is_some_and(|proof| self.proves(source, hash, proof));
        let bits = if source.is_some() { 0 } else { difficulty(rate, unfinished) };
        if loaded && !proved {
            return self.retry(source, hash, bits);
        }
        let Some(source_key) = source else {
            return if !loaded || self.use_proof(now, hash, entropy) {
                Verdict::Admit
            } else {
                Verdict::Drop
            };
        };
        if self.bucket(now, (source_key, proved)).take(now, PER_SOURCE) {
            return Verdict::Admit;
        }
        // Whoever forges the address of another must not lock that one out: a cookie opens a bucket of its own.
        if proved { Verdict::Drop } else { self.retry(source, hash, bits) }
    }

    /// What an m1 of this `hash` would be answered under load, for whoever could not be answered: its cookie and bits.
    pub(crate) fn cookie_for(
        &mut self,
        now: Instant,
        source: Option<u64>,
        hash: &M1Hash,
        unfinished: usize,
    ) -> Option<([u8; 32], u8)> {
        let rate = self.m1_rate.now(now);
        let bits = if source.is_some() { 0 } else { difficulty(rate, unfinished) };
        is_loaded(rate, unfinished).then(|| (cookie(&self.secret, source, hash, bits), bits))
    }

    /// Whether to answer a `KEY?` of `asked` bytes from `source` with `answer` bytes.
    pub(crate) fn may_tell(
        &mut self,
        now: Instant,
        source: Option<u64>,
        asked: usize,
        answer: usize,
    ) -> bool {
        if asked < answer.div_ceil(3) {
            return false;
        }
        // An answer no longer than its question amplifies nothing, so a flood of short questions starves none of these.
        if asked >= answer {
            return self.even_asks.take(now, EVEN_ASKS);
        }
        source.is_none_or(|source| self.bucket(now, (source ^ ASKS, false)).take(now, PER_SOURCE))
            && self.short_asks.take(now, SHORT_ASKS)
    }

    /// Whether an m1 inside session `number` may be answered: its sender is known, but may be hostile all the same.
    pub(crate) fn admits_inside(&mut self, now: Instant, number: u64) -> bool {
        self.bucket(now, (number ^ INSIDE, true)).take(now, PER_SOURCE)
    }

    fn retry(&self, source: Option<u64>, hash: &M1Hash, bits: u8) -> Verdict {
        Verdict::Retry { cookie: cookie(&self.secret, source, hash, bits), bits }
    }

    fn proves(&self, source: Option<u64>, hash: &M1Hash, proof: &Proof) -> bool {
        let known = [&self.secret, &self.last_secret]
            .into_iter()
            .any(|secret| bool::from(cookie(secret, source, hash, proof.bits).ct_eq(&proof.cookie)));
        known && solves(&proof.cookie, proof.bits, proof.nonce)
    }

    /// Counts a use of the puzzle that was solved for the m1 of this `hash`; false if it has been used enough.
    fn use_proof(&mut self, now: Instant, hash: &M1Hash, entropy: &mut dyn Entropy) -> bool {
        let uses = self.last_used.get(hash).into_iter().chain(self.used.get(hash)).sum::<u8>();
        if uses >= PROOF_USES {
            return false;
        }
        if self.used.len() >= PROOFS && !self.used.contains_key(hash) {
            self.renew(now, entropy);
        }
        *self.used.entry(*hash).or_default() += 1;
        true
    }

    fn rotate(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        if now.saturating_duration_since(self.since) >= SECRET_LIFE {
            self.renew(now, entropy);
        }
    }

    fn renew(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        std::mem::swap(&mut self.secret, &mut self.last_secret);
        entropy.fill(&mut *self.secret);
        self.last_used = std::mem::take(&mut self.used);
        self.since = now;
    }

    /// A full table is swept of whoever has had a quiet second; if nobody has, it starts anew, which only grants a few more.
    fn bucket(&mut self, now: Instant, key: (u64, bool)) -> &mut Bucket {
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&key) {
            self.sources
                .retain(|_, bucket| now.saturating_duration_since(bucket.at) < Duration::from_secs(1));
            if self.sources.len() >= SOURCES {
                self.sources.clear();
            }
        }
        self.sources.entry(key).or_insert_with(|| Bucket::full(now, PER_SOURCE))
    }

    #[cfg(test)]
    pub(crate) fn sources(&self) -> usize {
        self.sources.len()
    }
}

/// Tells the buckets for questions from those for handshakes.
const ASKS: u64 = 0x5a5a_0000_0000_0000;
/// Tells the buckets for handshakes inside sessions.
const INSIDE: u64 = 0xa5a5_0000_0000_0000;

/// Whether `nonce` solves the puzzle: SHAKE256(cookie · nonce) begins with as many zero bits.
pub(crate) fn solves(cookie: &[u8; 32], bits: u8, nonce: u64) -> bool {
    bits == 0 || {
        let hash: [u8; 8] = shake256(&[cookie, &nonce.to_le_bytes()]);
        u64::from_be_bytes(hash).leading_zeros() >= bits.into()
    }
}

/// Whether a puzzle asks for no more than the protocol allows.
pub(crate) fn is_fair(bits: u8) -> bool {
    bits <= HARDEST
}

fn cookie(secret: &[u8; 32], source: Option<u64>, hash: &M1Hash, bits: u8) -> [u8; 32] {
    let source = source.unwrap_or_default();
    labelled_hash("session/cookie", &[secret, &source.to_le_bytes(), hash, &[bits]])
}

fn is_loaded(rate: f64, unfinished: usize) -> bool {
    unfinished >= UNFINISHED_LOAD || rate >= RATE_LOAD
}

/// One bit more each time the load doubles.
fn difficulty(rate: f64, unfinished: usize) -> u8 {
    let over = (rate / RATE_LOAD).max(unfinished as f64 / UNFINISHED_LOAD as f64).max(1.0);
    EASIEST + (over.log2() as u8).min(HARDEST - EASIEST)
}

impl Rate {
    /// Counts one more; gives the number per second.
    fn count(&mut self, now: Instant) -> f64 {
        self.level = self.now(now) + 1.0;
        self.level
    }

    fn now(&mut self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.level *= (-passed).exp();
        self.level
    }
}

impl Bucket {
    fn full(now: Instant, rate: f64) -> Self {
        Self { at: now, permits: rate }
    }

    fn take(&mut self, now: Instant, rate: f64) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.permits = (self.permits + passed * rate).min(rate);
        if self.permits < 1.0 {
            return false;
        }
        self.permits -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use byway_identity::SeededEntropy;

    use super::*;

    /// The proof that `guard` asks of the m1 with this `hash`, from somebody whose source has no meaning.
    fn solve(guard: &mut Guard, now: Instant, hash: &M1Hash, entropy: &mut SeededEntropy) -> Proof {
        let verdict = guard.judge(now, None, hash, None, UNFINISHED_LOAD, entropy);
        let Verdict::Retry { cookie, bits } = verdict else { panic!("a puzzle, not {verdict:?}") };
        let nonce = (0..).find(|nonce| solves(&cookie, bits, *nonce)).expect("some nonce does");
        Proof { cookie, bits, nonce }
    }

    #[test]
    fn a_solved_puzzle_opens_the_gate_a_few_times_and_no_more() {
        let (now, mut entropy) = (Instant::now(), SeededEntropy::new(1));
        let mut guard = Guard::new(now, &mut entropy);
        let hash = [7; 16];
        let proof = solve(&mut guard, now, &hash, &mut entropy);
        let mut admitted = 0;
        for turn in 0..100 {
            // Across a change of the secret, too, while the old one still counts.
            let now = now + Duration::from_secs(turn);
            let verdict =
                guard.judge(now + SECRET_LIFE / 2, None, &hash, Some(&proof), UNFINISHED_LOAD, &mut entropy);
            admitted += u8::from(verdict == Verdict::Admit);
        }
        assert_eq!(admitted, PROOF_USES);
    }

    #[test]
    fn remembered_proofs_are_capped_and_what_is_forgotten_is_worthless() {
        let (now, mut entropy) = (Instant::now(), SeededEntropy::new(2));
        let mut guard = Guard::new(now, &mut entropy);
        let hash = [7; 16];
        let proof = solve(&mut guard, now, &hash, &mut entropy);
        while guard.judge(now, None, &hash, Some(&proof), UNFINISHED_LOAD, &mut entropy) == Verdict::Admit {}
        for number in 0..3 * PROOFS as u64 {
            let mut other = [0; 16];
            other[..8].copy_from_slice(&number.to_le_bytes());
            assert!(guard.use_proof(now, &other, &mut entropy));
            assert!(guard.used.len() <= PROOFS && guard.last_used.len() <= PROOFS);
        }
        let verdict = guard.judge(now, None, &hash, Some(&proof), UNFINISHED_LOAD, &mut entropy);
        assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
    }
}
