//! Packets of other nodes: checked, judged, merged, and given to the device.

use std::io::IoSlice;
use std::net::Ipv6Addr;
use std::ops::Range;

use byway_identity::Addr;
use byway_session::frame;

use crate::inward::{InwardCounters, Train, Unsealed};
use crate::merge::{self, Growing, SEGMENTS};
use crate::packet::{FIXED, Protocol, Upper, is_whole};
use crate::vnet::{self, Header};
use crate::{Ecn, Gate, Offloads, Sink, checksum};

/// Merges the packets of one train.
pub(crate) struct Injector {
    offloads: Offloads,
    chain: Option<Chain>,
    /// Where the chain's packets are.
    parts: Vec<Range<usize>>,
    /// The last flow that the gate let in, in this train.
    passed: Option<Passed>,
    packets: u64,
    bytes: u64,
}

/// Whose packets they are, and who judges them.
pub(crate) struct Portal<'a> {
    pub(crate) gate: &'a dyn Gate,
    /// Receiver index of the session.
    pub(crate) index: u32,
    /// The node that sent them.
    pub(crate) remote: &'a Addr,
    /// Source and destination that they must have.
    pub(crate) expected: Option<(Ipv6Addr, Ipv6Addr)>,
}

/// A super-packet that grows.
struct Chain {
    index: u32,
    /// Counter of the last frame.
    counter: u64,
    growing: Growing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Passed {
    index: u32,
    protocol: u8,
    ports: [u8; 4],
}

impl Injector {
    pub(crate) fn new(offloads: Offloads) -> Self {
        let parts = Vec::with_capacity(SEGMENTS);
        Self { offloads, chain: None, parts, passed: None, packets: 0, bytes: 0 }
    }

    /// Takes the packet in `unsealed`.
    pub(crate) fn take<S: Sink + ?Sized>(
        &mut self,
        train: &mut Train<'_, S>,
        portal: &Portal<'_>,
        unsealed: &Unsealed,
        bytes: &mut [u8],
        counters: &mut InwardCounters,
    ) {
        let packet = &mut bytes[unsealed.payload.clone()];
        let is_theirs = |(source, destination): (Ipv6Addr, Ipv6Addr)| {
            packet[8..24] == source.octets() && packet[24..FIXED] == destination.octets()
        };
        if !is_whole(packet) || !portal.expected.is_some_and(is_theirs) {
            counters.refused += 1;
            return portal.gate.note_refused(1);
        }
        let is_partial = unsealed.flags & frame::NEEDS_CSUM != 0;
        let upper = Upper::of(packet);
        if is_partial && upper.is_none() {
            counters.refused += 1;
            return portal.gate.note_refused(1);
        }
        let inner = Ecn::of(packet);
        let Some(ecn) = inner.leaving(train.ecn) else {
            counters.congested += 1;
            return;
        };
        if ecn != inner {
            ecn.set(packet);
        }
        let judge = |packet: &[u8]| portal.gate.incoming(train.now, portal.remote, packet);
        let flow = upper.filter(|upper| !merge::is_special(packet, *upper)).and_then(|_| {
            let ports = *packet[FIXED..].first_chunk()?;
            Some(Passed { index: portal.index, protocol: packet[6], ports })
        });
        let has_passed = flow.is_some() && flow == self.passed;
        if !has_passed && !judge(packet) {
            return;
        }
        self.passed = flow;
        self.packets += 1;
        self.bytes += packet.len() as u64;
        let Some(upper) = upper.filter(|_| is_partial) else {
            self.flush(train, bytes);
            let packet = &bytes[unsealed.payload.clone()];
            return train.sink.inject(&[0; vnet::LENGTH], &[IoSlice::new(packet)]);
        };
        if !self.offloads.checksum {
            self.flush(train, bytes);
            let packet = &mut bytes[unsealed.payload.clone()];
            if checksum::finish(packet) {
                train.sink.inject(&[0; vnet::LENGTH], &[IoSlice::new(packet)]);
            }
            return;
        }
        if let (Some(chain), Some(first)) = (&mut self.chain, self.parts.first())
            && unsealed.flags & frame::CONT != 0
            && chain.index == portal.index
            && chain.counter + 1 == unsealed.counter
            && chain.growing.take(&bytes[first.clone()], &bytes[unsealed.payload.clone()], upper)
        {
            chain.counter = unsealed.counter;
            self.parts.push(unsealed.payload.clone());
            return;
        }
        self.flush(train, bytes);
        let growing = Growing::begin(&bytes[unsealed.payload.clone()], upper);
        self.parts.push(unsealed.payload.clone());
        let may_grow = match upper.protocol {
            Protocol::Tcp => self.offloads.tso,
            Protocol::Udp => self.offloads.uso,
        };
        self.chain = Some(Chain { index: portal.index, counter: unsealed.counter, growing });
        if !may_grow {
            self.flush(train, bytes);
        }
    }

    /// The train is over.
    pub(crate) fn finish<S: Sink + ?Sized>(&mut self, train: &mut Train<'_, S>, bytes: &mut [u8]) {
        self.flush(train, bytes);
        self.passed = None;
        if let Some(gate) = train.gate.filter(|_| self.packets > 0) {
            gate.note_received(self.packets, self.bytes);
        }
        (self.packets, self.bytes) = (0, 0);
    }

    /// Injects the chain, if there is one.
    fn flush<S: Sink + ?Sized>(&mut self, train: &mut Train<'_, S>, bytes: &mut [u8]) {
        let Some(Chain { growing, .. }) = self.chain.take() else { return };
        let Some(first) = self.parts.first().cloned() else { return };
        let header: Header = growing.finish(&mut bytes[first]);
        let mut slices = [IoSlice::new(&[]); SEGMENTS];
        let mut skip = 0;
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(&bytes[part.start + skip..part.end]);
            // All but the first lose their headers.
            skip = growing.upper.headers;
        }
        train.sink.inject(&header.emit(), &slices[..self.parts.len().min(SEGMENTS)]);
        self.parts.clear();
    }
}
