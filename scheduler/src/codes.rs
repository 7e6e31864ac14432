//! Codes of faults: stable numbers that people search for, and what `neap explain E044` prints about them.
//!
//! Each group of codes is an enum of its own, made by the macro below, beside what reports them: job files in
//! [`crate::spec`] (E001 to E099), price books in [`crate::pricing::price_book`] (E200 to E299), tables of the simulated
//! world in [`crate::sim`] (A001 and up). A number is never used again for something else.

use crate::pricing::price_book::PriceCode;
use crate::sim::FaultCode;
use crate::spec::Code;

/// An enum of codes: each variant with its number, what it means in one line, and what to do about it.
macro_rules! codes {
    ($(#[$meta:meta])* enum $name:ident; $($variant:ident = $id:literal, $title:literal, $text:literal;)+) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $title] $variant,)+
        }

        impl $name {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable number, for example `E044`.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id),+ }
            }

            /// What it means, in one line.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            /// What it means and what to do about it, in a few sentences.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            const fn meaning(self) -> $crate::codes::Meaning {
                $crate::codes::Meaning { id: self.id(), title: self.title(), text: self.text() }
            }

            /// What each code means, in the order of their numbers.
            pub(crate) fn meanings() -> impl Iterator<Item = $crate::codes::Meaning> {
                Self::ALL.iter().map(|code| code.meaning())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.id())
            }
        }
    };
}
pub(crate) use codes;

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The stable number.
    pub id: &'static str,
    /// What it means, in one line.
    pub title: &'static str,
    /// What it means and what to do about it, in a few sentences.
    pub text: &'static str,
}

/// What each code of every group means.
pub fn all() -> impl Iterator<Item = Meaning> {
    Code::meanings().chain(PriceCode::meanings()).chain(FaultCode::meanings())
}

/// What the code with this number means, in upper or lower case.
pub fn explain(code: &str) -> Option<Meaning> {
    all().find(|known| known.id.eq_ignore_ascii_case(code.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_sorted_within_their_group() {
        let ids: Vec<&str> = all().map(|known| known.id).collect();
        let backwards = ids.windows(2).filter(|pair| pair[0] >= pair[1]).count();
        assert_eq!(backwards, 1, "only from the last E to the first A: {ids:?}");
        assert!(all().all(|known| known.text.ends_with('.') && !known.title.ends_with('.')), "texts are sentences");
    }

    #[test]
    fn a_code_of_every_group_is_found_by_its_number() {
        for (number, id) in [("E044", "E044"), (" e044 ", "E044"), ("E203", "E203"), ("a009", "A009")] {
            assert_eq!(explain(number).unwrap().id, id);
        }
        assert_eq!(explain("E999"), None);
    }
}
