//! Writing frames to a file that `tcpdump` and Wireshark read (the classic pcap form, Ethernet).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

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
