//! Where files lie: what a path or URI names, without looking.

use std::fmt;
use std::path::{Path, PathBuf};

/// The schemes of object stores.
pub const REMOTE_SCHEMES: &[&str] = &["s3", "gs", "az"];

/// What stands for other characters in a pattern.
const WILD: [char; 2] = ['*', '?'];

/// A place for files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// On a disk of this machine, or one that is mounted on it.
    Local(PathBuf),
    /// In an object store.
    Remote(RemoteUri),
}

/// A place in an object store: `s3://bucket/some/prefix`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RemoteUri {
    scheme: &'static str,
    bucket: String,
    /// Segments joined by `/`, without one at either end.
    prefix: String,
}

/// Objects of a store: one, those directly below a prefix, or those below it that match a pattern. Which of the first two
/// is meant, only the store knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteObjects {
    place: RemoteUri,
    pattern: Option<String>,
}

/// Why a text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// A store that Neap does not know.
    #[error("`{0}://` is no kind of store that neap knows; use a path, `file://`, `s3://`, `gs://` or `az://`")]
    Scheme(String),
    /// `file://` without an absolute path.
    #[error("`file://` needs an absolute path behind it, as in `file:///data/run`")]
    RelativeFile,
    /// Secrets, or whatever else is before an `@`. It is not repeated in the message.
    #[error("a URI holds no credentials; set them in the environment (AWS_ACCESS_KEY_ID and so on)")]
    Credentials,
    /// Not `bucket/prefix`.
    #[error("`{0}` names no place in an object store; one looks like `s3://bucket/some/prefix`")]
    Malformed(String),
}

impl Location {
    /// The place `name` in this one. `name` is a plain word.
    pub fn join(&self, name: &str) -> Self {
        match self {
            Self::Local(folder) => Self::Local(folder.join(name)),
            Self::Remote(uri) => {
                let segments = [uri.prefix.as_str(), name].into_iter().filter(|segment| !segment.is_empty());
                let prefix = segments.collect::<Vec<_>>().join("/");
                Self::Remote(RemoteUri { prefix, ..uri.clone() })
            }
        }
    }

    /// Reads a path, a `file://` URI or the URI of an object store.
    ///
    /// # Errors
    ///
    /// [`UriError`].
    pub fn parse(text: &str) -> Result<Self, UriError> {
        match text.split_once("://") {
            None => Ok(Self::Local(text.into())),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Local(path.into())),
            Some(("file", _)) => Err(UriError::RelativeFile),
            Some((scheme, rest)) => match REMOTE_SCHEMES.iter().find(|known| **known == scheme) {
                Some(scheme) => RemoteUri::new(scheme, rest).map(Self::Remote),
                None => Err(UriError::Scheme(scheme.chars().take(20).collect())),
            },
        }
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::Local(path.to_owned())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Remote(uri) => uri.fmt(f),
        }
    }
}

impl RemoteUri {
    fn new(scheme: &'static str, rest: &str) -> Result<Self, UriError> {
        if rest.contains('@') {
            return Err(UriError::Credentials);
        }
        let malformed = || UriError::Malformed(format!("{scheme}://{rest}"));
        let mut segments = rest.split('/').filter(|segment| !segment.is_empty());
        let bucket = segments.next().filter(|_| !rest.starts_with('/')).ok_or_else(malformed)?;
        let segments: Vec<&str> = segments.collect();
        let in_bucket = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !bucket.bytes().all(in_bucket) || !segments.iter().all(|segment| is_segment(segment)) {
            return Err(malformed());
        }
        Ok(Self { scheme, bucket: bucket.to_owned(), prefix: segments.join("/") })
    }

