//! What is measured: a list of works, each with the rows it gives.

use std::fmt;
use std::path::PathBuf;

use neap_runtime::wire::training::{Consistency, Param};
use neap_training::model::{Cnn, Mlp, MlpParams, Model, NoParams};

use crate::alone::Loop;
use crate::job::Job;
use crate::jobs::{one_process, two_trainers};
use crate::models::{HiddenParams, OneHiddenLayer, PushPull};
use crate::peers::Peer;
use crate::plain;
use crate::results::{Measurement, Part};

/// Samples a step.
const BATCH: u32 = 128;

/// What the works need.
pub(crate) struct Bench {
    pub(crate) folder: PathBuf,
    pub(crate) torch: Peer,
    pub(crate) ray: Peer,
    /// A dry run: a fifth of the work.
    pub(crate) short: bool,
}

/// Makes the measurements of one round.
type Run = Box<dyn Fn(&Bench) -> Result<Vec<Measurement>, String>>;

/// Something that is done in every round.
pub(crate) struct Work {
    pub(crate) part: Part,
    pub(crate) rows: Vec<String>,
    run: Run,
}

impl Work {
    fn new(
        part: Part,
        rows: impl IntoIterator<Item = String>,
        run: impl Fn(&Bench) -> Result<Vec<Measurement>, String> + 'static,
    ) -> Self {
        Self { part, rows: rows.into_iter().collect(), run: Box::new(run) }
    }

    /// A measurement for each of its rows.
    pub(crate) fn run(&self, bench: &Bench) -> Result<Vec<Measurement>, String> {
        let measured = (self.run)(bench)?;
        match measured.len() == self.rows.len() {
            true => Ok(measured),
            false => Err(format!("{} measurements for {} rows", measured.len(), self.rows.len())),
        }
    }
}

impl Bench {
    fn steps(&self, steps: u64) -> u64 {
        if self.short { steps / 5 } else { steps }
    }
}

/// All works of a part, ours and the peers' in turns.
pub(crate) fn works(part: Part) -> Vec<Work> {
    match part {
        Part::Mlp => of_model::<Mlp>(part, 1_000, MlpParams::default),
        Part::Cnn => of_model::<Cnn>(part, 100, || NoParams {}),
        Part::Rounds => SIZES.iter().flat_map(of_rounds).collect(),
        Part::Quinn => of_quinn(),
        Part::Memory => Vec::new(),
    }
}

/// The rows of a model's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModelRow {
    Alone,
    One,
    Torch,
    Shards8,
    Threads2,
    Half,
    TorchHalf,
    Separate,
    Ddp,
}

impl ModelRow {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alone => "burn alone, one thread",
            Self::One => "one process, all actors, 1 logical shard",
            Self::Torch => "PyTorch, one thread",
            Self::Shards8 => "one process, 8 logical shards",
            Self::Threads2 => "one process, 2 computing threads, 128 samples a shard",
            Self::Half => "one process, 1 logical shard, 64 samples",
            Self::TorchHalf => "PyTorch, one thread, 64 samples",
            Self::Separate => "2 trainers + server, 3 processes, QUIC, 64 samples each",
            Self::Ddp => "PyTorch DDP over gloo, 2 processes, 64 samples each",
        }
    }
}

impl fmt::Display for ModelRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Training `model` with plain SGD.
fn job(model: &'static str, batch: u32, logical_shards: u32, steps: u64) -> Job {
    let params = vec![("momentum".to_owned(), Param::Float(0.0))];
    Job { entry: model, params, batch, logical_shards, steps, threads: 1, consistency: Consistency::Sync }
}

/// The usual `mlp`.
pub(crate) fn mlp(logical_shards: u32, steps: u64) -> Job {
    job(Mlp::NAME, BATCH, logical_shards, steps)
}

/// Parameters and gradients that travel, with one sample a logical shard to compute.
pub(crate) fn push_pull(logical_shards: u32, steps: u64) -> Job {
    job(PushPull::NAME, logical_shards, logical_shards, steps)
}

fn of_model<M: Model>(part: Part, steps: u64, params: fn() -> M::Params) -> Vec<Work> {
    use ModelRow::{Alone, Ddp, Half, One, Separate, Shards8, Threads2, Torch, TorchHalf};
    let in_one = move |row: ModelRow, job: Job| {
        Work::new(part, [row.to_string()], move |bench| {
            let job = Job { steps: bench.steps(job.steps), ..job.clone() };
            Ok(vec![one_process(&job, &bench.folder)?.samples(&job)])
        })
    };
    let torch = move |row: ModelRow, mode: [&'static str; 2], batch: u32| {
        Work::new(part, [row.to_string()], move |bench| {
            let (steps, batch) = (bench.steps(steps).to_string(), batch.to_string());
            bench.torch.measure(&["--model", M::NAME, "--steps", &steps, mode[0], mode[1], &batch])
        })
    };
    let alone = Work::new(part, [Alone.to_string()], move |bench| {
        let work = Loop { batch: BATCH as usize, steps: bench.steps(steps) as usize, learns: true };
        Ok(vec![work.run::<M>(params())])
    });
    let separate = Work::new(part, [Separate.to_string()], move |bench| {
        let job = job(M::NAME, BATCH, 2, bench.steps(steps));
        Ok(vec![two_trainers(&job, &bench.folder)?.0.samples(&job)])
    });
    vec![
        alone,
        in_one(One, job(M::NAME, BATCH, 1, steps)),
        torch(Torch, ["rate", "--batch"], BATCH),
        in_one(Shards8, job(M::NAME, BATCH, 8, steps)),
        in_one(Threads2, Job { threads: 2, ..job(M::NAME, 2 * BATCH, 2, steps) }),
        in_one(Half, job(M::NAME, BATCH / 2, 1, steps)),
        torch(TorchHalf, ["rate", "--batch"], BATCH / 2),
        separate,
        torch(Ddp, ["ddp", "--global-batch"], BATCH),
    ]
}

