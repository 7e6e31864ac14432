//! Following a job to its end: a long poll in a thread of its own, and one of three ways to show what it says.
//!
//! The control plane may go away and come back meanwhile; that is no matter of the job's, so following goes on. Ctrl-C
//! ends the following, never the job.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::home::Home;
use crate::http::body::{EpochBody, JobBody, ProgressBody};

use super::Shell;
use super::client::{Client, ClientError};
use super::exit::CliError;
use super::output::{harmless, percent, say, thousands};

/// How long the server holds one long poll.
const POLL_WAIT: Duration = Duration::from_secs(20);

/// Pause between long polls, so that a fast job is not asked about hundreds of times a second.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// Pause before the next try when the control plane does not answer.
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// How long the control plane may be away before following it is given up.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// How often progress is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How the following ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The job has ended.
    Ended(Box<JobBody>),
    /// The user pressed Ctrl-C.
    Detached(Box<JobBody>),
    /// The user's limit is over.
    TimedOut(Box<JobBody>),
}

enum Event {
    News(Box<JobBody>),
    /// The control plane does not answer.
    Away(ClientError),
    /// It answered, and there is no way on.
    Lost(ClientError),
    Interrupted,
}

/// Follows `job` from the state it was seen in.
pub(super) fn follow(shell: &Shell, job: JobBody, mut show: Show) -> Result<Ending, CliError> {
    show.news(&job);
    let mut last = Box::new(job);
    if last.state.is_terminal() {
        show.end();
        return Ok(Ending::Ended(last));
    }
    let deadline = shell.timeout.map(|limit| Instant::now() + limit);
    let (sender, events) = mpsc::channel();
    watch_interrupt(sender.clone())?;
    watch_job(shell.home.clone(), &last, sender);
    let mut patience = Patience::default();
    let ending = loop {
        let wait = deadline.map_or(POLL_WAIT, |at| at.saturating_duration_since(Instant::now()));
        match events.recv_timeout(wait) {
            Ok(Event::News(job)) => {
                patience = Patience::default();
                show.news(&job);
                last = job;
                if last.state.is_terminal() {
                    break Ending::Ended(last);
                }
            }
            Ok(Event::Away(error)) => {
                if patience.is_fresh() {
                    show.line("the control plane does not answer; the job goes on, trying again");
                }
                if patience.is_over() {
                    show.end();
                    return Err(error.into());
                }
            }
            Ok(Event::Lost(error)) => {
                show.end();
                return Err(error.into());
            }
            Ok(Event::Interrupted) => break Ending::Detached(last),
            Err(RecvTimeoutError::Timeout) if deadline.is_some_and(|at| Instant::now() >= at) => {
                break Ending::TimedOut(last);
            }
            Err(_) => {}
        }
    };
    show.end();
    Ok(ending)
}

/// How long a command puts up with a control plane that is away.
#[derive(Debug, Default)]
pub(super) struct Patience(Option<Instant>);

impl Patience {
    fn is_fresh(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it has been away for too long; the first question starts the clock.
    pub(super) fn is_over(&mut self) -> bool {
        self.0.get_or_insert_with(Instant::now).elapsed() >= AWAY_MAX
    }
}

/// Asks for the next state again and again. The thread ends with the job, or with this process.
fn watch_job(home: Home, job: &JobBody, events: Sender<Event>) {
    let (id, mut version) = (job.id.clone(), job.version);
    thread::spawn(move || {
        let mut client = Client::find(&home);
        loop {
            let answer = client.and_then(|known| Ok((known.watch(&id, version, POLL_WAIT)?, known)));
            let event = match answer {
                Ok((job, known)) => {
                    client = Ok(known);
                    version = job.version;
                    Event::News(Box::new(job))
                }
                Err(error) if error.is_away() => {
                    thread::sleep(AWAY_PAUSE);
                    client = Client::find(&home);
                    // A control plane that comes back counts its versions anew.
                    version = 0;
                    Event::Away(error)
                }
                Err(error) => {
                    let _ = events.send(Event::Lost(error));
                    return;
                }
            };
            let done = matches!(&event, Event::News(job) if job.state.is_terminal());
            if events.send(event).is_err() || done {
                return;
            }
            thread::sleep(POLL_PAUSE);
        }
    });
}

/// Turns Ctrl-C into an event. The thread ends with this process.
fn watch_interrupt(events: Sender<Event>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|source| CliError::Start { what: "a listener for Ctrl-C", source })?;
    thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            let _ = events.send(Event::Interrupted);
        }
    });
    Ok(())
}

/// A way to show a job's progress, on standard error.
pub(super) struct Show {
    told: Told,
    screen: Screen,
}

enum Screen {
    Silent,
    Lines { last_line: Instant },
    Bar(ProgressBar),
}

impl Show {
    /// Nothing.
    pub(super) fn silent() -> Self {
        Self { told: Told::default(), screen: Screen::Silent }
    }

    /// A line for each change, and one every few seconds.
    pub(super) fn lines() -> Self {
        Self { told: Told::default(), screen: Screen::Lines { last_line: Instant::now() } }
    }

    /// A line for each change, and below them a bar that moves.
    pub(super) fn bar(job: &JobBody) -> Self {
        let bar = ProgressBar::new(0).with_prefix(job.name.clone());
        bar.set_style(waiting_style());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { told: Told::default(), screen: Screen::Bar(bar) }
    }

