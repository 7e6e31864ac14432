//! What is simulated: a trace, whose kind its first line says, and the machines it runs on.
//!
//! Jobs whose run time the trace knows are simulated on nodes ([`cluster`]); jobs of which it only says what they train
//! are simulated on GPUs with measured speeds ([`adaptive`]). A policy of one kind does not apply to the other.

use std::fmt;
use std::fs;
use std::path::Path;

use neap_scheduler::model::{CpuMillis, GpuCount, Gpus, Market, MemoryMib, MicroUsdPerHour, Millis, NodeSize};
use neap_scheduler::policy::adaptive::{ADAPTIVE_POLICY_NAMES, AllocationPolicy};
use neap_scheduler::policy::{POLICY_NAMES, Policy, UnknownPolicy};
use neap_scheduler::sim::WorldError;
use neap_scheduler::sim::adaptive::{self, ClusterSpec, RunSettings, Table, Trace, Untimed, read_traces};
use neap_scheduler::sim::cluster::{
    self, Estimate, FixedNode, Report, Settings, SimJob, gpu_cluster, openb_nodes, openb_pods, philly_jobs,
    shockwave_jobs,
};

use super::rounds::Rounds;
use crate::cli::args::WorldArgs;
use crate::cli::exit::CliError;

/// Nodes of a cluster that nothing else is said about, and the accelerators of each.
const NODES_DEFAULT: usize = 16;
const GPUS_PER_NODE_DEFAULT: u32 = 4;

/// The round of elastic jobs, as in Sia and Pollux.
const ROUND_SECONDS_DEFAULT: u64 = 60;

/// A kind of trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Philly,
    Openb,
    Shockwave,
    /// Of Sia and of Pollux.
    Elastic,
    /// Rounds of a control plane.
    Recorded,
}

impl Family {
    fn of(first_line: &str) -> Option<Self> {
        Some(match first_line {
            line if line.starts_with("vc,submit_s") => Self::Philly,
            line if line.starts_with("name,cpu_milli") => Self::Openb,
            line if line.starts_with("trace,job,submit_s,app") => Self::Elastic,
            line if line.starts_with("{\"version\"") => Self::Recorded,
            line if line.contains('\t') => Self::Shockwave,
            _ => return None,
        })
    }

    fn policies(self) -> &'static [&'static str] {
        if self == Self::Elastic { &ADAPTIVE_POLICY_NAMES } else { &POLICY_NAMES }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Philly => "Philly",
            Self::Openb => "openb",
            Self::Shockwave => "Shockwave",
            Self::Elastic => "Sia or Pollux",
            Self::Recorded => "recorded rounds",
        })
    }
}

/// A trace and the machines it runs on.
#[derive(Debug)]
pub(super) struct Case {
    /// What the trace is called.
    pub(super) name: String,
    /// The machines, in a few words.
    pub(super) cluster: String,
    /// What to know about how it was read.
    pub(super) notes: Vec<String>,
    /// The rounds it was made from, if it was.
    pub(super) rounds: Option<Rounds>,
    family: Family,
    world: World,
}

#[derive(Debug)]
enum World {
    Cluster(Box<cluster::World>),
    Elastic(Box<ElasticWorld>),
}

#[derive(Debug)]
struct ElasticWorld {
    apps: adaptive::World,
    cluster: ClusterSpec,
    trace: Trace,
    round_seconds: u64,
    price: MicroUsdPerHour,
}

impl Case {
    /// Reads the files that the command line names.
    pub(super) fn read(args: &WorldArgs) -> Result<Self, CliError> {
        if args.trace.is_dir() {
            return recorded(args);
        }
        let text = read(&args.trace)?;
        let file = args.trace.display().to_string();
        let Some(family) = Family::of(text.lines().next().unwrap_or_default()) else {
            let known = "tables of Philly (vc,submit_s,...), openb (name,cpu_milli,...), Sia and Pollux \
                         (trace,job,submit_s,app,...) and Shockwave (separated by tabs), and the rounds of a control plane";
            return Err(CliError::Usage(format!("{file}:1: not a trace that can be simulated; known are {known}")));
        };
        match family {
            Family::Recorded => recorded(args),
            Family::Elastic => elastic(args, &file, &text),
            _ => rigid(args, family, &file, &text),
        }
    }

    /// Runs it to its end under a policy; gives the policy's name and what came of it.
    pub(super) fn simulate(&self, policy: &str) -> Result<(String, Report), CliError> {
        let refused = |error: UnknownPolicy| self.refuse(&error);
        match &self.world {
            World::Cluster(world) => {
                let policy = <dyn Policy>::by_name(policy).map_err(refused)?;
                Ok((policy.name().to_owned(), cluster::simulate(world, policy.as_ref())))
            }
            World::Elastic(world) => {
                let mut policy = <dyn AllocationPolicy>::by_name(policy).map_err(refused)?;
                Ok((policy.name().to_owned(), world.simulate(policy.as_mut())?))
            }
        }
    }

