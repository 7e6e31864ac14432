//! A small made-up data set for tests: blurred stripes whose direction and place are the class.

use std::io::Write;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub(crate) const SIDE: u32 = 8;
pub(crate) const CLASSES: u32 = 4;

/// Pixels and classes of `count` samples.
fn samples(count: u32) -> (Vec<u8>, Vec<u8>) {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for _ in 0..count {
        let class = rng.next_u32() % CLASSES;
        for at in 0..SIDE * SIDE {
            let (row, column) = (at / SIDE, at % SIDE);
            let line = if class < 2 { row } else { column };
            let lit = (line < SIDE / 2) == class.is_multiple_of(2);
            let noise = rng.next_u32() % 120;
            pixels.push((noise + if lit { 100 } else { 0 }) as u8);
        }
        labels.push(class as u8);
    }
    (pixels, labels)
}

/// Writes the data set as a pair of IDX files.
pub(crate) fn write_idx(folder: &Path, prefix: &str, count: u32, gzipped: bool) {
    let (pixels, labels) = samples(count);
    write(folder, &format!("{prefix}-images-idx3-ubyte"), &[0x803, count, SIDE, SIDE], &pixels, gzipped);
    write(folder, &format!("{prefix}-labels-idx1-ubyte"), &[0x801, count], &labels, gzipped);
}

fn write(folder: &Path, name: &str, header: &[u32], body: &[u8], gzipped: bool) {
    let mut bytes: Vec<u8> = header.iter().flat_map(|number| number.to_be_bytes()).collect();
    bytes.extend_from_slice(body);
    if gzipped {
        let file = std::fs::File::create(folder.join(format!("{name}.gz"))).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(&bytes).unwrap();
        encoder.finish().unwrap();
    } else {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}
