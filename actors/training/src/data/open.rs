//! Finds the files of a data set and reads them, gzipped or not.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use neap_scheduler::spec::{DataFormat, DataPart, DataSpec};

use super::{DATA_BYTES_MAX, DataError, Dataset, Fault, csv, idx};

/// What deflate can gain at most; more cannot come out of a gzipped file.
const GZIP_RATIO_MAX: u64 = 1032;

/// First bytes of a gzipped file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The known parts of a folder of the MNIST family.
const TRAIN_PREFIX: &str = "train";
const TEST_PREFIX: &str = "t10k";

/// Reads a data set.
///
/// # Errors
///
/// [`DataError`] with the file, the position and what to do.
pub fn open(spec: &DataSpec) -> Result<Dataset, DataError> {
    let path = Path::new(&spec.path);
    let data = match spec.format {
        DataFormat::Idx => open_idx(path, spec.part)?,
        DataFormat::Csv => open_csv(path, spec)?,
    };
    let data = match spec.part {
        DataPart::Rows { from, to } => cut(data, from, to).map_err(|fault| fault.at(path))?,
        DataPart::All | DataPart::Train | DataPart::Test => data,
    };
    if data.is_empty() {
        return Err(Fault::new("holds no sample", "name a data set with at least one").at(path));
    }
    if data.len() > u32::MAX as usize {
        return Err(Fault::new("holds more than 2³² samples", "cut it with `split: {rows: a..b}`").at(path));
    }
    Ok(data)
}

fn cut(data: Dataset, from: u64, to: u64) -> Result<Dataset, Fault> {
    let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    match range.filter(|&(from, to)| from <= to && to <= data.len()) {
        Some((from, to)) => Ok(data.rows(from, to)),
        None => {
            let what = format!("rows {from}..{to} are not all there: it has {}", data.len());
            Err(Fault::new(what, "change `split: {rows: a..b}`"))
        }
    }
}

fn open_csv(path: &Path, spec: &DataSpec) -> Result<Dataset, DataError> {
    if matches!(spec.part, DataPart::Train | DataPart::Test) {
        let what = "a table has no part called train or test";
        return Err(Fault::new(what, "cut it with `split: {rows: a..b}`").at(path));
    }
    let source = Source::open(path)?;
    csv::read_table(source.content.take(DATA_BYTES_MAX), spec.label.as_deref()).map_err(|fault| fault.at(path))
}

fn open_idx(folder: &Path, part: DataPart) -> Result<Dataset, DataError> {
    let unreadable = |source| DataError::Unreadable { path: folder.display().to_string(), source };
    if !std::fs::metadata(folder).map_err(unreadable)?.is_dir() {
        return Err(Fault::new("is a file", "name the folder that holds the IDX files").at(folder));
    }
    let mut prefixes = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let prefix = name.to_str().and_then(|name| name.strip_suffix(".gz").unwrap_or(name).strip_suffix(IMAGES));
        prefixes.extend(prefix.map(str::to_owned));
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    let prefix = choose_prefix(&prefixes, part).map_err(|fault| fault.at(folder))?;
    let images_path = existing(folder, &format!("{prefix}{IMAGES}"));
    let labels_path = existing(folder, &format!("{prefix}{LABELS}"));
    let images = Source::open(&images_path)?;
    let images = idx::read_images(images.content, images.bytes_max).map_err(|fault| fault.at(&images_path))?;
    let labels = Source::open(&labels_path)?;
    let labels = idx::read_labels(labels.content, labels.bytes_max).map_err(|fault| fault.at(&labels_path))?;
    idx::join(images, &labels).map_err(|fault| fault.at(&images_path))
}

const IMAGES: &str = "-images-idx3-ubyte";
const LABELS: &str = "-labels-idx1-ubyte";

fn choose_prefix(found: &[String], part: DataPart) -> Result<String, Fault> {
    let wanted = match part {
        DataPart::Train => Some(TRAIN_PREFIX),
        DataPart::Test => Some(TEST_PREFIX),
        DataPart::All | DataPart::Rows { .. } => None,
    };
    match (wanted, found) {
        (_, []) => Err(Fault::new(
            "holds no file that ends in `-images-idx3-ubyte` or `-images-idx3-ubyte.gz`",
            "name the folder that holds the IDX files",
        )),
        (Some(wanted), found) if found.iter().any(|prefix| prefix == wanted) => Ok(wanted.to_owned()),
        (Some(wanted), found) => {
            let what = format!("holds no `{wanted}{IMAGES}`; there is: {}", found.join(", "));
            Err(Fault::new(what, "change `split`, or name another folder"))
        }
        (None, [only]) => Ok(only.clone()),
        (None, found) => {
            let what = format!("holds several data sets: {}", found.join(", "));
            Err(Fault::new(what, "say which with `split: train` or `split: test`"))
        }
    }
}

