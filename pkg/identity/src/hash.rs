//! The two hash functions that everything else is built from.

use shake::{ExtendableOutput, Shake256, Update, XofReader};

/// SHAKE256 (FIPS 202) over the concatenation of `parts`, `N` bytes out.
pub fn shake256<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hasher = Shake256::default();
    for part in parts {
        hasher.update(part);
    }
    let mut out = [0; N];
    hasher.finalize_xof().read(&mut out);
    out
}

/// cSHAKE256 (NIST SP 800-185) with an empty function name and `customization` as S, `N` bytes out.
pub fn cshake256<const N: usize>(customization: &[u8], content: &[u8]) -> [u8; N] {
    let mut hasher = cshake::CShake256::new_with_function_name(&[], customization);
    hasher.update(content);
    let mut out = [0; N];
    hasher.finalize_xof().read(&mut out);
    out
}

/// `H(label, parts…)` of the session documents: SHAKE256 of `inet256/` ‖ label ‖ parts, 32 bytes.
///
/// Every part but the last must have a length that the label fixes, else two lists could hash alike.
pub fn labelled_hash(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Shake256::default();
    hasher.update(b"inet256/");
    hasher.update(label.as_bytes());
    for part in parts {
        hasher.update(part);
    }
    let mut out = [0; 32];
    hasher.finalize_xof().read(&mut out);
    out
}
