//! Stretches of time as people write them: `today`, `last month`, `7d`, `2026-11`, `2026-11-01..2026-11-07`. Days and months
//! are those of UTC, as they are for budgets.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use neap_scheduler::model::Millis;
use neap_scheduler::pricing::breakdown::{Stretch, day_of, month_of};

const DAY: Millis = Millis::new(86_400_000);

/// Reads a stretch that is meant at `now`.
///
/// # Errors
///
/// What could be written instead.
pub(super) fn stretch(text: &str, now: Millis) -> Result<Stretch, String> {
    let today = day_of(now);
    let text = text.trim();
    match text {
        "today" => return Ok(Stretch { from: today, until: today + DAY }),
        "yesterday" => return Ok(Stretch { from: Millis::new(today.get() - DAY.get()), until: today }),
        "this month" => return Ok(month_of(now, false)),
        "last month" => return Ok(month_of(now, true)),
        _ => {}
    }
    if let Some((first, last)) = text.split_once("..") {
        let (first, last) = (days(first), days(last));
        if let (Some(first), Some(last)) = (first, last)
            && first.from < last.until
        {
            return Ok(Stretch { from: first.from, until: last.until });
        }
    } else if let Some(days) = days(text) {
        return Ok(days);
    } else if let Ok(time) = super::args::duration(text) {
        return Ok(Stretch { from: Millis::new(now.get().saturating_sub(Millis::from(time).get())), until: now });
    }
    let examples =
        "`today`, `yesterday`, `this month`, `last month`, `7d`, `2026-11`, `2026-11-05` or `2026-11-01..2026-11-07`";
    Err(format!("`{text}` is no stretch of time; write {examples}"))
}

/// One day, or one month.
fn days(text: &str) -> Option<Stretch> {
    if let Ok(date) = text.parse::<Date>() {
        let from = midnight(date)?;
        return Some(Stretch { from, until: from + DAY });
    }
    let first: Date = format!("{text}-01").parse().ok()?;
    (text.len() == "2026-11".len()).then_some(())?;
    Some(month_of(midnight(first)?, false))
}

fn midnight(date: Date) -> Option<Millis> {
    let moment = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
    u64::try_from(moment).ok().map(Millis::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 14:30 UTC.
    const NOW: Millis = Millis::new(1_795_357_800_000);

    fn read(text: &str) -> Option<(i64, i64)> {
        let hours = |moment: Millis| (moment.get() as i64 - NOW.get() as i64) / 3_600_000;
        stretch(text, NOW).ok().map(|stretch| (hours(stretch.from), hours(stretch.until)))
    }

    #[test]
    fn stretches_are_read() {
        for (text, from, until) in [
            ("today", -14, 9),
            ("yesterday", -38, -14),
            ("24h", -24, 0),
            ("2d", -48, 0),
            ("this month", -518, 201),
            ("2026-11", -518, 201),
            ("last month", -1_262, -518),
            ("2026-11-22", -14, 9),
            ("2026-11-21..2026-11-22", -38, 9),
        ] {
            assert_eq!(read(text), Some((from, until)), "{text}");
        }
        for text in ["", "soon", "2026-13", "2026-11-31", "2026-11-22..2026-11-20", "..", "5 bananas", "1960-01-01"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
