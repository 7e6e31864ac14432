//! The codes of faults in price files, E200 to E210, in one table. A number is never used again for something else.

use std::fmt;

/// What kind of fault it is. The number is stable; the message beside it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PriceCode {
    /// The text is not a price table.
    Table,
    /// A price is not a number.
    NotAPrice,
    /// A price is below zero.
    Negative,
    /// A price is not a number that can be paid: NaN or infinite.
    NotFinite,
    /// A price is zero or above the limit.
    Absurd,
    /// A price has more than six decimals.
    TooFine,
    /// A count or a size is not what a machine can have.
    Size,
    /// A name is missing or has characters that names do not have.
    Name,
    /// A row without any price.
    NoPrice,
    /// The same machine at the same place twice.
    Duplicate,
    /// The book's date is missing or is not a day.
    Date,
}

/// Code, number, what it means.
const TABLE: [(PriceCode, &str, &str); 11] = [
    (PriceCode::Table, "E200", "not a price table: a column is missing or a row has too few or too many"),
    (PriceCode::NotAPrice, "E201", "not a price: prices are plain dollars such as 1.2647, or empty"),
    (PriceCode::Negative, "E202", "a negative price"),
    (PriceCode::NotFinite, "E203", "a price that is NaN or infinite"),
    (PriceCode::Absurd, "E204", "an absurd price: zero, or above the limit of 10,000 dollars an hour"),
    (PriceCode::TooFine, "E205", "a price with more than six decimals: the smallest unit is a millionth of a dollar"),
    (PriceCode::Size, "E206", "not a number of accelerators, processors or GiB that a machine can have"),
    (PriceCode::Name, "E207", "a name is missing or has a space, a `/` or a `*` in it"),
    (PriceCode::NoPrice, "E208", "neither an on-demand nor a spot price"),
    (PriceCode::Duplicate, "E209", "the same instance at the same place a second time"),
    (PriceCode::Date, "E210", "the first line does not say `# date: YYYY-MM-DD`"),
];

impl PriceCode {
    /// Every code, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(code, ..)| *code)
    }

    /// The stable number, for example `E202`.
    pub fn id(self) -> &'static str {
        self.row().1
    }

    /// What it means, in one line.
    pub fn title(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        &TABLE[self as usize]
    }
}

impl fmt::Display for PriceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_codes_and_numbers() {
        for (place, (code, ..)) in TABLE.iter().enumerate() {
            assert_eq!(*code as usize, place);
        }
        assert!(TABLE.windows(2).all(|pair| pair[0].1 < pair[1].1));
    }
}
