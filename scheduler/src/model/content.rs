//! The name of a file by what is in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The blake3 hash of a file's bytes, written `blake3:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ContentHash([u8; 32]);

/// A text that is not a content hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a content hash; one is `blake3:` and 64 hexadecimal digits")]
pub struct ContentHashParseError {
    text: String,
}

impl ContentHash {
    /// What every content hash begins with.
    pub const PREFIX: &str = "blake3:";

    /// The hash with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bare bytes.
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// The digits alone, as in the name of a file.
    pub fn digits(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first digits, enough to tell files apart by eye.
    pub fn short(self) -> String {
        self.digits()[..12].to_owned()
    }

    /// The hash with these digits.
    pub fn from_digits(digits: &str) -> Option<Self> {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
        let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>().filter(|_| rest.is_empty())?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}", Self::PREFIX, self.digits()))
    }
}

impl FromStr for ContentHash {
    type Err = ContentHashParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(Self::PREFIX);
        digits
            .and_then(Self::from_digits)
            .ok_or_else(|| ContentHashParseError { text: text.chars().take(80).collect() })
    }
}

impl From<ContentHash> for String {
    fn from(hash: ContentHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for ContentHash {
    type Error = ContentHashParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hash_reads_back(bytes: [u8; 32]) {
            let hash = ContentHash::new(bytes);
            prop_assert_eq!(hash.to_string().parse(), Ok(hash));
            prop_assert_eq!(ContentHash::from_digits(&hash.digits().to_uppercase()), Some(hash));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let whole = ContentHash::new([7; 32]).digits();
        for text in
            [&whole, "blake3:", "blake3:07", &format!("blake3:{whole}0"), &format!("sha256:{whole}"), "blake3:+7"]
        {
            assert!(text.parse::<ContentHash>().is_err(), "{text}");
        }
    }
}
