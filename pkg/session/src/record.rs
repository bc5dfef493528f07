//! Key records: which session keys an address has at present, signed by its identity key.
//!
//! ```text
//! RECORD  length u16 · key · version u64 · boot u64 · from u64 · until u64 · X25519 32 · KEM
//!         prekey { id u32 · X25519 32 · KEM } · n u8 · suites n × u8 · m u8 · groups m × 32 · signature 64
//! KEM     whole record: ML-KEM-768 key 1,184; short record: its SHAKE256, 32
//! ```
//!
//! A form byte (0 short, 1 whole) precedes it on the wire. Signature and digest are over the short form without
//! signature, so that both forms verify alike.

use byway_identity::{Addr, PublicKey, Signature, SigningKey, labelled_hash};
use byway_wire::{Malformed, Reader, Writer};

use crate::kem;

/// The only suite: X25519 with ML-KEM-768.
pub(crate) const HYBRID: u8 = 1;
/// Slack for clocks that differ.
pub(crate) const SLACK: u64 = 24 * 3600;

const PURPOSE: &str = "inet256/session/record";
const GROUPS: usize = 8;
const SUITES: usize = 8;

/// An ML-KEM key, or the hash that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KemKey {
    pub(crate) hash: [u8; 32],
    pub(crate) whole: Option<Box<[u8; kem::PUBLIC]>>,
}

/// A pair of keys that bundles are sealed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prekey {
    pub(crate) id: u32,
    pub(crate) x25519: [u8; 32],
    pub(crate) kem: KemKey,
}

/// What is signed, but for the key that signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) version: u64,
    pub(crate) boot: u64,
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) x25519: [u8; 32],
    pub(crate) kem: KemKey,
    pub(crate) prekey: Prekey,
    pub(crate) suites: Vec<u8>,
    pub(crate) groups: Vec<[u8; 32]>,
}

/// A key record whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) addr: Addr,
    pub(crate) digest: [u8; 32],
    pub(crate) content: Content,
    key: PublicKey,
    signature: Signature,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("not a record: {0}")]
    Malformed(#[from] Malformed),
    #[error("the record's key is none of ours")]
    Key,
    #[error("the record's signature does not hold")]
    Signature,
}

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Short = 0,
    Whole = 1,
}

impl KemKey {
    pub(crate) fn new(whole: Box<[u8; kem::PUBLIC]>) -> Self {
        Self { hash: kem::public_hash(&whole), whole: Some(whole) }
    }

    fn read(reader: &mut Reader<'_>, form: Form) -> Result<Self, Malformed> {
        match form {
            Form::Short => Ok(Self { hash: reader.array()?, whole: None }),
            Form::Whole => Ok(Self::new(Box::new(reader.array()?))),
        }
    }

    /// In the whole form falls back to the hash where only that is known; [`Record::emit`] sees to it that this
    /// does not happen.
    fn write(&self, writer: &mut Writer, form: Form) {
        match (form, &self.whole) {
            (Form::Whole, Some(key)) => writer.bytes(&**key),
            _ => writer.bytes(&self.hash),
        };
    }
}

impl Record {
    /// Signs `content`.
    pub(crate) fn sign(content: Content, key: &SigningKey) -> Self {
        let public = key.public();
        let signed = body(&public, &content, Form::Short);
        Self {
            addr: public.addr(),
            digest: labelled_hash("session/digest", &[signed.as_slice()]),
            signature: key.sign(PURPOSE, signed.as_slice()),
            content,
            key: public,
        }
    }