    fn refuse(&self, error: &UnknownPolicy) -> CliError {
        let elsewhere =
            POLICY_NAMES.contains(&error.name.as_str()) || ADAPTIVE_POLICY_NAMES.contains(&error.name.as_str());
        CliError::Usage(if elsewhere {
            let applying = self.family.policies().join(", ");
            format!("the policy {} does not apply to a trace of {}; these do: {applying}", error.name, self.family)
        } else {
            error.to_string()
        })
    }
}

impl ElasticWorld {
    fn simulate(&self, policy: &mut dyn AllocationPolicy) -> Result<Report, CliError> {
        let round_seconds = self.round_seconds as f64;
        let settings = RunSettings { round_seconds, rigid: !policy.sizes_jobs(), ..RunSettings::default() };
        let report = adaptive::simulate(&self.apps, &self.cluster, &self.trace, policy, settings, &mut Untimed);
        Ok(report.map_err(|error| CliError::Usage(crate::chain::chain(&error)))?.billed(self.price))
    }
}

/// The text of a file of the user.
pub(super) fn read(path: &Path) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|source| CliError::ReadFile { path: path.to_owned(), source })
}

fn refused(error: WorldError) -> CliError {
    CliError::Usage(error.to_string())
}

/// Refuses options that would be silently ignored.
fn only_applying(args: &WorldArgs, family: Family) -> Result<(), CliError> {
    let options: &[(&str, bool, &str)] = match family {
        Family::Elastic => &[
            ("--nodes", args.nodes.is_some(), "say --cluster TYPE:NODESxGPUS,..."),
            ("--gpus-per-node", args.gpus_per_node.is_some(), "say --cluster TYPE:NODESxGPUS,..."),
            ("--virtual-cluster", args.virtual_cluster.is_some(), "--trace-name picks one of its traces"),
            ("--exact-estimates", args.exact_estimates, "its policies learn how long jobs take"),
        ],
        Family::Recorded => &[
            ("--nodes", args.nodes.is_some(), "the recording says what could be rented"),
            ("--gpus-per-node", args.gpus_per_node.is_some(), "the recording says what could be rented"),
            ("--cluster", args.cluster.is_some(), "the recording says what could be rented"),
            ("--profiles", args.profiles.is_some(), "the recording says how long its jobs ran"),
            ("--virtual-cluster", args.virtual_cluster.is_some(), "it is one cluster"),
            ("--trace-name", args.trace_name.is_some(), "it is one recording"),
        ],
        _ => &[
            ("--profiles", args.profiles.is_some(), "the trace itself says how long its jobs run"),
            ("--trace-name", args.trace_name.is_some(), "the file holds one trace"),
        ],
    };
    let Some((option, _, instead)) = options.iter().find(|(_, given, _)| *given) else { return Ok(()) };
    Err(CliError::Usage(format!("{option} does not apply to a trace of {family}: {instead}")))
}

