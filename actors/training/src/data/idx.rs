//! IDX, the format of the MNIST family: a magic number, sizes in big-endian, then bytes.

use std::io::Read;

use super::{DATA_BYTES_MAX, Fault, SampleShape};

/// Bytes, three dimensions.
const IMAGES_MAGIC: u32 = 0x0000_0803;
/// Bytes, one dimension.
const LABELS_MAGIC: u32 = 0x0000_0801;

const REPLACE: &str = "replace it by a complete copy of the data set";
const WRONG_FILE: &str = "check that the file is what its name says and not another format";

/// Pixels read at once.
const READ_BYTES: usize = 1 << 20;

/// The images of an IDX file, read some at a time.
pub(super) struct Images<R> {
    source: R,
    count: u64,
    height: u32,
    width: u32,
    read: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Images<R> {
    /// Reads the header. `bytes_max` bounds what the source can hold at most, whatever its header claims.
    pub(super) fn open(mut source: R, bytes_max: u64) -> Result<Self, Fault> {
        let [magic, count, height, width] = read_header(&mut source)?;
        if magic != IMAGES_MAGIC {
            return Err(wrong_magic(magic, IMAGES_MAGIC, "images"));
        }
        if height == 0 || width == 0 {
            return Err(Fault::new(format!("images of {height}×{width} pixels"), WRONG_FILE));
        }
        let images = Self { source, count: u64::from(count), height, width, read: 0, buffer: Vec::new() };
        let body = images.count.checked_mul(images.shape().len() as u64);
        checked_length(body, bytes_max, &images.what())?;
        Ok(images)
    }

    /// How many the header announces.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The shape of each.
    pub(super) fn shape(&self) -> SampleShape {
        SampleShape { height: self.height, width: self.width, channels: 1 }
    }

    /// There must be a label for each.
    pub(super) fn check_labels(&self, labels: &[u8]) -> Result<(), Fault> {
        if self.count == labels.len() as u64 {
            return Ok(());
        }
        let what = format!("{} images, but {} labels in the file beside it", self.count, labels.len());
        Err(Fault::new(what, "both files must come from the same data set"))
    }

    /// The pixels of the next images; nothing after the last.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Fault> {
        let pixels = self.shape().len();
        let rest = self.count - self.read;
        let images = rest.min((READ_BYTES / pixels).max(1) as u64);
        // One byte more than the last image needs, so that left-over bytes show.
        let wanted = images * pixels as u64 + u64::from(images == rest);
        self.buffer.clear();
        let read = (&mut self.source).take(wanted).read_to_end(&mut self.buffer);
        read.map_err(|error| Fault::new(format!("unreadable within {} ({error})", self.what()), REPLACE))?;
        let (found, expected) = (self.buffer.len() as u64, images * pixels as u64);
        if found < expected {
            let (found, all) = (self.read * pixels as u64 + found, self.count * pixels as u64);
            return Err(Fault::new(format!("truncated: {found} of {all} bytes for {}", self.what()), REPLACE));
        }
        if found > expected {
            return Err(Fault::new(format!("bytes are left over after {}", self.what()), REPLACE));
        }
        self.read += images;
        Ok((images > 0).then_some(&self.buffer))
    }

    fn what(&self) -> String {
        format!("{} images of {}×{} pixels", self.count, self.height, self.width)
    }
}

/// Reads labels, one byte each.
pub(super) fn read_labels(mut source: impl Read, bytes_max: u64) -> Result<Vec<u8>, Fault> {
    let [magic, count] = read_header(&mut source)?;
    if magic != LABELS_MAGIC {
        return Err(wrong_magic(magic, LABELS_MAGIC, "labels"));
    }
    read_body(source, Some(u64::from(count)), bytes_max, &format!("{count} labels"))
}

fn read_header<const N: usize>(source: &mut impl Read) -> Result<[u32; N], Fault> {
    let mut numbers = [0; N];
    for (at, number) in numbers.iter_mut().enumerate() {
        let mut bytes = [0; 4];
        source
            .read_exact(&mut bytes)
            .map_err(|error| Fault::new(format!("the header ends at byte {} ({error})", at * 4), REPLACE))?;
        *number = u32::from_be_bytes(bytes);
    }
    Ok(numbers)
}

