//! What is simulated: a trace and the machines it runs on, read from files.

use std::fs;
use std::path::Path;

use neap_scheduler::model::{MicroUsdPerHour, Millis};
use neap_scheduler::policy::Policy;
use neap_scheduler::sim::DataError;
use neap_scheduler::sim::cluster::{
    FixedNode, Report, Settings, SimJob, World, gpu_cluster, openb_nodes, openb_pods, philly_jobs, shockwave_jobs,
    simulate,
};

use crate::cli::args::WorldArgs;
use crate::cli::exit::CliError;

/// A world that a policy can be tried on.
pub(super) struct Case {
    /// The name of the trace's file.
    pub(super) name: String,
    world: World,
}

impl Case {
    /// Reads the files that the command line names.
    pub(super) fn read(args: &WorldArgs) -> Result<Self, CliError> {
        let refused = |error: DataError| CliError::Usage(error.to_string());
        let price = MicroUsdPerHour::new(args.price.get());
        let nodes: Vec<FixedNode> = match &args.cluster {
            Some(path) => openb_nodes(&path.display().to_string(), &read(path)?).map_err(refused)?,
            None => gpu_cluster(args.nodes, args.gpus_per_node, price),
        };
        let mut jobs = jobs(args)?;
        jobs.truncate(args.limit.unwrap_or(usize::MAX));
        let settings =
            Settings { round: Millis::from_secs(args.round_seconds), seed: args.seed, ..Settings::default() };
        let name = args.trace.file_name().unwrap_or(args.trace.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, world: World { jobs, nodes, providers: Vec::new(), settings } })
    }

    /// Runs it to its end under a policy; gives the policy's name and what came of it.
    pub(super) fn simulate(&self, policy: &str) -> Result<(String, Report), CliError> {
        let policy = <dyn Policy>::by_name(policy).map_err(|error| CliError::Usage(error.to_string()))?;
        Ok((policy.name().to_owned(), simulate(&self.world, policy.as_ref())))
    }

    /// The cluster, in a few words.
    pub(super) fn cluster(&self) -> String {
        let nodes = &self.world.nodes;
        let gpus: u64 = nodes.iter().map(|node| u64::from(node.gpus.count.0)).sum();
        format!("{} nodes with {gpus} GPUs", nodes.len())
    }
}

pub(super) fn read(path: &Path) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|source| CliError::ReadFile { path: path.to_owned(), source })
}

/// The jobs of a trace; which kind it is, its first line says.
fn jobs(args: &WorldArgs) -> Result<Vec<SimJob>, CliError> {
    let (name, text) = (args.trace.display().to_string(), read(&args.trace)?);
    let first = text.lines().next().unwrap_or_default();
    let read = if first.starts_with("vc,submit_s") {
        philly_jobs(&name, &text, args.virtual_cluster.as_deref(), args.gpus_per_node)
    } else if first.starts_with("name,cpu_milli") {
        openb_pods(&name, &text)
    } else if first.contains('\t') {
        shockwave_jobs(&name, &text, args.gpus_per_node)
    } else {
        let known = "a table of Philly (vc,submit_s,...), openb (name,cpu_milli,...) or Shockwave (separated by tabs)";
        return Err(CliError::Usage(format!("{name}:1: not a trace that can be simulated; give {known}")));
    };
    read.map_err(|error| CliError::Usage(error.to_string()))
}
