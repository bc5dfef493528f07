//! What sealing and opening a frame costs, cipher by cipher, and what it hangs on: ADR 10 shows what came of it.
//!
//! `cargo run --release -p byway-session --example aead` takes about half a minute and prints Markdown. Everything but the
//! last row runs in one thread. Each figure is the fastest hundredth of many short batches, so other load on the machine
//! matters little; with `--each` only the first table is printed.

use std::hint::black_box;
use std::io::Write;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aegis::aegis128l::Aegis128L;
use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Associated data of a frame.
const HEAD: usize = 12;
const TAG: usize = 16;
/// A whole frame on a path of 1,500 bytes.
const FRAME: usize = 1452;
/// Frames of one train: what UDP_SEGMENT takes at a time, and a bit less than 64 KiB.
const TRAIN: usize = 41;
/// With this in `OPENSSL_ia32cap`, aws-lc believes that the processor has no VAES, and takes AES-NI with AVX.
const NO_VAES: &str = "~0x0:~0x20000000000";

/// One cipher and key, as the session crate uses them.
enum Key {
    AwsLc(LessSafeKey),
    Aegis([u8; 16]),
    /// Seals nothing: what the rest of a measurement costs.
    Nothing,
}

#[derive(Clone, Copy)]
enum Cipher {
    Nothing,
    Aes256,
    Aes128,
    ChaCha20,
    Aegis,
}

impl Cipher {
    const ALL: [Self; 4] = [Self::Aes256, Self::Aes128, Self::ChaCha20, Self::Aegis];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Aes256 => "AES-256-GCM",
            Self::Aes128 => "AES-128-GCM",
            Self::ChaCha20 => "ChaCha20-Poly1305",
            Self::Aegis => "AEGIS-128L",
        }
    }

    fn key(self, number: usize) -> Outcome<Key> {
        let bytes = [number as u8 ^ (number >> 8) as u8; 32];
        let (algorithm, length) = match self {
            Self::Nothing => return Ok(Key::Nothing),
            Self::Aegis => return Ok(Key::Aegis([number as u8; 16])),
            Self::Aes256 => (&AES_256_GCM, 32),
            Self::Aes128 => (&AES_128_GCM, 16),
            Self::ChaCha20 => (&CHACHA20_POLY1305, 32),
        };
        let key = UnboundKey::new(algorithm, &bytes[..length]).map_err(|_| "a key of the right length")?;
        Ok(Key::AwsLc(LessSafeKey::new(key)))
    }
}

impl Key {
    fn seal(&self, counter: u64, frame: &mut [u8]) {
        let (head, rest) = frame.split_at_mut(HEAD);
        let (body, tag) = rest.split_at_mut(rest.len() - TAG);
        match self {
            Self::AwsLc(key) => {
                let sealed = key.seal_in_place_separate_tag(nonce(counter), Aad::from(head), body);
                tag.copy_from_slice(sealed.as_ref().map_or(&[0; TAG], AsRef::as_ref));
            }
            Self::Aegis(key) => {
                tag.copy_from_slice(&aegis(key, counter).encrypt_in_place(body, head));
            }
            Self::Nothing => {}
        }
    }

