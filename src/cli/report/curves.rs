//! From the outcomes of simulations to figures: distributions and stairs over time.

use neap_scheduler::model::Millis;
use neap_scheduler::sim::cluster::{JobOutcome, Report, UseSample};

use super::Course;
use super::axis::{Axis, plain};
use super::figure::{Figure, Line, Paint};

/// Columns into which the points of a line are gathered: about one for each pixel that is shown.
const COLUMNS: f64 = 400.0;

/// All figures of the simulations of one trace, each drawn with every policy.
pub(super) fn figures(courses: &[Course<'_>]) -> Vec<Figure> {
    let end = courses.iter().map(|course| course.report.makespan().as_secs_f64()).fold(0.0, f64::max);
    let time = || Axis::time("time since the first submission", end);
    vec![
        distribution("Job completion time", "completion time", courses, JobOutcome::completion),
        distribution("Wait before the first start", "wait", courses, JobOutcome::wait),
        held(courses, time()),
        queue(courses, time()),
        cost(courses, time()),
        done(courses, time()),
    ]
}

/// Times of the jobs that have one, in seconds, in ascending order.
pub(in crate::cli) fn ascending(report: &Report, time: fn(&JobOutcome) -> Option<Millis>) -> Vec<f64> {
    let mut times: Vec<f64> = report.jobs.iter().filter_map(time).map(Millis::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The share of all jobs that took at most so long.
fn distribution(
    title: &'static str,
    name: &'static str,
    courses: &[Course<'_>],
    time: fn(&JobOutcome) -> Option<Millis>,
) -> Figure {
    let times: Vec<Vec<f64>> = courses.iter().map(|course| ascending(course.report, time)).collect();
    let mut all = times.concat();
    all.sort_by(f64::total_cmp);
    let x = Axis::lengths(name, &all);
    let lines = courses.iter().zip(&times).enumerate().map(|(at, (course, times))| {
        let points = gather(&counted(times, course.report.jobs.len()), &x);
        Line { label: course.policy.to_owned(), paint: Paint::Policy(at), points }
    });
    let note = "Share of all jobs; a job that did not get there is never counted. Logarithmic, shorter times at the left edge.";
    Figure { title, note, lines: lines.collect(), y: Axis::share("share of jobs"), x }
}

/// A number that a sample holds.
type Count = fn(&UseSample) -> u32;

/// Accelerators held, or nodes where there are no accelerators, and what there was of them.
fn held(courses: &[Course<'_>], x: Axis) -> Figure {
    let has_gpus = courses.iter().any(|course| course.report.timeline.iter().any(|sample| sample.gpus > 0));
    let (y, used, there): (_, Count, Count) = if has_gpus {
        ("GPUs", |sample| sample.gpus_held, |sample| sample.gpus)
    } else {
        ("nodes", |sample| sample.nodes_held, |sample| sample.nodes)
    };
    let of = |course: &Course<'_>, value: Count| {
        gather(&stairs(&over_time(course.report, |sample| f64::from(value(sample)))), &x)
    };
    let mut lines: Vec<Line> = Vec::new();
    for (at, course) in courses.iter().enumerate() {
        let points = of(course, there);
        // A fixed cluster is the same under every policy: the longer line says so.
        match lines.iter_mut().find(|line| at_one_height(&line.points, &points)) {
            Some(same) if same.points.last() < points.last() => same.points = points,
            Some(_) => {}
            None => {
                lines.push(Line {
                    label: format!("there under {}", course.policy),
                    paint: Paint::Capacity(at),
                    points,
                });
            }
        }
    }
    if let [line] = lines.as_mut_slice() {
        line.label = "there".to_owned();
    }
    for (at, course) in courses.iter().enumerate() {
        let label = format!("held under {}", course.policy);
        lines.push(Line { label, paint: Paint::Policy(at), points: of(course, used) });
    }
    let y = Axis::amount(y, highest(&lines), plain);
    Figure { title: "Use of the cluster", note: "What jobs held, beside what there was.", x, y, lines }
}

/// Whether neither line ever leaves one height.
fn at_one_height(one: &[(f64, f64)], other: &[(f64, f64)]) -> bool {
    let Some((_, height)) = one.first() else { return other.is_empty() };
    one.iter().chain(other).all(|point| point.1 == *height)
}

fn queue(courses: &[Course<'_>], x: Axis) -> Figure {
    let lines =
        each(courses, |course| gather(&stairs(&over_time(course.report, |sample| f64::from(sample.waiting))), &x));
    let y = Axis::amount("jobs waiting", highest(&lines), plain);
    Figure { title: "Queue", note: "Jobs that were submitted and held nothing.", x, y, lines }
}

fn cost(courses: &[Course<'_>], x: Axis) -> Figure {
    let lines = each(courses, |course| gather(&over_time(course.report, |sample| sample.cost.as_dollars()), &x));
    let y = Axis::amount("dollars", highest(&lines), |dollars| format!("${}", plain(dollars)));
    Figure { title: "Cost so far", note: "What all nodes had cost, with work or without.", x, y, lines }
}

fn done(courses: &[Course<'_>], x: Axis) -> Figure {
    let lines = each(courses, |course| {
        let start = course.report.first_submitted();
        let ended = course.report.jobs.iter().filter_map(|job| job.ended);
        let mut ends: Vec<f64> = ended.map(|end| end.since(start).as_secs_f64()).collect();
        ends.sort_by(f64::total_cmp);
        let counts = (1_u32..).map(f64::from);
        let steps = [(0.0, 0.0)].into_iter().chain(ends.into_iter().zip(counts)).collect::<Vec<_>>();
        gather(&stairs(&steps), &x)
    });
    let y = Axis::amount("jobs done", highest(&lines), plain);
    Figure { title: "Jobs done", note: "How many jobs had ended.", x, y, lines }
}

fn each(courses: &[Course<'_>], points: impl Fn(&Course<'_>) -> Vec<(f64, f64)>) -> Vec<Line> {
    let line = |(at, course): (usize, &Course<'_>)| Line {
        label: course.policy.to_owned(),
        paint: Paint::Policy(at),
        points: points(course),
    };
    courses.iter().enumerate().map(line).collect()
}

fn highest(lines: &[Line]) -> f64 {
    lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max)
}

/// A value over the seconds from the first submission.
fn over_time(report: &Report, value: impl Fn(&UseSample) -> f64) -> Vec<(f64, f64)> {
    let start = report.first_submitted();
    report.timeline.iter().map(|sample| (sample.at.since(start).as_secs_f64(), value(sample))).collect()
}

/// The stairs of a distribution: at each time the share of `all` that took at most so long.
fn counted(ascending: &[f64], all: usize) -> Vec<(f64, f64)> {
    let share = |count: usize| count as f64 / all.max(1) as f64;
    let start = ascending.first().map(|first| (*first, 0.0));
    let steps = ascending.iter().enumerate().map(|(at, time)| (*time, share(at + 1)));
    stairs(&start.into_iter().chain(steps).collect::<Vec<_>>())
}

/// Each value holds until the next one.
fn stairs(values: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut points = Vec::with_capacity(values.len() * 2);
    let mut last = None;
    for &(x, y) in values {
        points.extend(last.map(|last| (x, last)));
        points.push((x, y));
        last = Some(y);
    }
    points
}

/// As many points as can be told apart: of those in one column the first, the lowest, the highest and the last, in their
/// order. So nothing that can be seen is lost, and a rising line still rises.
fn gather(points: &[(f64, f64)], x: &Axis) -> Vec<(f64, f64)> {
    let places = x.places();
    let width = (places.end - places.start) / COLUMNS;
    let column = |point: &(f64, f64)| ((x.place(point.0) - places.start) / width).floor();
    let mut kept = Vec::new();
    for group in points.chunk_by(|one, other| column(one) == column(other)) {
        let by_height = |one: &usize, other: &usize| group[*one].1.total_cmp(&group[*other].1);
        let lowest = (0..group.len()).min_by(by_height);
        let highest = (0..group.len()).max_by(by_height);
        let mut indices: Vec<usize> = [Some(0), lowest, highest, Some(group.len() - 1)].into_iter().flatten().collect();
        indices.sort_unstable();
        indices.dedup();
        kept.extend(indices.into_iter().map(|index| group[index]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use neap_scheduler::model::MicroUsd;

    use super::*;

    fn report() -> Report {
        let job = |number: u64| JobOutcome {
            name: format!("j{number}"),
            submitted: Millis::from_secs(100 + number),
            started: Some(Millis::from_secs(100 + 2 * number)),
            ended: (number != 7).then_some(Millis::from_secs(300 + number + number % 977)),
            cost: MicroUsd::new(number),
            preemptions: 0,
            lost: Millis::ZERO,
            worker_time: Millis::ZERO,
            gpu_time: Millis::ZERO,
        };
        let sample = |number: u64| UseSample {
            at: Millis::from_secs(100 + number),
            gpus: 8,
            gpus_held: (number % 9) as u32,
            cost: MicroUsd::new(number * 1_000_000),
            ..UseSample::default()
        };
        let (jobs, timeline) = ((0..5_000).map(job).collect(), (0..9_000).map(sample).collect());
        Report { jobs, nodes: Vec::new(), timeline, rounds: 1, end: Millis::from_secs(9_100) }
    }

    #[test]
    fn distributions_rise_to_the_share_that_got_there_and_series_end_at_their_totals() {
        let report = report();
        let courses = [Course { policy: "fifo", report: &report }, Course { policy: "other", report: &report }];
        let figures = figures(&courses);
        let last = |figure: usize| figures[figure].lines.last().unwrap().points.last().unwrap().1;
        assert_eq!((last(0), last(1)), (4_999.0 / 5_000.0, 1.0));
        assert_eq!((last(4), last(5)), (8_999.0, 4_999.0));
        for figure in [0, 1, 4, 5] {
            for line in &figures[figure].lines {
                let rises = line.points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1);
                assert!(rises && line.points.len() < 4 * 500, "{}: {} points", line.label, line.points.len());
            }
        }
        let labels: Vec<&str> = figures[2].lines.iter().map(|line| line.label.as_str()).collect();
        assert_eq!(labels, ["there", "held under fifo", "held under other"]);
    }

    #[test]
    fn gathering_keeps_every_peak() {
        let points: Vec<(f64, f64)> =
            (0..100_000).map(|at| (f64::from(at), if at == 54_321 { 9.0 } else { 1.0 })).collect();
        let kept = gather(&points, &Axis::time("", 100_000.0));
        assert!(kept.len() < 1_700 && kept.contains(&(54_321.0, 9.0)), "{}", kept.len());
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
    }

    #[test]
    fn an_empty_simulation_has_figures_too() {
        let report = Report { jobs: Vec::new(), nodes: Vec::new(), timeline: Vec::new(), rounds: 0, end: Millis::ZERO };
        for figure in figures(&[Course { policy: "fifo", report: &report }]) {
            assert!(figure.svg().unwrap().contains("<text"), "{}", figure.title);
        }
    }
}
