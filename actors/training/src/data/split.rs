//! Which rows of a data set are meant: all, a range, or one side of a cut by hash.

use neap_scheduler::spec::{DataPart, HashSide};

/// Says of each row whether it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cut {
    /// All rows.
    All,
    /// Rows `from..to`.
    Rows { from: u64, to: u64 },
    /// Rows whose hash is below, or not below, a bound.
    Hash { below: u64, side: HashSide },
}

impl Cut {
    /// The cut of a part. Named parts of folders are chosen by file.
    pub(super) fn of(part: &DataPart) -> Self {
        match part {
            DataPart::All | DataPart::Train | DataPart::Test => Self::All,
            DataPart::Rows { from, to } => Self::Rows { from: *from, to: *to },
            DataPart::Hash(split) => {
                let below = u128::from(split.share_ppm) * (1 << 64) / 1_000_000;
                Self::Hash { below: u64::try_from(below).unwrap_or(u64::MAX), side: split.side }
            }
        }
    }

    /// Whether the row with this number is meant; `hash` gives its hash where that decides.
    pub(super) fn takes(&self, row: u64, hash: impl FnOnce() -> u64) -> bool {
        match *self {
            Self::All => true,
            Self::Rows { from, to } => (from..to).contains(&row),
            Self::Hash { below, side } => (hash() < below) == (side == HashSide::Share),
        }
    }

    /// Whether no row from this one on can be meant.
    pub(super) fn ends_before(&self, row: u64) -> bool {
        matches!(*self, Self::Rows { to, .. } if row >= to)
    }
}

/// The hash of a row: a function of its values alone, the same on every machine and in every version.
#[derive(Debug, Clone, Default)]
pub(super) struct RowHash(Vec<u8>);

impl RowHash {
    /// Begins another row.
    pub(super) fn begin(&mut self) {
        self.0.clear();
    }

    /// Takes in bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Takes in a value that is not there.
    pub(super) fn missing(&mut self) {
        self.0.push(0);
    }

    /// Takes in a number; 0 and −0 are one.
    pub(super) fn number(&mut self, number: f64) {
        self.0.push(1);
        self.0.extend_from_slice(&(number + 0.0).to_bits().to_le_bytes());
    }

    /// Takes in a text. One that is a number counts as that number, so that it does not matter how a format stores it.
    pub(super) fn text(&mut self, text: &str) {
        if let Some(number) = text.trim().parse::<f64>().ok().filter(|number| number.is_finite()) {
            return self.number(number);
        }
        self.0.push(2);
        self.0.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }

    /// The hash: the first 64 bits of blake3.
    pub(super) fn finish(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::hash(&self.0).as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use neap_scheduler::spec::HashSplit;
    use proptest::prelude::*;

    use super::*;

    fn cut(share_ppm: u32, side: HashSide) -> Cut {
        Cut::of(&DataPart::Hash(HashSplit { share_ppm, by: None, side }))
    }

    fn hash_of(number: u64) -> u64 {
        let mut hash = RowHash::default();
        hash.number(number as f64);
        hash.text("row");
        hash.finish()
    }

    proptest! {
        #[test]
        fn the_two_sides_are_disjoint_and_complete_and_the_share_is_near(share_ppm in 1u32..1_000_000, seed in 0u64..1 << 40) {
            let (share, rest) = (cut(share_ppm, HashSide::Share), cut(share_ppm, HashSide::Rest));
            let rows = 4_000;
            let mut taken = 0;
            for row in seed..seed + rows {
                let sides = (share.takes(row, || hash_of(row)), rest.takes(row, || hash_of(row)));
                prop_assert_ne!(sides.0, sides.1);
                taken += u64::from(sides.0);
            }
            // Five deviations of a binomial, and one row.
            let expected = f64::from(share_ppm) / 1e6;
            let slack = 5.0 * (rows as f64 * expected * (1.0 - expected)).sqrt() + 1.0;
            prop_assert!((taken as f64 - rows as f64 * expected).abs() <= slack, "{} of {}", taken, rows);
        }

        #[test]
        fn a_larger_share_keeps_the_rows_of_a_smaller_one(one in 1u32..1_000_000, other in 1u32..1_000_000, row in any::<u32>()) {
            let (small, large) = (one.min(other), one.max(other));
            let takes = |ppm| cut(ppm, HashSide::Share).takes(0, || hash_of(u64::from(row)));
            prop_assert!(!takes(small) || takes(large));
        }
    }

    #[test]
    fn the_hash_never_changes_between_versions() {
        assert_eq!(hash_of(7), 15_933_470_234_606_009_903);
    }

    #[test]
    fn numbers_are_the_same_however_they_are_stored() {
        let hash = |take: &dyn Fn(&mut RowHash)| {
            let mut hash = RowHash::default();
            take(&mut hash);
            hash.finish()
        };
        assert_eq!(hash(&|row| row.text("5")), hash(&|row| row.number(5.0)));
        assert_eq!(hash(&|row| row.number(-0.0)), hash(&|row| row.number(0.0)));
        assert_ne!(hash(&|row| row.text("")), hash(&|row| row.missing()));
    }

    #[test]
    fn a_range_ends() {
        let cut = Cut::of(&DataPart::Rows { from: 2, to: 4 });
        let taken: Vec<u64> = (0..6).filter(|&row| cut.takes(row, || 0)).collect();
        assert_eq!(taken, [2, 3]);
        assert!(!cut.ends_before(3) && cut.ends_before(4));
        assert!(!Cut::All.ends_before(u64::MAX));
    }
}
