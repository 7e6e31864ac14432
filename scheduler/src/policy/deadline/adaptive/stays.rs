//! How long the present stay of capacity will last, given how long it has lasted.
//!
//! Recorded stays are a mixture: most end within minutes, a few last for days. So a stay is one of six classes with
//! exponential lengths. How common each class is comes from the stays that ended, over a prior worth a few stays; which
//! class the present stay belongs to follows from its age. That makes the chance of losing an instance fall with its age.

/// Mean hours of each class: about a factor of three apart, from one probe interval to the longest stays recorded.
const CLASS_HOURS: [f64; 6] = [0.2, 0.6, 2.0, 6.0, 20.0, 60.0];

/// How many ended stays the prior counts for.
const PRIOR_STAYS: f64 = 4.0;

/// The prior share of a class falls with this power of its length: short stays are the more common ones.
const PRIOR_POWER: f64 = 0.7;

/// Four equally likely points of an exponential of mean 1: the means of its quartiles.
const QUARTILE_MEANS: [f64; 4] = [0.137, 0.478, 0.999, 2.386];

/// What is known about the stays of one zone's capacity.
#[derive(Debug, Clone)]
pub(super) struct Stays {
    /// How many stays of each class have ended, in expectation, with the prior.
    ended: [f64; 6],
    /// Hours since the present stay was first seen, if there is one.
    age: f64,
    /// Whether the present stay began before anybody looked.
    began_unseen: bool,
    last: Option<(f64, bool)>,
}

/// The shares of the classes that a present stay may belong to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlook([f64; 6]);

impl Stays {
    /// Nothing was seen.
    pub(super) fn new() -> Self {
        let mut ended = CLASS_HOURS.map(|hours| hours.powf(-PRIOR_POWER));
        let total: f64 = ended.iter().sum();
        ended.iter_mut().for_each(|stays| *stays *= PRIOR_STAYS / total);
        Self { ended, age: 0.0, began_unseen: true, last: None }
    }

    /// Takes in what was seen at `hours`.
    pub(super) fn see(&mut self, hours: f64, available: bool) {
        if let Some((before, was)) = self.last {
            let passed = hours - before;
            self.age += if was { passed } else { 0.0 };
            match (was, available) {
                (true, false) => self.end(passed),
                (false, true) => (self.age, self.began_unseen) = (0.0, false),
                _ => {}
            }
        }
        self.last = Some((hours, available));
    }

    /// The present stay ended within the last `passed` hours: it counts for the classes it may have belonged to.
    fn end(&mut self, passed: f64) {
        let Outlook(mut share) = self.outlook(0.0);
        for (share, hours) in share.iter_mut().zip(CLASS_HOURS) {
            *share *= 1.0 - (-passed / hours).exp();
        }
        let total: f64 = share.iter().sum();
        for (ended, share) in self.ended.iter_mut().zip(share) {
            *ended += share / total.max(f64::MIN_POSITIVE);
        }
        self.age = 0.0;
    }

    /// What the present stay, or one that begins now, will be like if it lasts for `later` hours more.
    ///
    /// A stay that was under way when looked at first is more likely a long one, in proportion to length.
    pub(super) fn outlook(&self, later: f64) -> Outlook {
        let share = |class: usize| {
            let hours = CLASS_HOURS[class];
            let met = if self.began_unseen { hours } else { 1.0 };
            self.ended[class] * met * (-(self.age + later) / hours).exp()
        };
        let shares: [f64; 6] = std::array::from_fn(share);
        let total: f64 = shares.iter().sum();
        Outlook(shares.map(|share| share / total.max(f64::MIN_POSITIVE)))
    }
}

impl Outlook {
    /// The mean of `value` over the hours that the stay still lasts beyond those it is sure of.
    pub(super) fn mean(&self, mut value: impl FnMut(f64) -> f64) -> f64 {
        let mut total = 0.0;
        for (share, hours) in self.0.into_iter().zip(CLASS_HOURS).filter(|&(share, _)| share >= 1e-3) {
            let of_class: f64 = QUARTILE_MEANS.iter().map(|point| value(point * hours)).sum();
            total += share * of_class / QUARTILE_MEANS.len() as f64;
        }
        total
    }

    /// The chance that the stay lasts for `hours` more.
    pub(super) fn survives(&self, hours: f64) -> f64 {
        self.0.into_iter().zip(CLASS_HOURS).map(|(share, class)| share * (-hours / class).exp()).sum()
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn the_longer_a_stay_lasted_the_longer_it_will_last() {
        let mut stays = Stays::new();
        stays.see(0.0, false);
        stays.see(0.1, true);
        let young = stays.outlook(0.0).mean(|hours| hours);
        stays.see(3.0, true);
        let old = stays.outlook(0.0).mean(|hours| hours);
        assert!(old > 2.0 * young, "{young} {old}");
        assert!((stays.outlook(0.0).survives(0.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn short_stays_make_short_stays_likely() {
        let mut stays = Stays::new();
        let before = stays.outlook(0.0).survives(1.0);
        for round in 0..20 {
            stays.see(f64::from(round), round % 2 == 0);
            stays.see(f64::from(round) + 0.1, round % 2 == 0);
        }
        stays.see(20.0, true);
        assert!(stays.outlook(0.0).survives(1.0) < before);
    }
}
