//! Where a node stands, and patterns of places as job files write them: `provider/region/zone` with `*`.

use std::fmt;
use std::str::FromStr;

/// Where a node is rented.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The provider.
    pub provider: String,
    /// Its region.
    pub region: String,
    /// The zone, where one is known.
    pub zone: Option<String>,
}

/// `aws/us-east-1/us-east-1a`, or `aws/us-east-1`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.region)?;
        self.zone.iter().try_for_each(|zone| write!(f, "/{zone}"))
    }
}

/// Places that are allowed: one to three parts, each a name in which `*` stands for any run of characters. A part that
/// is left out allows all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacePattern(Vec<String>);

/// A text that is not a pattern of places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a place; write provider/region/zone, such as aws/us-*")]
pub struct PlacePatternError(String);

impl FromStr for PlacePattern {
    type Err = PlacePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<String> = text.split('/').map(ToOwned::to_owned).collect();
        let is_name = |part: &String| !part.is_empty() && !part.contains(char::is_whitespace);
        if parts.len() > 3 || !parts.iter().all(is_name) {
            return Err(PlacePatternError(text.to_owned()));
        }
        Ok(Self(parts))
    }
}

impl PlacePattern {
    /// Whether `place` is allowed. A place without a known zone is only allowed where any zone is.
    pub fn matches(&self, place: &Place) -> bool {
        let names = [Some(&place.provider), Some(&place.region), place.zone.as_ref()];
        self.0.iter().zip(names).all(|(pattern, name)| name.map_or(pattern == "*", |name| glob(pattern, name)))
    }
}

/// Whether `*` in `pattern` can be filled so that it reads `name`.
fn glob(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    let Some((middle, end)) = rest.rsplit_once('*') else {
        return name.ends_with(rest);
    };
    let Some(mut name) = name.strip_suffix(end) else { return false };
    for part in middle.split('*') {
        let Some(found) = name.find(part) else { return false };
        name = &name[found + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_allow_what_they_name() {
        let place = |zone: Option<&str>| Place {
            provider: "aws".to_owned(),
            region: "us-east-1".to_owned(),
            zone: zone.map(ToOwned::to_owned),
        };
        let check = |pattern: &str, zone, expected| {
            let pattern: PlacePattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&place(zone)), expected, "{pattern:?} {zone:?}");
        };
        for pattern in ["aws", "*", "aws/us-*", "aws/*-1", "aws/us-*-1", "*/*/*", "aws/*e*s*1", "aws/us-east-1/*"] {
            check(pattern, Some("us-east-1c"), true);
        }
        for pattern in ["gcp", "aws/eu-*", "aws/us-east", "aws/us-east-1/*a", "aws/*x*", "aws/us-east-1*east-1"] {
            check(pattern, Some("us-east-1c"), false);
        }
        check("aws/us-*/*", None, true);
        check("aws/us-*/us-east-1c", None, false);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "aws//a", "a/b/c/d", "aws/us east"] {
            assert!(text.parse::<PlacePattern>().is_err(), "{text}");
        }
    }
}