/// A number of parameters for the rounds of a parameter server.
pub(crate) struct Size {
    name: &'static str,
    /// Width of the hidden layer.
    hidden: usize,
    /// Rounds in step; out of step it is as many gradients.
    rounds: u64,
    /// How our rounds a second have to compare with Ray's.
    pub(crate) least_against_ray: f64,
    /// Whether computing takes most of a round.
    pub(crate) gradient_fills_cores: bool,
}

/// The sizes that are measured.
pub(crate) const SIZES: [Size; 2] = [
    Size { name: "102 k", hidden: 128, rounds: 1_000, least_against_ray: 3.0, gradient_fills_cores: false },
    Size { name: "5 M", hidden: 6_290, rounds: 100, least_against_ray: 1.0, gradient_fills_cores: true },
];

/// When workers wait for each other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    Sync,
    Async,
}

impl Size {
    fn row(&self, what: &str) -> String {
        format!("{} parameters, {what}", self.name)
    }

    pub(crate) fn our_gradient(&self) -> String {
        self.row("the gradient alone: burn")
    }

    pub(crate) fn rays_gradient(&self) -> String {
        self.row("the gradient alone: numpy")
    }

    pub(crate) fn ours(&self, mode: Mode) -> String {
        match mode {
            Mode::Sync => self.row("sync: ours"),
            Mode::Async => self.row("async: ours"),
        }
    }

    pub(crate) fn rays(&self, mode: Mode) -> String {
        match mode {
            Mode::Sync => self.row("sync: Ray"),
            Mode::Async => self.row("async: Ray"),
        }
    }

    fn job(&self, mode: Mode, bench: &Bench) -> Job {
        // A tenth of the usual rate: both workers' gradients are applied one by one where they do not wait.
        let params = [("hidden", Param::Int(self.hidden as i64)), ("lr", Param::Float(0.01))];
        let mut job = job(OneHiddenLayer::NAME, BATCH, 2, bench.steps(self.rounds));
        job.params.extend(params.map(|(name, value)| (name.to_owned(), value)));
        job.params.sort_by(|one, other| one.0.cmp(&other.0));
        job.consistency = match mode {
            Mode::Sync => Consistency::Sync,
            Mode::Async => Consistency::Async,
        };
        job
    }
}

fn of_rounds(size: &'static Size) -> Vec<Work> {
    let part = Part::Rounds;
    let ours = |mode: Mode| {
        Work::new(part, [size.ours(mode)], move |bench| {
            let timed = two_trainers(&size.job(mode, bench), &bench.folder)?.0;
            // A round is an update of the server's parameters: of a step's two gradients together, or of each.
            let rounds = match mode {
                Mode::Sync => 1.0,
                Mode::Async => 2.0,
            };
            Ok(vec![timed.per(rounds, 2.0)])
        })
    };
    let gradient = Work::new(part, [size.our_gradient()], |bench| {
        let steps = 2 * bench.steps(size.rounds) as usize;
        let work = Loop { batch: BATCH as usize / 2, steps, learns: false };
        let measured = work.run::<OneHiddenLayer>(HiddenParams { hidden: size.hidden });
        Ok(vec![Measurement { units: measured.steps, ..measured }])
    });
    let rays_rows = [size.rays_gradient(), size.rays(Mode::Sync), size.rays(Mode::Async)];
    let ray = Work::new(part, rays_rows, |bench| {
        let (hidden, rounds) = (size.hidden.to_string(), bench.steps(size.rounds).to_string());
        bench.ray.measure(&["--hidden", &hidden, "--rounds", &rounds])
    });
    vec![gradient, ours(Mode::Sync), ray, ours(Mode::Async)]
}

/// The row of our exchange of parameters and gradients.
pub(crate) const PUSH_PULL: &str = "push and pull of 5 M parameters, 2 workers + server, 3 processes";

/// The row it is compared with.
pub(crate) const PLAIN: &str = "plain quinn stream, 2 processes, payloads of 20 MB";

fn of_quinn() -> Vec<Work> {
    const ROUNDS: u64 = 100;
    let ours = Work::new(Part::Quinn, [PUSH_PULL.to_owned()], |bench| {
        let timed = two_trainers(&push_pull(2, bench.steps(ROUNDS)), &bench.folder)?.0;
        // Two workers get the parameters and send a gradient.
        Ok(vec![timed.per(4.0 * PushPull::BYTES as f64, 4.0)])
    });
    let plain =
        Work::new(Part::Quinn, [PLAIN.to_owned()], |bench| Ok(vec![plain::run(4 * bench.steps(ROUNDS) as usize)]));
    vec![ours, plain]
}
