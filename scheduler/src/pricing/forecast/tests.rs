use super::*;

const NOW: Millis = Millis::new(1_769_889_600_000);

fn input(hourly: &[MicroUsd], days: u64) -> ForecastInput<'_> {
    let until = NOW + Millis::new(days * DAY.get());
    ForecastInput { now: NOW, hourly, running: &[], queued: &[], until, budget_left: None, seed: 1 }
}

fn usd(dollars: f64) -> MicroUsd {
    MicroUsd::new((dollars * 1e6) as u64)
}

/// Roughly normal, mean 0, variance 1: the sum of twelve uniform numbers less six.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// A series of daily dollars, each spread evenly over its hours.
fn hours(daily: &[f64]) -> Vec<MicroUsd> {
    daily.iter().flat_map(|day| std::iter::repeat_n(usd(day / 24.0), 24)).collect()
}

fn scatter(days: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    (0..days).map(|_| 100.0 + 20.0 * normal(rng)).collect()
}

fn returning(days: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut off = 0.0;
    let mut day = |_| {
        off = 0.7 * off + 15.0 * normal(rng);
        (150.0 + off).max(0.0)
    };
    (0..days).map(&mut day).collect()
}

fn drifting(days: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut level = 400.0;
    let mut day = |_| {
        level += 10.0 * normal(rng);
        (level + 15.0 * normal(rng)).max(0.0)
    };
    (0..days).map(&mut day).collect()
}

fn weekly(days: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let day = |day: usize| if day % 7 < 5 { 120.0 + 15.0 * normal(rng) } else { 30.0 + 5.0 * normal(rng) };
    (0..days).map(day).collect()
}

/// How often the truth lies within P10..P90, and below P50, over many histories of one kind.
fn coverage(kind: impl Fn(usize, &mut ChaCha8Rng) -> Vec<f64>, past: usize, ahead: usize) -> (f64, f64) {
    const SERIES: usize = 60;
    let (mut within, mut below) = (0.0, 0.0);
    for seed in 0..SERIES as u64 {
        let daily = kind(past + ahead, &mut ChaCha8Rng::seed_from_u64(seed));
        let hourly = hours(&daily[..past]);
        let forecast = forecast(&input(&hourly, ahead as u64));
        let truth = usd(daily[past..].iter().sum());
        let Range { p10, p50, p90 } = forecast.spend;
        within += f64::from(u8::from((p10..=p90).contains(&truth)));
        below += f64::from(u8::from(truth <= p50));
    }
    (within / SERIES as f64, below / SERIES as f64)
}

/// Four in five truths belong between P10 and P90. With 60 series, three standard errors are 0.15.
fn check_coverage(kind: impl Fn(usize, &mut ChaCha8Rng) -> Vec<f64>, past: usize, ahead: usize) {
    let (within, below) = coverage(kind, past, ahead);
    assert!((0.65..=0.95).contains(&within), "{within} lie between P10 and P90");
    assert!((0.3..=0.7).contains(&below), "{below} lie below P50");
}

#[test]
fn the_range_is_honest_where_days_scatter_around_a_mean() {
    check_coverage(scatter, 30, 10);
    check_coverage(scatter, 14, 14);
}

#[test]
fn the_range_is_honest_where_spending_returns_to_its_mean() {
    check_coverage(returning, 60, 14);
}

#[test]
fn the_range_is_honest_where_the_level_drifts() {
    check_coverage(drifting, 60, 14);
}

#[test]
fn the_range_is_honest_where_weekends_are_quiet() {
    check_coverage(weekly, 42, 10);
    let daily = weekly(42 + 2, &mut ChaCha8Rng::seed_from_u64(1));
    let hourly = hours(&daily[..42 - 2]);
    let weekend = forecast(&input(&hourly, 2)).spend;
    assert!(weekend.p90 < usd(100.0), "the 40 days end before a weekend, which costs about $60: {weekend:?}");
}

#[test]
fn the_day_on_which_a_budget_runs_out_has_a_range() {
    let hourly = hours(&scatter(30, &mut ChaCha8Rng::seed_from_u64(3)));
    let forecast = forecast(&ForecastInput { budget_left: Some(usd(1_000.0)), ..input(&hourly, 30) });
    let ends = forecast.exhausted.unwrap();
    let days = |instant: Option<Millis>| instant.unwrap().since(NOW).get() as f64 / DAY.get() as f64;
    assert!(days(ends.p10) < days(ends.p50) && days(ends.p50) < days(ends.p90));
    assert!((9.0..11.0).contains(&days(ends.p50)), "{}", days(ends.p50));
    assert_eq!(forecast.overspend_chance, Some(1.0));
}

#[test]
fn a_budget_that_lasts_is_never_exhausted() {
    let hourly = hours(&[1.0; 10]);
    let forecast = forecast(&ForecastInput { budget_left: Some(usd(1e5)), ..input(&hourly, 10) });
    assert_eq!(forecast.overspend_chance, Some(0.0));
    assert_eq!(forecast.exhausted, Some(Range { p10: None, p50: None, p90: None }));
}

#[test]
fn without_history_what_is_known_counts() {
    let running = [RunningSpend { price: MicroUsdPerHour::new(1_000_000), left: Some(Millis::from_secs(36 * 3_600)) }];
    let job = |p95| QueuedSpend { p50: usd(10.0), p95: usd(p95), starts_in: DAY, lasts: DAY };
    let known = |queued: &[QueuedSpend]| forecast(&ForecastInput { running: &running, queued, ..input(&[], 3) });
    let certain = known(&[job(10.0)]);
    assert_eq!(certain.basis, Basis::KnownOnly);
    for amount in [certain.spend.p10, certain.spend.p90] {
        assert!((amount.as_dollars() - 46.0).abs() < 0.01, "{amount}");
    }
    let uncertain = known(&[job(40.0)]).spend;
    assert!(uncertain.p10 < usd(44.0) && uncertain.p90 > usd(55.0), "{uncertain:?}");
}

#[test]
fn known_work_is_not_counted_on_top_of_history() {
    let hourly = hours(&[24.0; 20]);
    let running = [RunningSpend { price: MicroUsdPerHour::new(500_000), left: None }];
    let forecast = forecast(&ForecastInput { running: &running, ..input(&hourly, 10) });
    assert!((forecast.spend.p50.as_dollars() - 240.0).abs() < 0.1, "{:?}", forecast.spend);
}

#[test]
fn the_same_input_gives_the_same_forecast() {
    let hourly = hours(&scatter(30, &mut ChaCha8Rng::seed_from_u64(3)));
    assert_eq!(forecast(&input(&hourly, 9)), forecast(&input(&hourly, 9)));
}
