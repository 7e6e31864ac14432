//! IDX, the format of the MNIST family: a magic number, sizes in big-endian, then bytes.

use std::io::Read;

use super::{CLASSES_MAX, DATA_BYTES_MAX, Dataset, Fault, Features, SampleShape};

/// Bytes, three dimensions.
const IMAGES_MAGIC: u32 = 0x0000_0803;
/// Bytes, one dimension.
const LABELS_MAGIC: u32 = 0x0000_0801;

const REPLACE: &str = "replace it by a complete copy of the data set";
const WRONG_FILE: &str = "check that the file is what its name says and not another format";

/// The images of an IDX file.
#[derive(Debug)]
pub(super) struct Images {
    height: u32,
    width: u32,
    pixels: Vec<u8>,
}

/// Reads images. `bytes_max` bounds what the source can hold at most, whatever its header claims.
pub(super) fn read_images(mut source: impl Read, bytes_max: u64) -> Result<Images, Fault> {
    let [magic, count, height, width] = read_header(&mut source)?;
    if magic != IMAGES_MAGIC {
        return Err(wrong_magic(magic, IMAGES_MAGIC, "images"));
    }
    if height == 0 || width == 0 {
        return Err(Fault::new(format!("images of {height}×{width} pixels"), WRONG_FILE));
    }
    let pixels = u64::from(height) * u64::from(width);
    let body = u64::from(count).checked_mul(pixels);
    let what = format!("{count} images of {height}×{width} pixels");
    Ok(Images { height, width, pixels: read_body(source, body, bytes_max, &what)? })
}

/// Reads labels, one byte each.
pub(super) fn read_labels(mut source: impl Read, bytes_max: u64) -> Result<Vec<u8>, Fault> {
    let [magic, count] = read_header(&mut source)?;
    if magic != LABELS_MAGIC {
        return Err(wrong_magic(magic, LABELS_MAGIC, "labels"));
    }
    read_body(source, Some(u64::from(count)), bytes_max, &format!("{count} labels"))
}

/// Puts images and labels together.
pub(super) fn join(images: Images, labels: &[u8]) -> Result<Dataset, Fault> {
    let shape = SampleShape { height: images.height, width: images.width, channels: 1 };
    let count = images.pixels.len() / shape.len();
    if count != labels.len() {
        let what = format!("{count} images, but {} labels in the file beside it", labels.len());
        return Err(Fault::new(what, "both files must come from the same data set"));
    }
    let classes = labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    debug_assert!(classes <= CLASSES_MAX);
    let names = (0..classes).map(|class| class.to_string()).collect();
    Ok(Dataset::new(
        shape,
        Features::Bytes(images.pixels),
        labels.iter().map(|&label| u16::from(label)).collect(),
        names,
    ))
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

fn read_body(source: impl Read, length: Option<u64>, bytes_max: u64, what: &str) -> Result<Vec<u8>, Fault> {
    let length = length
        .filter(|&length| length <= bytes_max.min(DATA_BYTES_MAX))
        .ok_or_else(|| Fault::new(format!("the header announces {what}, more than the file can hold"), REPLACE))?;
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
    use crate::data::Targets;

    fn images_file(count: u32, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
        let header = [IMAGES_MAGIC, count, height, width];
        header.iter().flat_map(|number| number.to_be_bytes()).chain(pixels.iter().copied()).collect()
    }

    fn fault(bytes: &[u8]) -> String {
        read_images(bytes, 1 << 20).unwrap_err().what
    }

    #[test]
    fn a_good_pair_is_read() {
        let images = read_images(&images_file(2, 1, 3, &[1, 2, 3, 4, 5, 6])[..], 100).unwrap();
        let labels = read_labels(&[0, 0, 8, 1, 0, 0, 0, 2, 4, 0][..], 100).unwrap();
        let data = join(images, &labels).unwrap();
        assert_eq!((data.len(), data.shape().len(), data.target_info().class_names().len()), (2, 3, 5));
        assert_eq!(data.targets(), &Targets::Classes(vec![4, 0]));
    }

    #[test]
    fn each_fault_has_its_sentence() {
        assert!(fault(&[0, 0, 8, 3, 0, 0]).starts_with("the header ends at byte 4"));
        assert!(fault(&images_file(2, 1, 3, &[1, 2, 3, 4])).starts_with("truncated: 4 of 6 bytes"));
        assert!(fault(&images_file(1, 1, 3, &[1, 2, 3, 4])).starts_with("bytes are left over"));
        assert!(fault(&images_file(u32::MAX, u32::MAX, u32::MAX, &[])).contains("more than the file can hold"));
        assert!(fault(&images_file(5, 0, 3, &[])).starts_with("images of 0×3"));
        assert!(fault(b"\x89PNG\r\n\x1a\n12345678").starts_with("starts with 0x89504e47"));
        let images = read_images(&images_file(2, 1, 1, &[1, 2])[..], 100).unwrap();
        assert!(join(images, &[0, 1, 2]).unwrap_err().what.starts_with("2 images, but 3 labels"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), good in any::<bool>()) {
            if good && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&IMAGES_MAGIC.to_be_bytes());
            }
            let _ = read_images(&bytes[..], 1 << 16).map(|images| join(images, &bytes));
            let _ = read_labels(&bytes[..], 1 << 16);
        }
    }
}
