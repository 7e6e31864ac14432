//! Cuts lines of a bill where a stretch of the calendar ends: an hour, a day, a month, a range that was asked for.
//!
//! What a line costs up to a moment is its amount in proportion to the time, rounded down; a piece costs the difference
//! of two such sums. So the pieces sum to the line wherever it is cut, and the same moment always cuts it the same way.

use crate::model::{MicroUsd, Millis};

use super::LedgerLine;

/// The pieces of a line, in order. `end_of` says for a moment when the stretch that holds it ends; an end that is not
/// after the moment ends the cutting.
pub fn cut(line: &LedgerLine, end_of: impl Fn(Millis) -> Millis) -> Vec<LedgerLine> {
    let mut pieces = Vec::new();
    let mut from = line.from;
    loop {
        let end = end_of(from);
        let to = if end > from { end.min(line.to) } else { line.to };
        let amount = spent_until(line, to) - spent_until(line, from);
        pieces.push(LedgerLine { from, to, amount, ..line.clone() });
        if to >= line.to {
            return pieces;
        }
        from = to;
    }
}

/// What a line costs from its beginning to a moment within it.
fn spent_until(line: &LedgerLine, moment: Millis) -> MicroUsd {
    let (part, whole) = (moment.since(line.from).get(), line.to.since(line.from).get());
    if part >= whole {
        // All of a line without a length is spent at its beginning, which is its end.
        return if moment > line.from || whole == 0 { line.amount } else { MicroUsd::ZERO };
    }
    let exact = u128::from(line.amount.get()) * u128::from(part) / u128::from(whole);
    MicroUsd::new(u64::try_from(exact).expect("a part is not more than the whole"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::NodeId;
    use crate::pricing::Category;
    use crate::pricing::budget::Month;

    fn line(from: u64, time: u64, amount: u64) -> LedgerLine {
        LedgerLine {
            node: NodeId::new(1),
            job: None,
            category: Category::Busy,
            from: Millis::new(from),
            to: Millis::new(from + time),
            amount: MicroUsd::new(amount),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn pieces_sum_to_the_line_and_follow_each_other(
            from in 0u64..10_000_000, time in 0u64..10_000_000, amount in any::<u64>(), step in 1u64..5_000_000,
        ) {
            let whole = line(from, time, amount);
            let pieces = cut(&whole, |at| Millis::new((at.get() / step + 1) * step));
            prop_assert_eq!(pieces.iter().map(|piece| piece.amount).sum::<MicroUsd>(), whole.amount);
            prop_assert_eq!((pieces[0].from, pieces[pieces.len() - 1].to), (whole.from, whole.to));
            prop_assert!(pieces.windows(2).all(|pair| pair[0].to == pair[1].from));
        }

        /// Whoever asks for two neighbouring ranges gets what whoever asks for both at once gets.
        #[test]
        fn a_moment_cuts_a_line_the_same_way_whatever_else_does(
            time in 2u64..10_000_000, amount in 0u64..10_000_000, step in 1u64..5_000_000, at in 1u64..10_000_000,
        ) {
            let at = Millis::new(at % (time - 1) + 1);
            let whole = line(0, time, amount);
            let once = cut(&whole, |now| if now < at { at } else { whole.to })[0].amount;
            let every = |now: Millis| {
                let next = Millis::new((now.get() / step + 1) * step);
                if now < at { next.min(at) } else { next }
            };
            let often = cut(&whole, every).into_iter().filter(|piece| piece.to <= at);
            prop_assert_eq!(often.map(|piece| piece.amount).sum::<MicroUsd>(), once);
        }
    }

    #[test]
    fn a_line_over_the_end_of_a_month_is_cut_there() {
        let hour = 3_600_000;
        let whole = line(1_769_904_000_000 - hour, 4 * hour, 400);
        let amounts: Vec<_> = cut(&whole, Month::end_after).iter().map(|piece| piece.amount.get()).collect();
        assert_eq!(amounts, [100, 300]);
    }
}