    /// Reads a record of either form, and checks its signature; whether it is of use now is another question, see
    /// [`Record::fits`].
    pub(crate) fn open(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        let form = match reader.u8()? {
            0 => Form::Short,
            1 => Form::Whole,
            _ => return Err(Malformed::Invalid("form").into()),
        };
        let length = reader.u16_le()?;
        let key = PublicKey::from_bytes(reader.bytes(length.into())?).map_err(|_| RecordError::Key)?;
        let content = Content {
            version: reader.u64_le()?,
            boot: reader.u64_le()?,
            from: reader.u64_le()?,
            until: reader.u64_le()?,
            x25519: reader.array()?,
            kem: KemKey::read(&mut reader, form)?,
            prekey: Prekey {
                id: reader.u32_le()?,
                x25519: reader.array()?,
                kem: KemKey::read(&mut reader, form)?,
            },
            suites: {
                let count = usize::from(reader.u8()?);
                if count > SUITES {
                    return Err(Malformed::Invalid("suites").into());
                }
                reader.bytes(count)?.to_vec()
            },
            groups: {
                let count = usize::from(reader.u8()?);
                if count > GROUPS {
                    return Err(Malformed::Invalid("groups").into());
                }
                (0..count).map(|_| reader.array()).collect::<Result<_, _>>()?
            },
        };
        let signature = Signature::from_bytes(reader.array()?);
        reader.finish()?;
        let signed = body(&key, &content, Form::Short);
        if !key.verify(PURPOSE, signed.as_slice(), &signature) {
            return Err(RecordError::Signature);
        }
        // FIPS 203 wants the check before a key is used; here it keeps nonsense out of caches too.
        for key in [&content.kem, &content.prekey.kem] {
            if key.whole.as_ref().is_some_and(|key| !kem::is_valid(key)) {
                return Err(RecordError::Key);
            }
        }
        let digest = labelled_hash("session/digest", &[signed.as_slice()]);
        Ok(Self { addr: key.addr(), digest, content, key, signature })
    }

    /// The record in `form`; a record that was read short stays short.
    pub(crate) fn emit(&self, form: Form) -> Vec<u8> {
        let form = if self.is_whole() { form } else { Form::Short };
        let mut writer = Writer::with_capacity(3072);
        writer.u8(form as u8);
        writer.bytes(body(&self.key, &self.content, form).as_slice()).bytes(self.signature.as_bytes());
        writer.finish().to_vec()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.content.kem.whole.is_some() && self.content.prekey.kem.whole.is_some()
    }

    /// Whether its time includes `unix`, give or take a day.
    pub(crate) fn fits(&self, unix: u64) -> bool {
        let Content { from, until, .. } = self.content;
        from <= until && from <= unix.saturating_add(SLACK) && unix <= until.saturating_add(SLACK)
    }

    /// Later records have larger ranks.
    pub(crate) fn rank(&self) -> (u64, u64) {
        (self.content.version, self.content.boot)
    }

    /// Whether it belongs to the closed network of `group_key`; the open one has no members to tell.
    pub(crate) fn is_member(&self, group_key: Option<&[u8; 32]>) -> bool {
        group_key.is_none_or(|group_key| self.content.groups.contains(&membership(group_key, &self.addr)))
    }
}

/// What a member of the network of `group_key` writes into its record.
pub(crate) fn membership(group_key: &[u8; 32], addr: &Addr) -> [u8; 32] {
    labelled_hash("group", &[group_key, addr.as_bytes()])
}

fn body(key: &PublicKey, content: &Content, form: Form) -> Writer {
    let mut writer = Writer::with_capacity(3072);
    let key = key.to_bytes();
    writer.u16_le(key.len() as u16).bytes(&key);
    writer.u64_le(content.version).u64_le(content.boot).u64_le(content.from).u64_le(content.until);
    writer.bytes(&content.x25519);
    content.kem.write(&mut writer, form);
    writer.u32_le(content.prekey.id).bytes(&content.prekey.x25519);
    content.prekey.kem.write(&mut writer, form);
    writer.u8(content.suites.len() as u8).bytes(&content.suites);
    writer.u8(content.groups.len() as u8);
    for group in &content.groups {
        writer.bytes(group);
    }
    writer
}
