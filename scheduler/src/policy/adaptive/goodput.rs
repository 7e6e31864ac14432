//! The goodput policy: GPUs go where they shorten the sum of completion times most.
//!
//! The sum of completion times of jobs whose speed depends on what they hold has a fluid optimum (its Lagrangian over
//! time): there is a price of each GPU at each moment; job `j` weighs its progress by one number over its whole life,
//! the least `(1 + price at its completion · GPUs) / goodput` over its shapes; and at each moment GPUs go to the jobs for
//! which `weight · goodput - price now · GPUs` is largest. Prices are expected to sink from what they are now to what
//! they are in the long run, so a job that will end soon weighs more than one that will still run when the rush is over:
//! shortest remaining time first, softened by how well each job scales. Equal jobs with power-law speed-up give heSRPT
//! (Berg et al., 2020).
//!
//! Goodput is Pollux's (OSDI'21): throughput, by a model fitted online, times statistical efficiency, by the observed
//! gradient. GPU types compete in one market as in Sia (SOSP'23). Remaining work is learnt from epochs done and from
//! jobs of the same application that ended. A restart is paid from the time for which the new size is likely to be kept.
//! [`Goodput::allocate`] is where the flow starts.

use super::allocation::{Allocation, AllocationPolicy, Grant, GrantReason, WaitReason, requested_batch};
use super::history::AppHistory;
use super::market::{Choice, Market, Offer};
use super::options::{OptionBook, ShapeOptions};
use super::prices::Prices;
use super::seats::{Wish, seat_all};
use super::throughput::StepTimeModel;
use super::view::{AppView, Batch, ClusterView, Demand, JobView, Observation, Placement, Shape};

/// What the policy may be tuned by. The defaults are sound; each number says what moving it does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GoodputSettings {
    /// What a GPU-second costs at least, in job-seconds of waiting. Higher saves GPU-hours, lower shortens jobs.
    pub price_floor: f64,
    /// How soon prices are expected to be what they are in the long run, seconds. Lower favours short jobs more.
    pub price_memory_seconds: f64,
    /// Over how long past prices are averaged, seconds.
    pub price_average_seconds: f64,
    /// The long-run price as a share of the average. Lower favours short jobs more.
    pub price_far_share: f64,
    /// How long a size is likely to be kept at most, seconds: what a restart is weighed against.
    pub tenure_seconds: f64,
    /// How much more a job weighs against others, the longer it will take: its surplus over the floor is multiplied by
    /// (1 + hours left)^this. Higher ends long jobs sooner and costs short ones.
    pub tail_exponent: f64,
    /// How much more a GPU costs a job at least, the longer it will take: the floor is multiplied by (1 + hours left)^this.
    /// Higher keeps long jobs narrower, which saves GPU-hours where they are spent.
    pub width_exponent: f64,
    /// How many times the GPUs on which an application was seen its jobs may be given.
    pub explore_factor: u32,
    /// How long a job is taken to need before its application is known, seconds on its best shape.
    pub unknown_seconds: f64,
}

impl Default for GoodputSettings {
    fn default() -> Self {
        Self {
            price_floor: 0.033,
            price_memory_seconds: 7_200.0,
            price_average_seconds: 10_000.0,
            price_far_share: 0.8,
            tenure_seconds: 1_000.0,
            tail_exponent: 0.2,
            width_exponent: 0.25,
            explore_factor: 32,
            unknown_seconds: 3_600.0,
        }
    }
}

/// The policy and what it has learnt.
#[derive(Debug, Clone, Default)]
pub struct Goodput {
    settings: GoodputSettings,
    models: Vec<StepTimeModel>,
    history: Vec<AppHistory>,
    book: OptionBook,
    prices: Prices,
    bound: Bound,
}

/// How close the last decision came to the best possible one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bound {
    /// What its division is worth.
    pub worth: f64,
    /// What no division can exceed.
    pub bound: f64,
}

/// A job as the market sees it.
struct Bidder {
    /// What it could hold, and its goodput there.
    goodputs: Vec<(Shape, f64)>,
    /// What a unit of its progress is worth.
    weight: f64,
    /// The progress it still has to make.
    remaining: f64,
    /// Seconds lost in a restart.
    restart: f64,
    held: Option<Held>,
    /// Offers whose GPUs are too scattered for its gang.
    no_room: Vec<usize>,
}