    /// `s3`, `gs` or `az`.
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The bucket, or container.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What all keys there begin with; empty for a whole bucket.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl RemoteObjects {
    /// Reads the URI of an object, of a prefix, or with a pattern in it: `*` is any text within a segment, `?` one character.
    ///
    /// # Errors
    ///
    /// [`UriError`].
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let malformed = || UriError::Malformed(text.to_owned());
        let (place, pattern) = match text.find(WILD) {
            None => (text, None),
            Some(at) => {
                let start = text[..at].rfind('/').ok_or_else(malformed)? + 1;
                (&text[..start], Some(&text[start..]))
            }
        };
        let named = |error| match error {
            UriError::Malformed(_) => malformed(),
            other => other,
        };
        let place = match Location::parse(place).map_err(named)? {
            Location::Remote(uri) => uri,
            Location::Local(_) => return Err(malformed()),
        };
        let Some(pattern) = pattern else { return Ok(Self { place, pattern: None }) };
        let segments: Vec<&str> = pattern.split('/').filter(|segment| !segment.is_empty()).collect();
        if segments.iter().any(|segment| segment.contains('@')) {
            return Err(UriError::Credentials);
        }
        match segments.iter().all(|segment| is_segment(&segment.replace(WILD, ""))) {
            true => Ok(Self { place, pattern: Some(segments.join("/")) }),
            false => Err(malformed()),
        }
    }

    /// The object or the prefix; with a pattern, the segments before the first one that has `*` or `?`.
    pub fn place(&self) -> &RemoteUri {
        &self.place
    }

    /// What keys below the place have to match.
    pub fn pattern(&self) -> Option<&str> {
        self.pattern.as_deref()
    }
}

impl fmt::Display for RemoteObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            None => self.place.fmt(f),
            Some(pattern) => write!(f, "{}/{pattern}", self.place),
        }
    }
}

/// Whether a part of a key is written out: nothing that is cut off on the way, or that a URI would need escapes for.
fn is_segment(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'*' | b'\\' | b'%');
    !matches!(segment, "." | "..") && segment.bytes().all(plain)
}

impl fmt::Display for RemoteUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{}://{}{slash}{}", self.scheme, self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for (text, shown) in [
            ("/data/run", "/data/run"),
            ("run", "run"),
            ("file:///data/run", "/data/run"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket//a/b/", "s3://bucket/a/b"),
            ("gs://b-1.x/a", "gs://b-1.x/a"),
            ("az://container/a", "az://container/a"),
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.to_string(), shown);
            assert_eq!(Location::parse(shown).unwrap(), location);
            let slash = if shown == "s3://bucket" { "s3://bucket/j1".to_owned() } else { format!("{shown}/j1") };
            assert_eq!(location.join("j1").to_string(), slash);
        }
    }

    #[test]
    fn objects_are_one_a_prefix_or_a_pattern() {
        let objects = |text: &str| RemoteObjects::parse(text).unwrap();
        let parts = |text: &str| {
            let objects = objects(text);
            (objects.place().to_string(), objects.pattern().map(str::to_owned))
        };
        assert_eq!(parts("s3://b/a.csv"), ("s3://b/a.csv".to_owned(), None));
        assert_eq!(parts("gs://b/d/2013-*.csv"), ("gs://b/d".to_owned(), Some("2013-*.csv".to_owned())));
        assert_eq!(parts("s3://b/*/x?.csv"), ("s3://b".to_owned(), Some("*/x?.csv".to_owned())));
        assert_eq!(objects("s3://b//d//20*/a.csv/").to_string(), "s3://b/d/20*/a.csv");
        for text in ["s3://b*/a", "s3://*", "/data/*.csv", "s3://b/*/../a", "s3://b/a*%20", "s3://b/* .csv"] {
            assert!(matches!(RemoteObjects::parse(text), Err(UriError::Malformed(_))), "{text}");
        }
        for text in ["s3://id:hunter2@b/*.csv", "s3://b/*/id:hunter2@x"] {
            assert_eq!(RemoteObjects::parse(text), Err(UriError::Credentials));
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for text in ["s3://", "s3:///a", "s3://b/../a", "s3://b/a?x=1", "s3://b/*.csv", "s3://b\u{e4}/a", "s3://b/a b"]
        {
            assert!(matches!(Location::parse(text), Err(UriError::Malformed(_))), "{text}");
        }
        assert_eq!(Location::parse("file://a"), Err(UriError::RelativeFile));
        assert_eq!(Location::parse("ftp://a/b"), Err(UriError::Scheme("ftp".to_owned())));
        let error = Location::parse("s3://AKIA:hunter2@bucket/a").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
