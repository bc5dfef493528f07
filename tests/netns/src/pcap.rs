//! Frames in a file that `tcpdump` and Wireshark read (the classic pcap form, Ethernet).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::frame::{Frame, Protocol};

/// A capture file.
#[derive(Debug)]
pub(crate) struct Pcap(BufWriter<File>);

impl Pcap {
    /// Begins a new file.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        // Magic for microseconds, version 2.4, zone, accuracy, longest frame, Ethernet.
        for number in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 0x0004_0000, 1] {
            file.write_all(&number.to_le_bytes())?;
        }
        file.flush()?;
        Ok(Self(file))
    }

    /// Adds a frame that was seen `at` after 1970.
    pub(crate) fn write(&mut self, at: Duration, frame: &[u8]) -> io::Result<()> {
        let length = frame.len() as u32;
        for number in [at.as_secs() as u32, at.subsec_micros(), length, length] {
            self.0.write_all(&number.to_le_bytes())?;
        }
        self.0.write_all(frame)
    }

    /// Makes what was written visible to readers.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The UDP datagrams over IPv4 in a capture file of a wire, each with its sender; one that is cut off at the end is left out.
pub fn datagrams(mut file: &[u8]) -> Vec<(IpAddr, Vec<u8>)> {
    let mut found = Vec::new();
    file = file.get(24..).unwrap_or_default();
    while let Some((head, rest)) = file.split_first_chunk::<16>() {
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some((bytes, rest)) = rest.split_at_checked(length) else { break };
        file = rest;
        found.extend(datagram(bytes));
    }
    found
}

/// Sender and content of a UDP datagram in an Ethernet frame, if that is what it carries.
fn datagram(bytes: &[u8]) -> Option<(IpAddr, Vec<u8>)> {
    let frame = Frame::parse(bytes)?;
    if frame.protocol != Protocol::Udp || !frame.source.is_ipv4() {
        return None;
    }
    let begin = Frame::ETHERNET + usize::from(bytes.get(Frame::ETHERNET)? & 0x0f) * 4;
    let length = bytes.get(begin + 4..begin + 6)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    Some((frame.source, bytes.get(begin + 8..begin + length)?.to_vec()))
}
