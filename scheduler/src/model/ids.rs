//! Identifiers: small numbers handed out by the journal, shown with a letter in front (`j7`, `n3`, `w12`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} id; one looks like `{prefix}7`")]
pub struct IdParseError {
    text: String,
    kind: &'static str,
    prefix: char,
}

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The id with this number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The bare number.
            pub const fn number(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!("{}{}", $prefix, self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix($prefix)
                    .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or_else(|| IdParseError { text: text.to_owned(), kind: $kind, prefix: $prefix })
            }
        }
    };
}

prefixed_id!(
    /// A job, unique for the life of a cluster.
    JobId, 'j', "job"
);
prefixed_id!(
    /// A rented node, unique for the life of a cluster; a replacement is a new node.
    NodeId, 'n', "node"
);
prefixed_id!(
    /// One worker process: one job on one node, from its start to its exit.
    WorkerId, 'w', "worker"
);

/// Counts plans; whoever executes a plan refuses one that is older than the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// Counts the memberships of one job. Every effect of a worker carries it, and an older one is refused (fencing).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MembershipEpoch(pub u64);

impl MembershipEpoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for MembershipEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_through_text() {
        assert_eq!("j7".parse::<JobId>().unwrap(), JobId::new(7));
        assert_eq!(NodeId::new(12).to_string(), "n12");
    }

    #[test]
    fn a_wrong_prefix_or_a_sign_is_refused() {
        for text in ["n7", "j", "j-1", "j+1", "7", "j7x", "j99999999999999999999"] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }
}
