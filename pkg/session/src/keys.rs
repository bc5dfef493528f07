//! The session keys of the local identity, and the record that tells them.
//!
//! New keys are made at the start and every 7 days; the old ones answer 24 hours longer. They live in memory only:
//! a restart makes new ones, and a record with a higher version. The bundle prekey lasts 30 days.

use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Entropy, SigningKey};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::kem;
use crate::noise;
use crate::record::{Content, Form, HYBRID, KemKey, Prekey, Record, membership};

const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
const KEPT: Duration = Duration::from_secs(24 * 3600);
const PREKEY_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
const PREKEY_KEPT: Duration = Duration::from_secs(130 * 24 * 3600);

/// One generation of static keys.
pub(crate) struct StaticKeys {
    pub(crate) x25519: StaticSecret,
    pub(crate) kem: kem::Secret,
    pub(crate) kem_hash: [u8; 32],
    pub(crate) record: Record,
    pub(crate) short: Bytes,
    pub(crate) whole: Bytes,
    made: Instant,
}

/// A bundle prekey's secrets.
struct PrekeySecret {
    prekey: Prekey,
    _x25519: StaticSecret,
    _kem: kem::Secret,
    made: Instant,
}

/// All generations that still answer.
pub(crate) struct LocalKeys {
    signing: SigningKey,
    group_key: Option<Zeroizing<[u8; 32]>>,
    boot: u64,
    current: StaticKeys,
    old: Option<StaticKeys>,
    /// Oldest first; the last one is in the record.
    prekeys: Vec<PrekeySecret>,
}

impl LocalKeys {
    pub(crate) fn new(
        now: Instant,
        unix: u64,
        boot: u64,
        signing: SigningKey,
        group_key: Option<[u8; 32]>,
        entropy: &mut dyn Entropy,
    ) -> Self {
        let prekey = PrekeySecret::generate(now, 0, entropy);
        let current = StaticKeys::generate(
            now,
            unix,
            unix,
            boot,
            &signing,
            group_key.as_ref(),
            &prekey.prekey,
            entropy,
        );
        let group_key = group_key.map(Zeroizing::new);
        Self { signing, group_key, boot, current, old: None, prekeys: vec![prekey] }
    }

    pub(crate) fn current(&self) -> &StaticKeys {
        &self.current
    }

    /// The keys of the record whose version has this low byte.
    pub(crate) fn by_version(&self, low: u8) -> Option<&StaticKeys> {
        [Some(&self.current), self.old.as_ref()]
            .into_iter()
            .flatten()
            .find(|keys| keys.record.content.version as u8 == low)
    }

    /// Whether the keys of that record still answer.
    pub(crate) fn has_version(&self, version: u64) -> bool {
        [Some(&self.current), self.old.as_ref()]
            .into_iter()
            .flatten()
            .any(|keys| keys.record.content.version == version)
    }

    /// When [`LocalKeys::rotate`] has something to do.
    pub(crate) fn due(&self) -> Instant {
        let next = self.current.made + LIFE;
        self.old.as_ref().map_or(next, |_| next.min(self.current.made + KEPT))
    }

    /// Makes new keys and wipes old ones, as time demands or a clock that jumped; true if the record is a new one.
    pub(crate) fn rotate(&mut self, now: Instant, unix: u64, entropy: &mut dyn Entropy) -> bool {
        let fresh = now >= self.current.made + LIFE || !self.current.record.fits(unix);
        if fresh {
            self.prekeys.retain(|prekey| now < prekey.made + PREKEY_KEPT);
            let last = self.prekeys.last().map(|prekey| (prekey.made, prekey.prekey.id));
            if last.is_none_or(|(made, _)| now + LIFE > made + PREKEY_LIFE) {
                let id = last.map_or(0, |(_, id)| id.wrapping_add(1));
                self.prekeys.push(PrekeySecret::generate(now, id, entropy));
            }
            let prekey = &self.prekeys.last().expect("one was pushed if there was none").prekey;
            // Two generations that answer at one time are told apart by the low byte.
            let last = self.current.record.content.version;
            let version = unix.max(last + 1);
            let version = if version as u8 == last as u8 { version + 1 } else { version };
            let group_key = self.group_key.as_deref();
            let keys = StaticKeys::generate(
                now,
                unix,
                version,
                self.boot,
                &self.signing,
                group_key,
                prekey,
                entropy,
            );
            self.old = Some(std::mem::replace(&mut self.current, keys));
        }
        if self.old.is_some() && now >= self.current.made + KEPT {
            self.old = None;
        }
        fresh
    }
}

#[cfg(test)]
impl LocalKeys {
    /// Gives each the other's secret ML-KEM key; all that is public stays.
    pub(crate) fn swap_kem(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.current.kem, &mut other.current.kem);
    }

    /// Gives each the other's secret X25519 key.
    pub(crate) fn swap_x25519(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.current.x25519, &mut other.current.x25519);
    }
}

impl StaticKeys {
    #[expect(clippy::too_many_arguments, reason = "each is one field of the record")]
    fn generate(
        now: Instant,
        unix: u64,
        version: u64,
        boot: u64,
        signing: &SigningKey,
        group_key: Option<&[u8; 32]>,
        prekey: &Prekey,
        entropy: &mut dyn Entropy,
    ) -> Self {
        let x25519 = StaticSecret::from(*noise::draw(entropy));
        let kem = kem::Secret::generate(entropy);
        let kem_key = KemKey::new(kem.public());
        let kem_hash = kem_key.hash;
        let addr = signing.public().addr();
        let content = Content {
            version,
            boot,
            from: unix,
            until: unix.saturating_add(LIFE.as_secs()),
            x25519: PublicKey::from(&x25519).to_bytes(),
            kem: kem_key,
            prekey: prekey.clone(),
            suites: vec![HYBRID],
            groups: group_key.map(|group_key| membership(group_key, &addr)).into_iter().collect(),
        };
        let record = Record::sign(content, signing);
        let (short, whole) = (record.emit(Form::Short).into(), record.emit(Form::Whole).into());
        Self { x25519, kem, kem_hash, record, short, whole, made: now }
    }
}

impl PrekeySecret {
    fn generate(now: Instant, id: u32, entropy: &mut dyn Entropy) -> Self {
        let x25519 = StaticSecret::from(*noise::draw(entropy));
        let kem = kem::Secret::generate(entropy);
        let prekey =
            Prekey { id, x25519: PublicKey::from(&x25519).to_bytes(), kem: KemKey::new(kem.public()) };
        Self { prekey, _x25519: x25519, _kem: kem, made: now }
    }
}
