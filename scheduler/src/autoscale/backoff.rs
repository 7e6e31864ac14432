//! Offers whose launches fail are left alone for a while, each by itself, and tried again when that has passed.

use crate::model::{Millis, Offer};

/// How long an offer is left alone after one failed launch.
///
/// The first step of the retry back-off of job files: long enough for a provider's own retry, short enough to be a small
/// part of a boot.
pub const LAUNCH_HOLD_FIRST: Millis = Millis::from_secs(10);

/// The longest an offer is left alone. Spot capacity is known to come back within minutes; asking every five costs nothing.
pub const LAUNCH_HOLD_MAX: Millis = Millis::from_secs(5 * 60);

/// The recent launches of one offer. Whoever executes plans keeps one for each offer and puts [`Launches::hold_until`]
/// into the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Launches {
    failures: u32,
    hold_until: Option<Millis>,
}

impl Launches {
    /// After a launch that failed: the hold doubles with each failure in a row. Failures of the same wave, launched before
    /// the hold began, count once.
    #[must_use]
    pub fn failed(self, requested: Millis, now: Millis) -> Self {
        if self.hold_until.is_some_and(|until| requested < until && now < until) {
            return self;
        }
        let hold = LAUNCH_HOLD_FIRST.get() << self.failures.min(16);
        let hold = Millis::new(hold.min(LAUNCH_HOLD_MAX.get()));
        Self { failures: self.failures + 1, hold_until: Some(now + hold) }
    }

    /// After a launch that succeeded.
    #[must_use]
    pub fn succeeded(self) -> Self {
        Self::default()
    }

    /// Not tried again before this.
    pub fn hold_until(self) -> Option<Millis> {
        self.hold_until
    }
}

/// The offers, those that are left alone now as sold out.
pub fn open_offers(offers: &[Offer], now: Millis) -> Vec<Offer> {
    let mut open = offers.to_vec();
    for offer in open.iter_mut().filter(|offer| offer.terms.hold_until.is_some_and(|until| until > now)) {
        offer.available = 0;
    }
    open
}