impl Bidder {
    /// Whether nothing but its age tells it from another.
    fn is_like(&self, other: &Self) -> bool {
        self.weight == other.weight
            && self.remaining == other.remaining
            && self.restart == other.restart
            && self.no_room == other.no_room
            && self.goodputs == other.goodputs
    }

    /// One and the hours it would still take on its fastest shape.
    fn length(&self) -> f64 {
        let fastest = self.goodputs.iter().map(|shape| shape.1).fold(1e-12, f64::max);
        1.0 + self.remaining / fastest / HOUR
    }
}

/// By job: its GPUs and its goodput there.
type Seated = Vec<Option<(Placement, f64)>>;

/// What a bidder holds, or would hold after a first decision.
#[derive(Clone, Copy)]
struct Held {
    offer: usize,
    restart_left: f64,
}

/// A division that is worth less than this more than the present one is not worth the change.
const GAIN_MIN: f64 = 1e-6;
/// Each solution starts the next search; a search that finds nothing better ends it, and each one finds more.
const SEARCHES_MAX: u32 = 16;

impl Goodput {
    /// A policy with these settings that has seen nothing yet.
    pub fn new(settings: GoodputSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// How close the last decision came to the best possible one.
    pub fn last_bound(&self) -> Bound {
        self.bound
    }

    fn grow(&mut self, apps: usize) {
        if self.models.len() < apps {
            self.models.resize_with(apps, StepTimeModel::default);
            self.history.resize_with(apps, AppHistory::default);
        }
    }

    fn bidder(&self, view: &ClusterView<'_>, job: &JobView) -> Bidder {
        let history = &self.history[job.app.0];
        let app = &view.apps[job.app.0];
        let goodputs = self.book.goodputs(view, &self.models[job.app.0], job, history.noise(job));
        let fastest = goodputs.iter().map(|shape| shape.1).fold(0.0, f64::max);
        let unknown = self.settings.unknown_seconds * fastest;
        let remaining = history.remaining(app, job).unwrap_or(unknown).max(0.0);
        let held = job.holding.as_ref().and_then(|holding| {
            let shape = holding.placement.shape();
            let same = |known: &(Shape, f64)| (known.0.gpu_type, known.0.gpus) == (shape.gpu_type, shape.gpus);
            let offer = goodputs.iter().position(same)?;
            Some(Held { offer, restart_left: holding.restart_left })
        });
        let restart = app.restart_seconds;
        let mut bidder = Bidder { goodputs, weight: 0.0, remaining, restart, held, no_room: Vec::new() };
        bidder.weight = self.weight(&bidder);
        bidder
    }

    /// What a unit of progress is worth: the least cost of making it, at the prices of the job's completion. What the
    /// job holds does not count, so that carrying a decision out does not change what the next one weighs.
    fn weight(&self, bidder: &Bidder) -> f64 {
        let cost = |offer: usize| {
            let (shape, goodput) = bidder.goodputs[offer];
            let seconds = bidder.remaining / goodput.max(1e-12);
            let expected = self.prices.expected(shape.gpu_type.0, seconds, &self.settings);
            let price = expected.max(self.floor(bidder));
            let progress = goodput * self.useful_share(bidder, offer, bidder.restart);
            (1.0 + price * f64::from(shape.gpus)) / progress.max(1e-12)
        };
        (0..bidder.goodputs.len()).map(cost).reduce(f64::min).unwrap_or(0.0)
    }

    /// What a GPU-second costs this job at least.
    fn floor(&self, bidder: &Bidder) -> f64 {
        self.settings.price_floor * bidder.length().powf(self.settings.width_exponent)
    }

    /// The part of the time for which an offer is likely to be kept that is left after `lost` seconds of restart.
    fn useful_share(&self, bidder: &Bidder, offer: usize, lost: f64) -> f64 {
        let needs = bidder.remaining / bidder.goodputs[offer].1.max(1e-12);
        let kept = self.settings.tenure_seconds.min(needs + lost).max(1.0);
        (1.0 - lost / kept).max(USEFUL_SHARE_MIN)
    }

    fn offers(&self, bidder: &Bidder) -> Vec<Offer> {
        let tail = bidder.length().powf(self.settings.tail_exponent);
        let own_floor = self.floor(bidder);
        let offer = |(index, (shape, goodput)): (usize, &(Shape, f64))| {
            let gpus = f64::from(shape.gpus);
            let lost = match bidder.held {
                Some(held) if held.offer == index => held.restart_left,
                _ => bidder.restart,
            };
            let worth = bidder.weight * goodput * self.useful_share(bidder, index, lost);
            let seats = !bidder.no_room.contains(&index);
            let value = self.settings.price_floor * gpus + tail * (worth - own_floor * gpus);
            let value = if seats { value } else { f64::NEG_INFINITY };
            Offer { gpu_type: shape.gpu_type.0, gpus: shape.gpus, value }
        };
        bidder.goodputs.iter().enumerate().map(offer).collect()
    }

    /// Divides the GPUs and seats everybody; gangs that find no seats are divided for anew without that offer.
    fn divide_and_seat(&mut self, view: &ClusterView<'_>, bidders: &mut [Bidder]) -> Seated {
        let held: Vec<Option<Held>> = bidders.iter().map(|bidder| bidder.held).collect();
        loop {
            let (choice, prices) = self.divide(view, bidders);
            self.prices.now = prices;
            match Self::seat(view, bidders, &choice) {
                Ok(seated) => return seated,
                Err(left_over) => {
                    for job in left_over {
                        bidders[job].no_room.extend(choice[job]);
                    }
                }
            }
            for (bidder, held) in bidders.iter_mut().zip(&held) {
                bidder.held = *held;
            }
        }
    }

    /// Divides the GPUs; each search starts from the answer of the one before, until that stands.
    fn divide(&mut self, view: &ClusterView<'_>, bidders: &mut [Bidder]) -> (Choice, Vec<f64>) {
        let supply: Vec<u32> = view.gpu_types.iter().map(super::view::GpuTypeView::gpus).collect();
        let held: Vec<Option<Held>> = bidders.iter().map(|bidder| bidder.held).collect();
        let mut choice: Choice = held.iter().map(|held| held.map(|held| held.offer)).collect();
        let mut prices = self.prices.before.clone();
        for _ in 0..SEARCHES_MAX {
            let offers = bidders.iter().map(|bidder| self.offers(bidder)).collect();
            let market = Market { offers, supply: supply.clone(), floor: self.settings.price_floor };
            prices = market.prices(&self.prices.before);
            let fresh = market.solve(&prices);
            let mut kept = choice.clone();
            market.give_out(&mut kept);
            let better = if market.worth(&fresh) > market.worth(&kept) + GAIN_MIN { fresh } else { kept };
            self.bound = Bound { worth: market.worth(&better), bound: market.bound(&prices) };
            if better == choice {
                break;
            }
            for ((bidder, taken), held) in bidders.iter_mut().zip(&better).zip(&held) {
                bidder.held = match held {
                    Some(held) if *taken == Some(held.offer) => Some(*held),
                    _ => taken.map(|offer| Held { offer, restart_left: bidder.restart }),
                };
            }
            choice = better;
        }
        oldest_first(bidders, &held, &mut choice);
        (choice, prices)
    }
}

/// Of jobs that are alike and hold nothing, gives what was divided among them to the older first.
fn oldest_first(bidders: &[Bidder], held: &[Option<Held>], choice: &mut Choice) {
    let waiting: Vec<usize> = (0..choice.len()).filter(|job| held[*job].is_none()).collect();
    for (position, older) in waiting.iter().enumerate() {
        for younger in &waiting[position + 1..] {
            let goodput = |job: usize| choice[job].map(|offer| bidders[job].goodputs[offer].1);
            if bidders[*older].is_like(&bidders[*younger]) && goodput(*younger) > goodput(*older) {
                choice.swap(*older, *younger);
            }
        }
    }
}

const HOUR: f64 = 3600.0;
/// Even a job whose restart takes longer than its work is worth starting when GPUs are free.
const USEFUL_SHARE_MIN: f64 = 0.01;

impl AllocationPolicy for Goodput {
    fn name(&self) -> &'static str {
        "goodput"
    }

