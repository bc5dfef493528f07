//! Which packets belong together: a keyed hash, so that nobody can choose flows that meet.

use byway_identity::Entropy;

use crate::packet::{FIXED, is_whole};

/// Hashes flows and peers under a secret.
pub(crate) struct FlowHash {
    secret: [u64; 2],
}

impl FlowHash {
    pub(crate) fn new(entropy: &mut dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        let secret = u128::from_le_bytes(bytes);
        Self { secret: [secret as u64, (secret >> 64) as u64] }
    }

    /// Hashes of the packet's destination, and of its addresses, protocol and ports. What is no IPv6 packet is one flow.
    pub(crate) fn of(&self, packet: &[u8]) -> (u64, u64) {
        if !is_whole(packet) {
            return (0, 0);
        }
        let word = |at: usize| packet[at..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        let peer = self.mix(self.mix(0, word(24)), word(32));
        let ports = match packet[6] {
            6 | 17 => packet[FIXED..].first_chunk().copied().map_or(0, u32::from_le_bytes),
            _ => 0,
        };
        let source = self.mix(self.mix(peer, word(8)), word(16));
        let flow = self.mix(source, u64::from(ports) << 8 | u64::from(packet[6]));
        (peer, flow)
    }

    /// One step: a multiplication of which both halves are used.
    fn mix(&self, state: u64, word: u64) -> u64 {
        let product = u128::from(state ^ self.secret[0]) * u128::from(word ^ self.secret[1] | 1);
        (product as u64 ^ (product >> 64) as u64).rotate_left(23).wrapping_add(self.secret[0])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use byway_identity::SeededEntropy;

    use super::*;

    fn packet(next: u8, to: u8, ports: [u8; 4], rest: u8) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 5, next, 64];
        packet.extend_from_slice(&[2; 31]);
        packet.push(to);
        packet.extend_from_slice(&ports);
        packet.push(rest);
        packet
    }

    #[test]
    fn flows_differ_by_address_protocol_and_ports_and_by_nothing_else() {
        let hash = FlowHash::new(&mut SeededEntropy::new(1));
        let base = hash.of(&packet(6, 1, [1, 2, 3, 4], 0));
        assert_eq!(hash.of(&packet(6, 1, [1, 2, 3, 4], 9)), base);
        let others = [
            packet(17, 1, [1, 2, 3, 4], 0),
            packet(6, 2, [1, 2, 3, 4], 0),
            packet(6, 1, [1, 2, 3, 5], 0),
            packet(6, 1, [2, 1, 3, 4], 0),
        ];
        for other in &others {
            assert_ne!(hash.of(other).1, base.1);
        }
        assert_eq!(hash.of(&others[0]).0, base.0);
        assert_ne!(hash.of(&others[1]).0, base.0);
        assert_ne!(FlowHash::new(&mut SeededEntropy::new(2)).of(&others[0]), hash.of(&others[0]));
        assert_eq!(hash.of(b"no packet"), hash.of(&[]));
    }

    #[test]
    fn the_flows_of_one_host_do_not_meet() {
        let hash = FlowHash::new(&mut SeededEntropy::new(3));
        let flows: HashSet<_> = (0..=u16::MAX)
            .map(|port| hash.of(&packet(6, 1, [port.to_be_bytes()[0], port as u8, 0, 80], 0)).1)
            .collect();
        assert_eq!(flows.len(), 65_536);
    }
}
