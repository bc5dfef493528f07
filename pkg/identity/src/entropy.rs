//! Randomness that is handed in, so that a whole world can be replayed from one seed.

use shake::{ExtendableOutput, Shake256, Update, XofReader};

/// A source of unpredictable bytes.
///
/// Cores never ask the operating system: they draw from what they were given.
pub trait Entropy: Send {
    /// Fills `buffer`.
    fn fill(&mut self, buffer: &mut [u8]);

    /// A uniform 32-bit number.
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// A uniform 64-bit number.
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound` (0 when `bound` is 0), uniform to within 2⁻³² for bounds that fit 32 bits.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

impl<E: Entropy + ?Sized> Entropy for &mut E {
    fn fill(&mut self, buffer: &mut [u8]) {
        (**self).fill(buffer);
    }
}

impl<E: Entropy + ?Sized> Entropy for Box<E> {
    fn fill(&mut self, buffer: &mut [u8]) {
        (**self).fill(buffer);
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&mut self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the system's generator works once the machine has booted");
    }
}

/// A generator for simulations, tests and vectors: SHAKE256 of a seed, read as one long stream.
pub struct SeededEntropy {
    stream: <Shake256 as ExtendableOutput>::Reader,
}

impl SeededEntropy {
    /// The same seed always gives the same bytes.
    pub fn new(seed: u64) -> Self {
        let mut hasher = Shake256::default();
        hasher.update(b"byway/seeded-entropy");
        hasher.update(&seed.to_le_bytes());
        Self { stream: hasher.finalize_xof() }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, buffer: &mut [u8]) {
        self.stream.read(buffer);
    }
}