    fn sizes_jobs(&self) -> bool {
        true
    }

    fn observe(&mut self, view: &ClusterView<'_>, seen: &Observation) {
        self.grow(view.apps.len());
        match *seen {
            Observation::Step { app, shape, local_batch, step_seconds, .. } => {
                self.models[app.0].see(shape, local_batch, step_seconds);
            }
            Observation::Gradient { app, epoch, batch, gradient } => {
                self.history[app.0].gradient_seen(epoch, batch, gradient);
            }
            Observation::Finished { app, progress, .. } => self.history[app.0].finished(progress),
        }
    }

    fn allocate(&mut self, view: &ClusterView<'_>) -> Allocation {
        self.grow(view.apps.len());
        for job in view.jobs {
            self.history[job.app.0].see(job);
        }
        self.book.refresh(view, &self.models, self.settings.explore_factor);
        self.prices.advance(view.now, view.gpu_types.len(), &self.settings);
        let mut bidders: Vec<Bidder> = view.jobs.iter().map(|job| self.bidder(view, job)).collect();
        let seated = self.divide_and_seat(view, &mut bidders);
        self.explain(view, &bidders, seated)
    }

    fn batch(&self, app: &AppView, job: &JobView, placement: &Placement) -> Batch {
        let (Some(model), Some(history)) = (self.models.get(job.app.0), self.history.get(job.app.0)) else {
            return requested_batch(app, job, placement);
        };
        if matches!(job.demand, Demand::Rigid { .. }) {
            return requested_batch(app, job, placement);
        }
        match ShapeOptions::elastic(app, model, placement.shape()) {
            Some(options) => options.best(history.noise(job)).1,
            None => requested_batch(app, job, placement),
        }
    }
}