fn price(args: &WorldArgs) -> MicroUsdPerHour {
    MicroUsdPerHour::new(args.price.get())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Jobs of known length on nodes.
fn rigid(args: &WorldArgs, family: Family, file: &str, text: &str) -> Result<Case, CliError> {
    only_applying(args, family)?;
    let gpus_per_node = args.gpus_per_node.unwrap_or(GPUS_PER_NODE_DEFAULT);
    let nodes = nodes(args, family, gpus_per_node)?;
    let mut jobs: Vec<SimJob> = match family {
        Family::Philly => philly_jobs(file, text, args.virtual_cluster.as_deref(), gpus_per_node),
        Family::Openb => openb_pods(file, text, &nodes),
        _ => shockwave_jobs(file, text, gpus_per_node),
    }
    .map_err(refused)?;
    jobs.truncate(args.limit.unwrap_or(usize::MAX));
    if args.exact_estimates {
        jobs.iter_mut().for_each(|job| job.estimate = Some(Estimate::EXACT));
    }
    let gpus: u64 = nodes.iter().map(|node| u64::from(node.gpus.count.0)).sum();
    let round = Millis::from_secs(args.round_seconds.unwrap_or_default());
    let settings = Settings { round, seed: args.seed, ..Settings::default() };
    Ok(Case {
        name: file_name(&args.trace),
        cluster: format!("{} nodes with {gpus} GPUs, each node at {} an hour", nodes.len(), args.price),
        notes: Vec::new(),
        rounds: None,
        family,
        world: World::Cluster(Box::new(cluster::World { jobs, nodes, providers: Vec::new(), settings })),
    })
}

fn nodes(args: &WorldArgs, family: Family, gpus_per_node: u32) -> Result<Vec<FixedNode>, CliError> {
    match &args.cluster {
        None if family == Family::Openb => Err(CliError::Usage(
            "pods of openb need nodes with processors and memory: give the table of nodes with --cluster FILE"
                .to_owned(),
        )),
        None => Ok(gpu_cluster(args.nodes.unwrap_or(NODES_DEFAULT), gpus_per_node, price(args))),
        Some(described) => match described.parse::<ClusterSpec>() {
            Ok(spec) if family != Family::Openb => Ok(described_nodes(&spec, price(args))),
            _ => openb_nodes(described, &read(Path::new(described))?, price(args)).map_err(refused),
        },
    }
}

fn described_nodes(spec: &ClusterSpec, price: MicroUsdPerHour) -> Vec<FixedNode> {
    let of_type = spec.gpu_types.iter().flat_map(|gpu| std::iter::repeat_n(gpu, gpu.nodes as usize));
    let node = |gpu: &neap_scheduler::policy::adaptive::GpuTypeView| FixedNode {
        size: NodeSize { cpus: CpuMillis(0), memory: MemoryMib(0) },
        gpus: Gpus { count: GpuCount(gpu.gpus_per_node), model: Some(gpu.name.clone()) },
        price,
        market: Market::OnDemand,
    };
    of_type.map(node).collect()
}

/// The jobs of a recording on nodes like those it rented.
fn recorded(args: &WorldArgs) -> Result<Case, CliError> {
    only_applying(args, Family::Recorded)?;
    let rounds = Rounds::read(&args.trace)?;
    let (mut found, notes) = rounds.world(args.seed);
    found.world.jobs.truncate(args.limit.unwrap_or(usize::MAX));
    found.world.settings.round = Millis::from_secs(args.round_seconds.unwrap_or_default());
    if args.exact_estimates {
        found.world.jobs.iter_mut().for_each(|job| job.estimate = Some(Estimate::EXACT));
    }
    let offers = found.world.providers.iter().map(|offer| format!("up to {} of {}", offer.quota, offer.name));
    Ok(Case {
        name: format!("the rounds in {}", file_name(&args.trace)),
        cluster: offers.collect::<Vec<_>>().join(", "),
        notes,
        rounds: Some(rounds),
        family: Family::Recorded,
        world: World::Cluster(Box::new(found.world)),
    })
}

/// Elastic jobs on GPUs with measured speeds.
fn elastic(args: &WorldArgs, file: &str, text: &str) -> Result<Case, CliError> {
    only_applying(args, Family::Elastic)?;
    let Some(profiles) = &args.profiles else {
        return Err(CliError::Usage(format!(
            "{file} says what its jobs train and not for how long: give the folder of measurements with --profiles DIR \
             (apps.csv, throughput.csv, statistical_efficiency.csv)"
        )));
    };
    let apps = measurements(profiles)?;
    let cluster = match &args.cluster {
        Some(described) => described.parse().map_err(|error| CliError::Usage(format!("--cluster: {error}")))?,
        None => ClusterSpec::sia_heterogeneous(),
    };
    apps.check_cluster(&cluster, "--cluster").map_err(refused)?;
    let traces = read_traces(Table { file, text }, &apps).map_err(refused)?;
    let (mut trace, notes) = pick(traces, args.trace_name.as_deref(), file)?;
    trace.jobs.truncate(args.limit.unwrap_or(usize::MAX));
    let round_seconds = args.round_seconds.unwrap_or(ROUND_SECONDS_DEFAULT);
    if round_seconds == 0 {
        return Err(CliError::Usage("elastic jobs are divided in rounds: --round-seconds is at least 1".to_owned()));
    }
    let types = cluster.gpu_types.iter().map(|gpu| format!("{}:{}x{}", gpu.name, gpu.nodes, gpu.gpus_per_node));
    let types = types.collect::<Vec<_>>().join(",");
    Ok(Case {
        name: format!("{}, {}", file_name(&args.trace), trace.name),
        cluster: format!("{types}: {} GPUs, each node at {} an hour", cluster.gpus(), args.price),
        notes,
        rounds: None,
        family: Family::Elastic,
        world: World::Elastic(Box::new(ElasticWorld { apps, cluster, trace, round_seconds, price: price(args) })),
    })
}

fn measurements(folder: &Path) -> Result<adaptive::World, CliError> {
    let table = |name: &str| {
        let path = folder.join(name);
        read(&path).map(|text| (path.display().to_string(), text))
    };
    let tables = [table("apps.csv")?, table("throughput.csv")?, table("statistical_efficiency.csv")?];
    let [apps, throughput, efficiency] = tables.each_ref().map(|(file, text)| Table { file, text });
    adaptive::World::read(apps, throughput, efficiency).map_err(refused)
}

/// One trace of a file: the named one, or the first.
fn pick(mut traces: Vec<Trace>, name: Option<&str>, file: &str) -> Result<(Trace, Vec<String>), CliError> {
    let names: Vec<String> = traces.iter().map(|trace| trace.name.clone()).collect();
    let at = name.map_or(Some(0), |name| names.iter().position(|known| known == name));
    let Some(at) = at.filter(|at| *at < names.len()) else {
        return Err(CliError::Usage(match name {
            Some(name) => format!("{file} has no trace {name}; it has {}", names.join(", ")),
            None => format!("{file} holds no job"),
        }));
    };
    let note = format!("{file} holds {} traces; this is {}, --trace-name picks another", names.len(), names[at]);
    let notes = if names.len() > 1 && name.is_none() { vec![note] } else { Vec::new() };
    Ok((traces.swap_remove(at), notes))
}