    fn news(&mut self, job: &JobBody) {
        for line in self.told.news(job) {
            self.line(&line);
        }
        let progress = job.progress.as_ref();
        match &mut self.screen {
            Screen::Silent => {}
            Screen::Lines { last_line } => {
                if let Some(progress) = progress
                    && last_line.elapsed() >= LINE_EVERY
                {
                    *last_line = Instant::now();
                    let words = progress_words(job, progress).join(", ");
                    say(&format!("step {}/{}, {words}", progress.step, progress.steps_total));
                }
            }
            Screen::Bar(bar) => match progress {
                None => bar.set_message(format!("{}: {}", job.state_text(), job.why)),
                Some(progress) => {
                    if bar.length() != Some(progress.steps_total) {
                        bar.set_length(progress.steps_total);
                        bar.set_style(training_style());
                    }
                    bar.set_position(progress.step);
                    bar.set_message(progress_words(job, progress).join("  "));
                }
            },
        }
    }

    fn line(&self, text: &str) {
        match &self.screen {
            Screen::Silent => {}
            Screen::Lines { .. } => say(text),
            Screen::Bar(bar) => bar.println(text),
        }
    }

    fn end(&self) {
        if let Screen::Bar(bar) = &self.screen {
            bar.finish_and_clear();
        }
    }
}

fn waiting_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix} {wide_msg}").expect("the template is fixed and valid")
}

fn training_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix} [{bar:40}] {percent:>3}%\n{wide_msg}")
        .expect("the template is fixed and valid")
        .progress_chars("=> ")
}

/// `epoch 2/10`, `loss 0.3127`, `52,340 samples/s`, `2 workers`, `$0.08/h`, `spent $0.0012`.
fn progress_words(job: &JobBody, progress: &ProgressBody) -> [String; 6] {
    let workers = job.workers.iter().filter(|worker| worker.state == "running").count();
    [
        format!("epoch {}/{}", (progress.epoch + 1).min(progress.epochs_total), progress.epochs_total),
        format!("loss {:.4}", progress.loss),
        format!("{} samples/s", thousands(progress.samples_per_second.max(0.0) as u64)),
        format!("{workers} {}", if workers == 1 { "worker" } else { "workers" }),
        job.rate_micro_usd_per_hour.to_string(),
        format!("spent {}", job.cost.total_micro_usd),
    ]
}

/// What the user has been told about a job, so that each thing is said once.
#[derive(Debug, Default)]
struct Told {
    state: Option<String>,
    epochs: usize,
}

impl Told {
    /// A line for each thing that is new.
    fn news(&mut self, job: &JobBody) -> Vec<String> {
        let mut lines = Vec::new();
        for epoch in job.epochs.iter().skip(self.epochs) {
            lines.push(epoch_text(epoch));
        }
        self.epochs = self.epochs.max(job.epochs.len());
        let state = job.state_text();
        if self.state.as_ref() != Some(&state) {
            let why = if job.why.is_empty() { String::new() } else { format!(": {}", job.why) };
            lines.push(format!("{} ({}) {state}{why}", job.name, job.id));
            self.state = Some(state);
        }
        lines
    }
}

fn epoch_text(epoch: &EpochBody) -> String {
    let mut text = format!("epoch {} done: train loss {:.4}", epoch.epoch + 1, epoch.train_loss);
    if let Some(loss) = epoch.eval_loss {
        text.push_str(&format!(", test loss {loss:.4}"));
    }
    if let Some(accuracy) = epoch.eval_accuracy {
        text.push_str(&format!(", test accuracy {}", percent(accuracy)));
    }
    for (name, value) in &epoch.eval_metrics {
        text.push_str(&format!(", test {} {value:.4}", harmless(name)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::jobs::tests::job;
    use super::*;
    use crate::http::body::JobStateBody;

    #[test]
    fn each_change_is_told_once() {
        let mut told = Told::default();
        let mut job = job();
        job.state = JobStateBody::Pending;
        job.reason = Some("gang_wait".to_owned());
        job.why = "1 of 2 nodes is ready".to_owned();
        assert_eq!(told.news(&job), ["digits (j1) pending (gang_wait): 1 of 2 nodes is ready"]);
        assert!(told.news(&job).is_empty());
        job.epochs.push(EpochBody {
            epoch: 0,
            samples: 1_500,
            sample_digest: "00".to_owned(),
            train_loss: 0.5,
            eval_loss: None,
            eval_accuracy: Some(0.875),
            eval_metrics: [("mae".to_owned(), 0.25)].into(),
        });
        assert_eq!(told.news(&job), ["epoch 1 done: train loss 0.5000, test accuracy 87.50 %, test mae 0.2500"]);
        assert!(told.news(&job).is_empty());
    }

    #[test]
    fn progress_reads_well() {
        let job = job();
        let text = progress_words(&job, job.progress.as_ref().unwrap()).join("  ");
        assert_eq!(text, "epoch 2/3  loss 0.3127  52,340 samples/s  1 worker  $0.0800/h  spent $0.001200");
        assert!(text.len() < 80, "it fits the narrowest terminal");
    }
}
