//! The internet checksum (RFC 1071) of TCP and UDP over IPv6.
//!
//! On the way, and in the device, the field of a packet with an unfinished checksum holds the sum over the
//! pseudo-header, folded but not inverted. Whoever finishes one computes that sum anew: what came is not believed.

use crate::packet::{self, FIXED, Protocol, Upper, put_u16};

/// Finishes the checksum of an IPv6 packet whose TCP or UDP header follows the fixed header at once, whatever its
/// field held. `false`: it is none, and is as it was.
///
/// ```
/// let mut packet = [
///     &[0x60, 0, 0, 0, 0, 10, 17, 64][..], &[0; 15], &[1], &[0; 15], &[1], // from ::1 to ::1
///     &[0, 7, 0, 9, 0, 10, 0, 0], b"hi",
/// ].concat();
/// assert!(byway_fastpath::checksum::finish(&mut packet));
/// assert_eq!(packet[46..48], [0x97, 0x5f]);
/// ```
#[must_use]
pub fn finish(packet: &mut [u8]) -> bool {
    let Some(upper) = packet::is_whole(packet).then(|| Upper::of(packet)).flatten() else { return false };
    begin(packet, upper);
    finish_at(packet, FIXED, upper.protocol.checksum());
    true
}

/// Writes the sum over the pseudo-header into the field, for the packet's present length.
pub(crate) fn begin(packet: &mut [u8], upper: Upper) {
    let sum = fold(pseudo(packet, upper.protocol) + (packet.len() - FIXED) as u64);
    put_u16(packet, upper.checksum(), sum);
}

/// The sum over addresses and protocol: the pseudo-header but for its length.
pub(crate) fn pseudo(packet: &[u8], protocol: Protocol) -> u64 {
    u64::from(fold(add(&packet[8..FIXED]))) + u64::from(protocol.number())
}

/// Finishes a checksum whose field, `offset` bytes behind `start`, holds what else is to be summed.
pub(crate) fn finish_at(packet: &mut [u8], start: usize, offset: usize) {
    let sum = !fold(add(&packet[start..]));
    // For UDP zero would mean that there is none; for the others it is the same.
    put_u16(packet, start + offset, if sum == 0 { 0xffff } else { sum });
}

/// The folded sum.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The sum of big-endian words; a byte that is left over is the upper one of its word.
///
/// The order of bytes does not matter to a sum with end-around carry, so words are added as the machine has them, four
/// bytes at a time, and the result is turned.
fn add(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_ne_bytes(last));
    u64::from(u16::from_be(fold(sum)))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether the checksum is right, the slow and plain way.
    pub(crate) fn is_right(packet: &[u8]) -> bool {
        let protocol = packet[6];
        let mut words = packet[8..40].to_vec();
        words.extend_from_slice(&((packet.len() - 40) as u32).to_be_bytes());
        words.extend_from_slice(&[0, 0, 0, protocol]);
        words.extend_from_slice(&packet[40..]);
        if words.len() % 2 == 1 {
            words.push(0);
        }
        let mut sum = 0u32;
        for word in words.chunks(2) {
            sum += u32::from(u16::from_be_bytes([word[0], word[1]]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum == 0xffff
    }

    #[test]
    fn a_sum_of_zero_is_written_as_ones_since_zero_means_none() {
        let mut packet = vec![0; 48];
        packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 8, 17, 0]);
        // 17 for the protocol, 8 twice for the length: the port makes the sum all ones.
        packet[40..46].copy_from_slice(&[0xff, 0xff - 17 - 8 - 8, 0, 0, 0, 8]);
        assert!(finish(&mut packet));
        assert_eq!(packet[46..], [0xff, 0xff]);
        assert!(is_right(&packet));
    }

    #[test]
    fn what_is_no_whole_tcp_or_udp_packet_is_left_as_it_is() {
        let icmp = [&[0x60, 0, 0, 0, 0, 8, 58, 0][..], &[0; 40]].concat();
        let short = [&[0x60, 0, 0, 0, 0, 9, 17, 0][..], &[0; 40]].concat();
        let tcp = [&[0x60, 0, 0, 0, 0, 20, 6, 0][..], &[0; 52]].concat();
        for packet in [icmp, short, tcp, vec![], vec![0x60; 39]] {
            let mut after = packet.clone();
            assert!(!finish(&mut after));
            assert_eq!(after, packet);
        }
    }

    proptest! {
        #[test]
        fn any_packet_is_right_once_finished(
            ends in any::<[u8; 32]>(),
            ports in any::<[u8; 4]>(),
            rubbish in any::<[u8; 2]>(),
            payload in prop::collection::vec(any::<u8>(), 0..3000),
            is_tcp in any::<bool>(),
        ) {
            let mut upper = ports.to_vec();
            if is_tcp {
                upper.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x10, 1, 1, rubbish[0], rubbish[1], 0, 0]);
            } else {
                upper.extend_from_slice(&((payload.len() + 8) as u16).to_be_bytes());
                upper.extend_from_slice(&rubbish);
            }
            upper.extend_from_slice(&payload);
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, if is_tcp { 6 } else { 17 }, 64];
            packet.extend_from_slice(&ends);
            packet.extend_from_slice(&upper);
            packet::set_length(&mut packet);
            prop_assert!(finish(&mut packet));
            prop_assert!(is_right(&packet));
        }
    }
}
