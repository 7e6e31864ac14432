//! Which files a data set consists of, and their bytes.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use neap_storage::object::CachedObject;

use super::{DataError, Fault};

/// What deflate can gain at most; more cannot come out of a gzipped file.
const GZIP_RATIO_MAX: u64 = 1032;

/// First bytes of a gzipped file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Files of one data set.
const FILES_MAX: usize = 100_000;

/// A file of a data set.
#[derive(Debug)]
pub(super) struct DataFile {
    path: PathBuf,
    /// What people call it: its path, or the URI of the object that it is a copy of.
    shown: String,
    /// The copy that it is.
    copy: Option<CachedObject>,
}

impl DataFile {
    /// A file on a disk.
    pub(super) fn local(path: PathBuf) -> Self {
        Self { shown: path.display().to_string(), path, copy: None }
    }

    /// The copy of an object.
    pub(super) fn copy(uri: String, copy: CachedObject) -> Self {
        Self { path: copy.path.clone(), shown: uri, copy: Some(copy) }
    }

    /// What people call it.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Opens it.
    pub(super) fn open(&self) -> Result<File, DataError> {
        File::open(&self.path).map_err(|error| self.unreadable(error))
    }

    /// Its size.
    pub(super) fn bytes(&self) -> Result<u64, DataError> {
        Ok(std::fs::metadata(&self.path).map_err(|error| self.unreadable(error))?.len())
    }

    /// blake3 of its content.
    pub(super) fn hash(&self) -> Result<[u8; 32], DataError> {
        if let Some(copy) = &self.copy {
            return Ok(copy.hash);
        }
        let (mut file, mut hasher, mut buffer) = (self.open()?, blake3::Hasher::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer).map_err(|error| self.unreadable(error))? {
                0 => return Ok(*hasher.finalize().as_bytes()),
                read => hasher.update(&buffer[..read]),
            };
        }
    }

    pub(super) fn unreadable(&self, source: std::io::Error) -> DataError {
        DataError::Unreadable { path: self.shown.clone(), source }
    }
}

/// The files that `path` means, sorted by name: itself, the files of a folder that end in one of `suffixes` (gzipped or
/// not), or those that match a pattern.
pub(super) fn find(path: &str, suffixes: &[&str]) -> Result<Vec<DataFile>, DataError> {
    let place = Path::new(path);
    let unreadable = |source| DataError::Unreadable { path: path.to_owned(), source };
    let mut found = if path.contains(['*', '?']) {
        matching(path).map_err(|fault| fault.at(path))?
    } else if std::fs::metadata(place).map_err(unreadable)?.is_dir() {
        let entries = std::fs::read_dir(place).map_err(unreadable)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let is_meant = |path: &PathBuf| {
            path.is_file()
                && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| has_suffix(name, suffixes))
        };
        paths.map_err(unreadable)?.into_iter().filter(is_meant).collect()
    } else {
        vec![place.to_owned()]
    };
    found.sort_unstable();
    if found.is_empty() && path.contains(['*', '?']) {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no file matches the pattern");
        return Err(unreadable(source));
    }
    check_count(found.len(), suffixes, path)?;
    Ok(found.into_iter().map(DataFile::local).collect())
}

/// Some, and not too many.
pub(super) fn check_count(found: usize, suffixes: &[&str], place: impl Display) -> Result<(), DataError> {
    match found {
        0 => {
            let what = format!("holds no file that ends in {}", suffixes.join(", "));
            Err(Fault::new(what, "name another folder, or say the `format`").at(place))
        }
        1..=FILES_MAX => Ok(()),
        many => Err(Fault::new(format!("means {many} files"), "put them together into fewer, larger ones").at(place)),
    }
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>, Fault> {
    let help = "write `*` for any text within a name and `?` for one character";
    let paths = glob::glob(pattern).map_err(|error| Fault::new(format!("is no pattern ({error})"), help))?;
    // What may not be looked into matches nothing.
    Ok(paths.flatten().filter(|path| path.is_file()).collect())
}

/// Whether a file's name ends in one of these, gzipped or not.
pub(super) fn has_suffix(name: &str, suffixes: &[&str]) -> bool {
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
    pub(super) fn open(file: &DataFile) -> Result<Self, DataError> {
        let unreadable = |error| file.unreadable(error);
        let mut file = file.open()?;
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
            found.map(|files| files.iter().map(|file| file.path.file_name().unwrap().to_owned()).collect::<Vec<_>>())
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
