//! Fuzz input as a source of choices.

/// Reads choices off the front of the fuzzer's bytes; when they are used up, every choice is zero.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether all choices have been made.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// A number below `bound`, or 0 if that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound > 256 { usize::from(self.u16()) % bound } else { usize::from(self.u8()) % bound.max(1) }
    }

    /// Some bytes, as many as a length in front of them says.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.u16()).min(self.bytes.len());
        let (front, back) = self.bytes.split_at(length);
        self.bytes = back;
        front
    }
}