fn checked_length(length: Option<u64>, bytes_max: u64, what: &str) -> Result<u64, Fault> {
    let possible = length.filter(|&length| length <= bytes_max.min(DATA_BYTES_MAX));
    possible.ok_or_else(|| Fault::new(format!("the header announces {what}, more than the file can hold"), REPLACE))
}

fn read_body(source: impl Read, length: Option<u64>, bytes_max: u64, what: &str) -> Result<Vec<u8>, Fault> {
    let length = checked_length(length, bytes_max, what)?;
    // The vector grows with what is really there, so a header that lies costs nothing.
    let mut body = Vec::new();
    source
        .take(length + 1)
        .read_to_end(&mut body)
        .map_err(|error| Fault::new(format!("unreadable within {what} ({error})"), REPLACE))?;
    match body.len() as u64 {
        found if found < length => Err(Fault::new(format!("truncated: {found} of {length} bytes for {what}"), REPLACE)),
        found if found > length => Err(Fault::new(format!("bytes are left over after {what}"), REPLACE)),
        _ => Ok(body),
    }
}

fn wrong_magic(found: u32, expected: u32, kind: &str) -> Fault {
    Fault::new(format!("starts with {found:#010x}, IDX {kind} start with {expected:#010x}"), WRONG_FILE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn images_file(count: u32, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
        let header = [IMAGES_MAGIC, count, height, width];
        header.iter().flat_map(|number| number.to_be_bytes()).chain(pixels.iter().copied()).collect()
    }

    fn pixels(bytes: &[u8], bytes_max: u64) -> Result<Vec<u8>, Fault> {
        let mut images = Images::open(bytes, bytes_max)?;
        let mut pixels = Vec::new();
        while let Some(some) = images.next()? {
            pixels.extend_from_slice(some);
        }
        Ok(pixels)
    }

    fn fault(bytes: &[u8]) -> String {
        pixels(bytes, 1 << 20).unwrap_err().what
    }

    #[test]
    fn a_good_pair_is_read() {
        let file = images_file(2, 1, 3, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(pixels(&file, 100).unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(read_labels(&[0, 0, 8, 1, 0, 0, 0, 2, 4, 0][..], 100).unwrap(), [4, 0]);
        assert!(pixels(&images_file(0, 1, 3, &[]), 100).unwrap().is_empty());
    }

    #[test]
    fn many_images_come_in_parts() {
        let body: Vec<u8> = (0..3_000_000u32).map(|at| at as u8).collect();
        let file = images_file(3_000, 10, 100, &body);
        assert!(pixels(&file, 1 << 22).unwrap() == body);
        assert!(pixels(&file[..2_000_016], 1 << 22).unwrap_err().what.starts_with("truncated: 2000000 of 3000000"));
    }

    #[test]
    fn each_fault_has_its_sentence() {
        assert!(fault(&[0, 0, 8, 3, 0, 0]).starts_with("the header ends at byte 4"));
        assert!(fault(&images_file(2, 1, 3, &[1, 2, 3, 4])).starts_with("truncated: 4 of 6 bytes"));
        assert!(fault(&images_file(1, 1, 3, &[1, 2, 3, 4])).starts_with("bytes are left over"));
        assert!(fault(&images_file(u32::MAX, u32::MAX, u32::MAX, &[])).contains("more than the file can hold"));
        assert!(fault(&images_file(5, 0, 3, &[])).starts_with("images of 0×3"));
        assert!(fault(b"\x89PNG\r\n\x1a\n12345678").starts_with("starts with 0x89504e47"));
        let file = images_file(2, 1, 1, &[1, 2]);
        let images = Images::open(&file[..], 100).unwrap();
        assert!(images.check_labels(&[0, 1, 2]).unwrap_err().what.starts_with("2 images, but 3 labels"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), good in any::<bool>()) {
            if good && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&IMAGES_MAGIC.to_be_bytes());
            }
            let _ = pixels(&bytes, 1 << 16);
            let _ = read_labels(&bytes[..], 1 << 16);
        }
    }
}
