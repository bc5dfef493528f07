//! What the engines cost beside the cipher alone, on one thread: `cargo bench -p byway-fastpath --features testing`.
//!
//! Each figure is for one super-packet of about 60 KB in 45 frames, or for 64 packets of 256 bytes.

use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use byway_fastpath::testing::{Memory, OpenGate, PORT, Super, World, place};
use byway_fastpath::{Ecn, Handover, Inward, Offloads, Outward, Sink, Snapshot, Train, vnet};
use byway_identity::SeededEntropy;
use byway_network::{Hop, Picture, Step};
use byway_session::{Ciphers, Use};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const ALL: Offloads = Offloads { checksum: true, tso: true, uso: true };

/// Does nothing with what it gets.
struct Nowhere;

impl Sink for Nowhere {
    fn transmit(&mut self, train: Train<'_>) {
        black_box(train.bytes);
    }

    fn inject(&mut self, header: &[u8; vnet::LENGTH], parts: &[IoSlice<'_>]) {
        black_box((header, parts));
    }

    fn to_portal(&mut self, _: &[u8]) {
        panic!("the slow path is not measured");
    }

    fn to_core(&mut self, _: Handover<'_>) {
        panic!("the core is not measured");
    }
}

/// Everything goes on to one neighbour.
#[derive(Debug)]
struct On(Hop);

impl Picture for On {
    fn carry(&self, _: Hop, _: &mut [u8]) -> Step {
        Step::Forward { hop: self.0, head: 35 }
    }
}

/// What one iteration carries.
struct Load {
    name: &'static str,
    shapes: Vec<Super>,
    /// Bytes of all packets.
    bytes: usize,
    /// Bytes of each packet, and how many there are.
    packet: usize,
    count: usize,
}

fn loads() -> [Load; 2] {
    let small = Super { is_tcp: false, payload: 208, ..Super::default() };
    [
        Load {
            name: "60KB",
            shapes: vec![Super { payload: 45 * 1348, ..Super::default() }],
            bytes: 45 * 1420,
            packet: 1420,
            count: 45,
        },
        Load { name: "64x256B", shapes: vec![small; 64], bytes: 64 * 256, packet: 256, count: 64 },
    ]
}

fn cipher(bench: &mut Criterion, name: &str, algorithm: &'static Algorithm) {
    for load in loads() {
        let key = || LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32]).expect("32 bytes"));
        let key = key();
        let mut group = bench.benchmark_group(format!("{name}/{}", load.name));
        group.throughput(Throughput::Bytes(load.bytes as u64));
        // The frame but for head and tag, padded.
        let body = ((load.packet + 32).next_multiple_of(64)).min(1452) - 28;
        let mut bytes = vec![1; (body + 16) * load.count];
        group.bench_function("cipher alone, seal", |bench| {
            bench.iter(|| {
                for (number, frame) in bytes.chunks_mut(body + 16).enumerate() {
                    let nonce = Nonce::assume_unique_for_key([number as u8; 12]);
                    let (body, tag) = frame.split_at_mut(body);
                    let sealed = key.seal_in_place_separate_tag(nonce, Aad::from([0; 12]), body);
                    tag.copy_from_slice(sealed.expect("it seals").as_ref());
                }
            });
        });
        let mut sealed = bytes.clone();
        for (number, frame) in sealed.chunks_mut(body + 16).enumerate() {
            let nonce = Nonce::assume_unique_for_key([number as u8; 12]);
            let (body, tag) = frame.split_at_mut(body);
            let seal = key.seal_in_place_separate_tag(nonce, Aad::from([0; 12]), body).expect("it seals");
            tag.copy_from_slice(seal.as_ref());
        }
        group.bench_function("cipher alone, open", |bench| {
            bench.iter_batched_ref(
                || sealed.clone(),
                |bytes| {
                    for (number, frame) in bytes.chunks_mut(body + 16).enumerate() {
                        let nonce = Nonce::assume_unique_for_key([number as u8; 12]);
                        let opened = key.open_in_place(nonce, Aad::from([0; 12]), frame);
                        black_box(opened.expect("it opens"));
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
}

struct Ends {
    world: World,
    tables: [Snapshot; 2],
    gates: [OpenGate; 2],
}

impl Ends {
    fn new(ciphers: Ciphers) -> Self {
        let (world, tables) = World::neighbours(ciphers);
        let gates = [0, 1].map(|node| OpenGate::new(world.nodes[node], &world.nodes));
        Self { world, tables, gates }
    }

    fn reads(&self, load: &Load) -> Vec<Vec<u8>> {
        load.shapes.iter().map(|shape| shape.read(&self.world.nodes[0], &self.world.nodes[1])).collect()
    }

    /// One train.
    fn train(&self, out: &mut Outward, reads: &[Vec<u8>]) -> (Vec<u8>, usize) {
        let mut sink = Memory::default();
        for read in reads {
            out.read(self.world.now, &mut read.clone(), &self.tables[0], &self.gates[0], &mut sink);
        }
        out.flush(self.world.now, &mut sink);
        let (_, _, bytes, stride) = sink.trains.remove(0);
        (bytes, stride)
    }
}

fn engines(bench: &mut Criterion, name: &str, ciphers: Ciphers) {
    for load in loads() {
        let ends = Ends::new(ciphers);
        let mut group = bench.benchmark_group(format!("{name}/{}", load.name));
        group.throughput(Throughput::Bytes(load.bytes as u64));
        let mut out = Outward::new(&mut SeededEntropy::new(1));
        let mut reads = ends.reads(&load);
        group.bench_function("split and seal", |bench| {
            bench.iter(|| {
                for read in &mut reads {
                    out.read(ends.world.now, read, &ends.tables[0], &ends.gates[0], &mut Nowhere);
                }
                out.flush(ends.world.now, &mut Nowhere);
            });
        });
        group.bench_function("queue, split and seal", |bench| {
            bench.iter(|| {
                for read in &reads {
                    // The copy stands for what reading costs anyway.
                    out.space()[..read.len()].copy_from_slice(read);
                    out.enqueue(ends.world.now, read.len());
                }
                while out.next(ends.world.now, &ends.tables[0], &ends.gates[0], &mut Nowhere) {}
            });
        });
        let mut into = Inward::new(ALL);
        group.bench_function("open and merge", |bench| {
            bench.iter_batched_ref(
                || ends.train(&mut out, &reads),
                |(bytes, stride)| {
                    let (now, tables, gate) = (ends.world.now, &ends.tables[1], &ends.gates[1]);
                    into.train(
                        now,
                        PORT,
                        place(0),
                        Ecn::NotEct,
                        bytes,
                        *stride,
                        tables,
                        Some(gate),
                        &mut Nowhere,
                    );
                },
                BatchSize::SmallInput,
            );
        });
        assert_eq!(into.counters(), byway_fastpath::InwardCounters::default());
        forward(&mut group, ciphers, &load);
    }
}

/// Through a relay in the middle.
fn forward(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    ciphers: Ciphers,
    load: &Load,
) {
    let mut world = World::new(3, ciphers);
    let [(_, ab), (ba_half, ba)] = world.link(0, 1);
    let [(bc_half, bc), _] = world.link(1, 2);
    let [end, _] = world.session(0, 2, Use::EndToEnd);
    let mut relay = world.snapshot(1);
    world.know_link(&mut relay, &ba_half, &ba);
    world.know_link(&mut relay, &bc_half, &bc);
    relay.picture = Some(Arc::new(On(bc.hop)));
    let mut tables = world.snapshot(0);
    world.know_way(&mut tables, 0, 2, &end, &ab, Some(vec![0; 35].into()));
    let gate = OpenGate::new(world.nodes[0], &world.nodes);
    let mut out = Outward::new(&mut SeededEntropy::new(1));
    let reads: Vec<_> = load
        .shapes
        .iter()
        .map(|shape| {
            // What fits a relayed frame.
            let size = shape.size.min(1281);
            Super { size, ..*shape }.read(&world.nodes[0], &world.nodes[2])
        })
        .collect();
    let mut into = Inward::new(ALL);
    group.bench_function("open, forward and seal", |bench| {
        bench.iter_batched_ref(
            || {
                let mut sink = Memory::default();
                for read in &reads {
                    out.read(world.now, &mut read.clone(), &tables, &gate, &mut sink);
                }
                out.flush(world.now, &mut sink);
                sink.trains
            },
            |trains| {
                for (_, _, bytes, stride) in trains {
                    into.train(
                        world.now,
                        PORT,
                        place(0),
                        Ecn::NotEct,
                        bytes,
                        *stride,
                        &relay,
                        None,
                        &mut Nowhere,
                    );
                }
            },
            BatchSize::SmallInput,
        );
    });
}

fn all(bench: &mut Criterion) {
    cipher(bench, "AES-256-GCM", &AES_256_GCM);
    engines(bench, "AES-256-GCM", Ciphers::AES);
    cipher(bench, "ChaCha20-Poly1305", &CHACHA20_POLY1305);
    engines(bench, "ChaCha20-Poly1305", Ciphers::default());
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2)).warm_up_time(std::time::Duration::from_millis(500));
    targets = all
}
criterion_main!(benches);
