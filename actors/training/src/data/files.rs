//! Which files a data set consists of, and their bytes.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::{DataError, Fault};

/// What deflate can gain at most; more cannot come out of a gzipped file.
const GZIP_RATIO_MAX: u64 = 1032;

/// First bytes of a gzipped file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Files of one data set.
const FILES_MAX: usize = 100_000;

/// The files that `path` means, sorted by name: itself, the files of a folder that end in one of `suffixes` (gzipped or
/// not), or those that match a pattern.
pub(super) fn find(path: &str, suffixes: &[&str]) -> Result<Vec<PathBuf>, DataError> {
    let place = Path::new(path);
    let unreadable = |source| DataError::Unreadable { path: path.to_owned(), source };
    let mut found = if path.contains(['*', '?']) {
        matching(path).map_err(|fault| fault.at(place))?
    } else if std::fs::metadata(place).map_err(unreadable)?.is_dir() {
        let entries = std::fs::read_dir(place).map_err(unreadable)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        paths.map_err(unreadable)?.into_iter().filter(|path| path.is_file() && has_suffix(path, suffixes)).collect()
    } else {
        vec![place.to_owned()]
    };
    found.sort_unstable();
    match found.len() {
        0 if path.contains(['*', '?']) => {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no file matches the pattern");
            Err(unreadable(source))
        }
        0 => {
            let what = format!("holds no file that ends in {}", suffixes.join(", "));
            Err(Fault::new(what, "name another folder, or say the `format`").at(place))
        }
        1..=FILES_MAX => Ok(found),
        many => Err(Fault::new(format!("means {many} files"), "put them together into fewer, larger ones").at(place)),
    }
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>, Fault> {
    let help = "write `*` for any text within a name and `?` for one character";
    let paths = glob::glob(pattern).map_err(|error| Fault::new(format!("is no pattern ({error})"), help))?;
    // What may not be looked into matches nothing.
    Ok(paths.flatten().filter(|path| path.is_file()).collect())
}

fn has_suffix(path: &Path, suffixes: &[&str]) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(name);
    suffixes.iter().any(|suffix| name.ends_with(suffix))
}

/// A file's content, unzipped where it is gzipped.
pub(super) struct Source {
    pub(super) content: Box<dyn Read>,
    /// More cannot come out of it.
    pub(super) bytes_max: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Unreadable { path: path.display().to_string(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut magic = Vec::new();
        file.by_ref().take(2).read_to_end(&mut magic).map_err(unreadable)?;
        let zipped = magic == GZIP_MAGIC;
        let whole = BufReader::with_capacity(1 << 16, std::io::Cursor::new(magic).chain(file));
        Ok(match zipped {
            true => {
                Self { content: Box::new(MultiGzDecoder::new(whole)), bytes_max: size.saturating_mul(GZIP_RATIO_MAX) }
            }
            false => Self { content: Box::new(whole), bytes_max: size },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_a_folder_or_a_pattern() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv.gz", "c.txt", "a-2.csv"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(folder.path().join("d.csv")).unwrap();
        let names = |path: &str| {
            let found = find(&folder.path().join(path).display().to_string(), &[".csv"]);
            found.map(|paths| paths.iter().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names("").unwrap(), ["a-2.csv", "a.csv.gz", "b.csv"]);
        assert_eq!(names("c.txt").unwrap(), ["c.txt"]);
        assert_eq!(names("?.csv").unwrap(), ["b.csv"]);
        assert_eq!(names("a*").unwrap(), ["a-2.csv", "a.csv.gz"]);
        assert!(names("z*").unwrap_err().is_local());
        assert!(names("zzz").unwrap_err().is_local());
        let text = names("d.csv").unwrap_err().to_string();
        assert!(text.contains("holds no file that ends in .csv"), "{text}");
    }
}
