//! Small texts with a meaning of their own: ranges, processors, memory, intervals, names. Pure text to value; the
//! readers above add the place and the code.

use crate::model::{CpuMillis, MemoryMib, Millis};

/// Processors of which one node could have more than anyone ever rented.
const CPUS_MAX: f64 = 100_000.0;

/// A DNS label: 1 to 63 lowercase letters, digits and `-`, with a letter or digit first and last.
pub fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Digits only: no sign, no space, no underscore.
pub(super) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// `2..8`
pub(super) fn range(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once("..")?;
    Some((whole(from.trim())?, whole(to.trim())?))
}

/// `4`, `4+`, `4..`, `4..8`, each number possibly with decimals. The lower end is what one worker needs.
pub(super) fn cpus(text: &str) -> Option<CpuMillis> {
    let (need, most) = bounds(text.trim());
    let need = cores(need)?;
    let in_order = match most {
        Some(most) => cores(most)? >= need,
        None => true,
    };
    in_order.then_some(need)
}

fn cores(text: &str) -> Option<CpuMillis> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let cores: f64 = if plain { text.parse().ok()? } else { return None };
    let millis = (cores * 1_000.0).round();
    (millis >= 1.0 && cores <= CPUS_MAX).then_some(CpuMillis(millis as u32))
}

/// `16GB`, `16GB..`, `16GB+`, `16GB..64GB`. The lower end is what one worker needs.
pub(super) fn memory(text: &str) -> Option<MemoryMib> {
    let (need, most) = bounds(text.trim());
    let need = bytes(need)?;
    let in_order = match most {
        Some(most) => bytes(most)? >= need,
        None => true,
    };
    (in_order && need > 0).then(|| MemoryMib(need.div_ceil(1 << 20)))
}

fn bytes(text: &str) -> Option<u64> {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let unit: u64 = match unit {
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    let number = number.trim();
    if let Some(number) = whole(number) {
        return number.checked_mul(unit);
    }
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = if plain { number.parse().ok()? } else { return None };
    let bytes = number * unit as f64;
    (bytes < 2f64.powi(63)).then_some(bytes as u64)
}

/// The lower and, where there is one, the upper end of `a`, `a+`, `a..`, `a..b`.
fn bounds(text: &str) -> (&str, Option<&str>) {
    match text.split_once("..") {
        Some((need, "")) => (need.trim(), None),
        Some((need, most)) => (need.trim(), Some(most.trim())),
        None => (text.strip_suffix('+').unwrap_or(text).trim(), None),
    }
}

/// A number and the word behind it: `100steps` is 100 and `steps`.
pub(super) fn counted(text: &str) -> Option<(u64, &str)> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    Some((whole(number)?, unit.trim()))
}

/// `90s`, `10m`, `2h`, `1d`, `1h30m`: whole numbers with their units, the larger unit first, at most a hundred years.
pub(super) fn duration(text: &str) -> Option<Millis> {
    const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    const SECONDS_MAX: u64 = 100 * 365 * 86_400;
    let (mut rest, mut units, mut seconds) = (text, UNITS.iter(), 0u64);
    while !rest.is_empty() {
        let unit_at = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number = whole(&rest[..unit_at])?;
        let unit = rest[unit_at..].chars().next()?;
        let (_, length) = units.find(|(letter, _)| *letter == unit)?;
        seconds = seconds.checked_add(number.checked_mul(*length)?)?;
        rest = &rest[unit_at + unit.len_utf8()..];
    }
    (1..=SECONDS_MAX).contains(&seconds).then(|| Millis::from_secs(seconds))
}

/// A moment after 1970 with its offset from UTC: `2027-01-31T18:00:00Z` (RFC 3339).
pub(super) fn moment(text: &str) -> Option<Millis> {
    let moment: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(moment.as_millisecond()).ok().map(Millis::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        for (text, millis) in
            [("4", 4_000), ("4+", 4_000), ("4..8", 4_000), ("2..", 2_000), ("0.5", 500), ("1.25+", 1_250)]
        {
            assert_eq!(cpus(text), Some(CpuMillis(millis)), "{text}");
        }
        for text in ["", "+", "0", "-1", "8..4", "four", "1e3", "inf", "nan", "..", "..4", ".", "1..2..3", "999999999"]
        {
            assert_eq!(cpus(text), None, "{text}");
        }
    }

    #[test]
    fn memory_sizes() {
        let cases = [
            ("1GiB", 1024),
            ("16GB", 15_259),
            ("16GB..", 15_259),
            ("16GB..64GB", 15_259),
            ("512MiB+", 512),
            ("1kB", 1),
            ("1.5GiB", 1536),
            ("2 GiB", 2048),
            ("1TiB", 1 << 20),
            ("3TB", 2_861_023),
        ];
        for (text, mib) in cases {
            assert_eq!(memory(text), Some(MemoryMib(mib)), "{text}");
        }
        for text in ["", "16", "GB", "0GB", "-1GB", "16gb", "64GB..16GB", "16GB..64", "99999999999999TB", "1e3GB", "."]
        {
            assert_eq!(memory(text), None, "{text}");
        }
    }

    #[test]
    fn durations_and_moments() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1d", 86_400), ("1h30m", 5_400), ("1d2h3m4s", 93_784)] {
            assert_eq!(duration(text), Some(Millis::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "0s", "5", "h", "-1h", "1.5h", "30m1h", "1h1h", "1 h", "99999999d", "18446744073709551615d", "1w"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(moment("1970-01-01T01:00:00+01:00"), Some(Millis::new(0)));
        assert_eq!(moment("2027-01-31T18:00:00Z"), Some(Millis::from_secs(1_801_418_400)));
        for text in ["2027-01-31", "2027-01-31T18:00:00", "1960-01-01T00:00:00Z", "tomorrow"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    #[test]
    fn names() {
        for text in ["a", "7", "fashion-mnist", &"x".repeat(63)] {
            assert!(is_dns_label(text), "{text}");
        }
        for text in ["", "-a", "a-", "A", "a_b", "a.b", "é", &"x".repeat(64)] {
            assert!(!is_dns_label(text), "{text}");
        }
    }
}