/// The plain file where there is one, else the gzipped one.
fn existing(folder: &Path, name: &str) -> PathBuf {
    let plain = folder.join(name);
    if plain.exists() { plain } else { folder.join(format!("{name}.gz")) }
}

struct Source {
    content: Box<dyn Read>,
    bytes_max: u64,
}

impl Source {
    fn open(path: &Path) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Unreadable { path: path.display().to_string(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut magic = Vec::new();
        file.by_ref().take(2).read_to_end(&mut magic).map_err(unreadable)?;
        let whole = BufReader::with_capacity(1 << 16, std::io::Cursor::new(magic.clone()).chain(file));
        Ok(match magic == GZIP_MAGIC {
            true => {
                Self { content: Box::new(MultiGzDecoder::new(whole)), bytes_max: size.saturating_mul(GZIP_RATIO_MAX) }
            }
            false => Self { content: Box::new(whole), bytes_max: size },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::synthetic;
    use super::*;

    fn spec(path: &Path, format: DataFormat, part: DataPart) -> DataSpec {
        DataSpec { path: path.display().to_string(), format, part, label: None, shuffle_seed: None }
    }

    fn fault(result: Result<Dataset, DataError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_folder_is_read_plain_and_gzipped() {
        let folder = tempfile::tempdir().unwrap();
        synthetic::write_idx(folder.path(), "train", 20, false);
        synthetic::write_idx(folder.path(), "t10k", 10, true);
        let part = |part| open(&spec(folder.path(), DataFormat::Idx, part));
        assert_eq!(part(DataPart::Train).unwrap().len(), 20);
        assert_eq!(part(DataPart::Test).unwrap().len(), 10);
        assert!(fault(part(DataPart::All)).contains("several data sets: t10k, train; say which"));
    }

    #[test]
    fn rows_are_cut_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        synthetic::write_idx(folder.path(), "train", 20, false);
        let rows = |from, to| open(&spec(folder.path(), DataFormat::Idx, DataPart::Rows { from, to }));
        assert_eq!(rows(5, 12).unwrap().len(), 7);
        assert!(fault(rows(5, 21)).contains("rows 5..21 are not all there: it has 20"));
        assert!(fault(rows(5, 5)).contains("holds no sample"));
        assert!(fault(rows(7, 5)).contains("rows 7..5"));
    }

    #[test]
    fn missing_and_damaged_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = open(&spec(&folder.path().join("nothing"), DataFormat::Csv, DataPart::All)).unwrap_err();
        assert!(missing.is_local() && missing.to_string().contains("nothing"));
        assert!(fault(open(&spec(folder.path(), DataFormat::Idx, DataPart::Train))).contains("holds no file"));
        synthetic::write_idx(folder.path(), "train", 20, true);
        let images = folder.path().join("train-images-idx3-ubyte.gz");
        let whole = std::fs::read(&images).unwrap();
        std::fs::write(&images, &whole[..whole.len() / 2]).unwrap();
        let text = fault(open(&spec(folder.path(), DataFormat::Idx, DataPart::Train)));
        assert!(text.contains("train-images-idx3-ubyte.gz: unreadable within 20 images"), "{text}");
    }

    #[test]
    fn a_small_gzipped_file_cannot_claim_much_memory() {
        let folder = tempfile::tempdir().unwrap();
        synthetic::write_idx(folder.path(), "train", 2, false);
        std::fs::remove_file(folder.path().join("train-images-idx3-ubyte")).unwrap();
        let mut header = Vec::new();
        [0x803u32, 0x7fff_ffff, 28, 28].iter().for_each(|number| header.extend(number.to_be_bytes()));
        let file = File::create(folder.path().join("train-images-idx3-ubyte.gz")).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::best());
        encoder.write_all(&header).unwrap();
        encoder.finish().unwrap();
        let text = fault(open(&spec(folder.path(), DataFormat::Idx, DataPart::Train)));
        assert!(text.contains("more than the file can hold"), "{text}");
    }
}