impl Goodput {
    /// Seats what was divided. `Err` is the jobs whose gangs do not fit on the nodes although there are GPUs enough.
    fn seat(view: &ClusterView<'_>, bidders: &[Bidder], choice: &Choice) -> Result<Seated, Vec<usize>> {
        let taken = |job: usize| choice[job].map(|offer| bidders[job].goodputs[offer]);
        let chosen: Vec<(usize, (Shape, f64))> = (0..choice.len()).filter_map(|job| Some((job, taken(job)?))).collect();
        let held = |job: usize| view.jobs[job].holding.as_ref().map(|holding| &holding.placement);
        let wishes: Vec<Wish<'_>> =
            chosen.iter().map(|(job, (shape, _))| Wish { shape: *shape, held: held(*job) }).collect();
        let mut seated = vec![None; choice.len()];
        let mut left_over = Vec::new();
        for ((job, (_, goodput)), placement) in chosen.iter().zip(seat_all(view.gpu_types, &wishes)) {
            match placement {
                Some(placement) => seated[*job] = Some((placement, *goodput)),
                None => left_over.push(*job),
            }
        }
        if left_over.is_empty() { Ok(seated) } else { Err(left_over) }
    }

    /// Gives every job its GPUs, or none, with the reason.
    fn explain(&self, view: &ClusterView<'_>, bidders: &[Bidder], seated: Seated) -> Allocation {
        let mut allocation = Allocation::default();
        for ((job, bidder), seat) in view.jobs.iter().zip(bidders).zip(seated) {
            let Some((placement, goodput)) = seat else {
                allocation.waiting.insert(job.id, self.why_not(bidder));
                continue;
            };
            let reason = match job.holding.as_ref().map(|holding| &holding.placement) {
                None => GrantReason::Starts { goodput },
                Some(same) if *same == placement => GrantReason::Keeps,
                Some(other) if other.shape() == placement.shape() => GrantReason::MakesRoom,
                Some(_) => GrantReason::Rescales { goodput },
            };
            allocation.grants.insert(job.id, Grant { placement, reason });
        }
        allocation
    }

    fn why_not(&self, bidder: &Bidder) -> WaitReason {
        if let Some(offer) = bidder.no_room.first() {
            return WaitReason::Scattered { need: bidder.goodputs[*offer].0.gpus };
        }
        let bids = bidder.goodputs.iter().map(|(shape, goodput)| {
            let bid = bidder.weight * goodput / f64::from(shape.gpus);
            (bid, self.prices.now[shape.gpu_type.0])
        });
        let best = bids.max_by(|a, b| (a.0 / a.1.max(1e-12)).total_cmp(&(b.0 / b.1.max(1e-12))));
        match best {
            Some((bid, price)) => WaitReason::Outbid { price, bid },
            None => WaitReason::NoShape,
        }
    }
}