    fn open(&self, counter: u64, frame: &mut [u8]) -> bool {
        let (head, sealed) = frame.split_at_mut(HEAD);
        match self {
            Self::AwsLc(key) => key.open_in_place(nonce(counter), Aad::from(head), sealed).is_ok(),
            Self::Aegis(key) => {
                let Some((body, tag)) = sealed.split_last_chunk_mut::<TAG>() else { return false };
                aegis(key, counter).decrypt_in_place(body, tag, head).is_ok()
            }
            Self::Nothing => true,
        }
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn aegis(key: &[u8; 16], counter: u64) -> Aegis128L<TAG> {
    let mut nonce = [0; 16];
    nonce[8..].copy_from_slice(&counter.to_le_bytes());
    Aegis128L::new(key, &nonce)
}

/// Nanoseconds that one `turn` takes: in the hundredth of the batches that went fastest.
fn measure(mut turn: impl FnMut()) -> f64 {
    // A batch is short, so that few are interrupted; and long beside a look at the clock.
    let mut batch = 1;
    loop {
        let start = Instant::now();
        (0..batch).for_each(|_| turn());
        if start.elapsed() > Duration::from_micros(150) || batch > 1 << 20 {
            break;
        }
        batch *= 2;
    }
    let mut times: Vec<_> = (0..400)
        .map(|_| {
            let start = Instant::now();
            (0..batch).for_each(|_| turn());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(batch)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 100]
}

/// What a call costs with and without associated data, at lengths between which aws-lc changes its ways.
fn steps() -> Outcome<()> {
    let lengths = [16, 64, 128, 256, 512, 768, 1024, 1280, 1424, 2048, 4096];
    println!("| AES-256-GCM, seal, ns | {} |", lengths.map(|length| format!("{length} B")).join(" | "));
    println!("|---|{}", "---|".repeat(lengths.len()));
    let Key::AwsLc(key) = Cipher::Aes256.key(1)? else { return Err("a key of aws-lc".into()) };
    for (name, head) in [("12 B of associated data", &[7; HEAD][..]), ("none", &[])] {
        let mut body = vec![0x5a; 4096];
        let mut counter = 0;
        let times = lengths.map(|length| {
            measure(|| {
                counter += 1;
                let body = black_box(&mut body[..length]);
                black_box(key.seal_in_place_separate_tag(nonce(counter), Aad::from(head), body).is_ok());
            })
        });
        println!("| {name} | {} |", times.map(|time| format!("{time:.0}")).join(" | "));
    }
    Ok(())
}

/// Nanoseconds to seal, and to open, a frame of `length` bytes that lies in the nearest cache.
fn hot(cipher: Cipher, length: usize) -> Outcome<(f64, f64)> {
    let key = cipher.key(1)?;
    let mut frame = vec![0x5a; length];
    let mut counter = 0;
    let seal = measure(|| {
        counter += 1;
        key.seal(counter, black_box(&mut frame));
    });
    key.seal(7, &mut frame);
    let sealed = frame.clone();
    if !key.open(7, &mut frame) {
        return Err("what was sealed does not open".into());
    }
    // Opening needs a sealed frame each time; the copy is measured alone and taken off.
    let copy = measure(|| black_box(&mut frame).copy_from_slice(black_box(&sealed)));
    let both = measure(|| {
        black_box(&mut frame).copy_from_slice(black_box(&sealed));
        black_box(key.open(7, black_box(&mut frame)));
    });
    Ok((seal, both - copy))
}

/// Seconds for a GB of `bytes` each, from nanoseconds.
fn per_gb(nanoseconds: f64, bytes: usize) -> f64 {
    nanoseconds / bytes as f64
}

fn lengths() -> Outcome<()> {
    let lengths = [64, 256, FRAME, 16_384];
    println!(
        "| cipher | seal, open: 64 B | 256 B | 1,452 B | 16,384 B | fixed for a call | s/GB in the long run | s/GB at 1,452 B, seal + open |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for cipher in Cipher::ALL {
        let mut times = Vec::new();
        for length in lengths {
            times.push(hot(cipher, length)?);
        }
        let cells: Vec<_> = times.iter().map(|(seal, open)| format!("{seal:.0}, {open:.0} ns")).collect();
        let both: Vec<_> = times.iter().map(|(seal, open)| seal + open).collect();
        let slope = (both[3] - both[2]) / (lengths[3] - lengths[2]) as f64;
        println!(
            "| {} | {} | {:.0} ns | {:.3} | {:.3} |",
            cipher.name(),
            cells.join(" | "),
            (both[2] - slope * FRAME as f64) / 2.0,
            slope,
            per_gb(both[2], FRAME),
        );
    }
    Ok(())
}

/// Trains of frames side by side in a buffer, sealed and then opened, with something done between; gives s/GB.
struct Trains {
    bytes: Vec<u8>,
    counter: u64,
}

impl Trains {
    fn new(trains: usize) -> Self {
        Self { bytes: vec![0x5a; trains * TRAIN * FRAME], counter: 0 }
    }

    /// Seals all, then opens all, with `keys` in turn.
    fn pass(&mut self, keys: &[Key], mut between: impl FnMut()) {
        for (number, frame) in self.bytes.chunks_exact_mut(FRAME).enumerate() {
            keys[number % keys.len()].seal(self.counter + number as u64, frame);
            between();
        }
        for (number, frame) in self.bytes.chunks_exact_mut(FRAME).enumerate() {
            black_box(keys[number % keys.len()].open(self.counter + number as u64, frame));
            between();
        }
        self.counter += self.bytes.len() as u64;
    }

    fn measure(&mut self, keys: &[Key], mut between: impl FnMut()) -> f64 {
        let length = self.bytes.len();
        per_gb(measure(|| self.pass(keys, &mut between)), length)
    }
}

/// A train goes through the kernel, as it does between two daemons: sealed, sent, received elsewhere, opened.
fn through_the_kernel(key: &Key) -> Outcome<f64> {
    let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    from.connect(to.local_addr()?)?;
    to.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (mut train, mut other) = (vec![0x5a; TRAIN * FRAME], vec![0; TRAIN * FRAME]);
    let mut counter = 0;
    let mut lost = 0;
    let time = measure(|| {
        counter += TRAIN as u64;
        for (number, frame) in (counter..).zip(train.chunks_exact_mut(FRAME)) {
            key.seal(number, frame);
        }
        if from.send(&train).ok().and_then(|_| to.recv(&mut other).ok()) != Some(other.len()) {
            lost += 1;
        }
        for (number, frame) in (counter..).zip(other.chunks_exact_mut(FRAME)) {
            black_box(key.open(number, frame));
        }
    });
    if lost > 0 {
        return Err(format!("{lost} trains were lost on the way").into());
    }
    Ok(per_gb(time, TRAIN * FRAME))
}

fn surroundings() -> Outcome<()> {
    let compared = [Cipher::Nothing, Cipher::Aes256, Cipher::Aes128, Cipher::ChaCha20, Cipher::Aegis];
    println!(
        "| seal + open at 1,452 B, s/GB | AES-256-GCM | AES-128-GCM | ChaCha20-Poly1305 | AEGIS-128L | AES-256 − AEGIS |"
    );
    println!("|---|---|---|---|---|---|");
    // Each measurement is made without sealing as well, and that is taken off.
    let row = |name: &str, measured: &mut dyn FnMut(Cipher) -> Outcome<f64>| {
        let mut all = Vec::new();
        for cipher in compared {
            all.push(measured(cipher)?);
        }
        let own: Vec<_> = all[1..].iter().map(|time| time - all[0]).collect();
        let cells: Vec<_> = own.iter().map(|time| format!("{time:.3}")).collect();
        println!("| {name} (without: {:.3}) | {} | {:.3} |", all[0], cells.join(" | "), own[0] - own[3]);
        Outcome::<()>::Ok(())
    };
    let keys =
        |cipher: Cipher, count| (0..count).map(|number| cipher.key(number)).collect::<Result<Vec<_>, _>>();
    // The same memory for all ciphers: how it lies in the caches makes more of a difference than they do.
    let (mut one, mut some, mut many) = (Trains::new(1), Trains::new(25), Trains::new(140));
    row("one train of 41 frames, one key", &mut |cipher| Ok(one.measure(&keys(cipher, 1)?, || {})))?;
    for count in [1, 10, 100, 1000] {
        row(&format!("25 trains, {count} keys, another for each frame"), &mut |cipher| {
            Ok(some.measure(&keys(cipher, count)?, || {}))
        })?;
    }
    row("140 trains, 8 MB: out of the second cache", &mut |cipher| {
        Ok(many.measure(&keys(cipher, 1)?, || {}))
    })?;
    let (source, mut copy) = (vec![1_u8; 64 << 10], vec![0_u8; 64 << 10]);
    row("64 KiB copied between any two frames", &mut |cipher| {
        Ok(one.measure(&keys(cipher, 1)?, || black_box(&mut copy).copy_from_slice(black_box(&source))))
    })?;
    let mut null = std::fs::File::create("/dev/null")?;
    row("a system call between any two frames", &mut |cipher| {
        // What a write to it gives is of no interest: the way into the kernel and back is.
        Ok(one.measure(&keys(cipher, 1)?, || drop(null.write(b"x"))))
    })?;
    row("each train through a UDP socket", &mut |cipher| through_the_kernel(&cipher.key(1)?))?;
    row("the other core does the same", &mut |cipher| match cipher {
        Cipher::Nothing => Ok(one.measure(&keys(cipher, 1)?, || {})),
        _ => beside_another(&cipher.key(1)?, &cipher.key(2)?),
    })?;
    Ok(())
}

/// As one train with one key, while another thread does the same; counted are batches in which that one really ran.
fn beside_another(key: &Key, other: &Key) -> Outcome<f64> {
    let (passes, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut train = Trains::new(1);
            while !stop.load(Ordering::Relaxed) {
                train.pass(std::slice::from_ref(other), || {});
                passes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut train = Trains::new(1);
        let batches: Vec<_> = (0..4_000)
            .map(|_| {
                let (start, before) = (Instant::now(), passes.load(Ordering::Relaxed));
                (0..10).for_each(|_| train.pass(std::slice::from_ref(key), || {}));
                let theirs = passes.load(Ordering::Relaxed) - before;
                (start.elapsed().as_secs_f64() * 1e9 / 10.0, theirs)
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        let mut times: Vec<_> =
            batches.iter().filter(|(_, theirs)| *theirs >= 8).map(|(time, _)| *time).collect();
        times.sort_by(f64::total_cmp);
        let time = times.get(times.len() / 100).ok_or("there is no second core")?;
        Ok(per_gb(*time, TRAIN * FRAME))
    })
}

fn main() -> Outcome<()> {
    if std::env::args().any(|argument| argument == "--each") {
        return lengths();
    }
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |name: &str| info.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let has = |flag: &str| line("flags").split_whitespace().any(|known| known == flag);
    println!("{}; aes {}, vaes {}, avx512f {}", line("model name"), has("aes"), has("vaes"), has("avx512f"));
    println!("\nWith what aws-lc chooses here:\n");
    lengths()?;
    println!("\nWith `OPENSSL_ia32cap={NO_VAES}` (no VAES, no 512 bits):\n");
    let status =
        Command::new(std::env::current_exe()?).arg("--each").env("OPENSSL_ia32cap", NO_VAES).status()?;
    if !status.success() {
        return Err("the second run failed".into());
    }
    println!();
    steps()?;
    println!();
    surroundings()
}
