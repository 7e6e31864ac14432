//! The training itself, and what it has to agree on with the workers and the entry.

use super::super::code::Code;
use super::super::context::{EntryInfo, ParseContext};
use super::super::fault::{Faults, Reported};
use super::super::field::{Block, Field, Missing, similar, words};
use super::super::job::{
    Backend, Consistency, Determinism, ServerPlacement, Strategy, TrainLength, TrainSpec, WorkerRange,
};
use super::super::layout;
use super::{artifact, compression, init, missing, params};

const LOGICAL_SHARDS: u32 = 8;
/// The losses of all of them, 8 bytes each, come in the header of one transfer, which holds 64 KiB.
const LOGICAL_SHARDS_MAX: u32 = 8_000;
const BATCH_MAX: u32 = 1 << 24;
/// Each trainer has a connection to every server, and every step waits for all of them.
const SERVERS_MAX: u32 = 64;

/// A step waits for the replica of the one before. A second one would protect against the loss of two workers at once.
const REPLICAS_MAX: u32 = 1;

/// How far ahead a logical shard may be where `consistency: ssp` does not say it.
const STALENESS: u32 = 4;

/// A bound beyond this is none; `async` says so.
const STALENESS_MAX: u32 = 10_000;

/// `train`, with the checks across fields.
pub(super) fn train(
    job: &Block<'_>,
    workers: Option<&WorkerRange>,
    context: &ParseContext,
    faults: &mut Faults,
) -> Result<TrainSpec, Reported> {
    let no_block = Missing { code: Code::KindBlock, help: "add the block `train:` with `entry` and `epochs`" };
    job.required(faults, "train", no_block, |field, faults| train_block(field, job, workers, context, faults))
}

fn train_block(
    field: &Field<'_>,
    job: &Block<'_>,
    workers: Option<&WorkerRange>,
    context: &ParseContext,
    faults: &mut Faults,
) -> Result<TrainSpec, Reported> {
    let train = field.block(faults, &layout::TRAIN)?;
    let artifact = artifact::artifact(&train, context, faults);
    let entries = artifact.as_ref().map(|artifact| artifact.map_or(&context.entries, |artifact| &artifact.entries));
    let entry = match entries {
        Ok(entries) => {
            let help = format!("say what to train: {}", words(entries.iter().map(|known| known.name.as_str())));
            train.required(faults, "entry", missing(&help), |field, faults| entry(field, entries, faults))
        }
        // What it would have is not known.
        Err(reported) => Err(*reported),
    };
    let backend = train.optional(faults, "backend", |field, faults| {
        let built = [("flex", Backend::Flex), ("wgpu", Backend::Wgpu), ("cuda", Backend::Cuda)];
        field.choice(faults, Code::BadValue, &built, &[])
    });
    let strategy = train.optional(faults, "strategy", |field, faults| {
        let built = [("ps", Strategy::ParameterServer), ("allreduce", Strategy::AllReduce)];
        field.choice(faults, Code::BadValue, &built, &[])
    });
    let strategy = strategy.map(|given| given.unwrap_or(Strategy::ParameterServer));
    let no_server = no_server(&train, strategy.as_ref().ok().copied(), faults);
    let server = train.optional(faults, "ps", parameter_server);
    let compression = compression::compression(&train, faults);
    let shards =
        train.optional(faults, "logical_shards", |field, faults| field.whole_u32(faults, 1..=LOGICAL_SHARDS_MAX));
    let shards = shards.map(|shards| shards.unwrap_or(LOGICAL_SHARDS));
    let enough = shards.and_then(|shards| enough_shards(shards, workers, &train, job, faults));
    let batch = train.optional(faults, "global_batch", |field, faults| field.whole_u32(faults, 1..=BATCH_MAX));
    let batch = match (&batch, &shards, &entry) {
        (Ok(Some(batch)), Ok(shards), _) => divisible(*batch, *shards, "global_batch", &train, faults),
        (Ok(None), Ok(shards), Ok(entry)) => divisible(entry.default_batch, *shards, "logical_shards", &train, faults),
        (Ok(Some(batch)), ..) => Ok(*batch),
        (Ok(None), Err(reported), _) | (Ok(None), _, Err(reported)) | (Err(reported), ..) => Err(*reported),
    };
    let micro_batch = train.optional(faults, "micro_batch", |field, faults| field.whole_u32(faults, 1..=BATCH_MAX));
    let length = length(&train, faults);
    let determinism = determinism(&train, faults);
    let seed = train.optional(faults, "seed", |field, faults| field.whole(faults, 0..=u64::MAX));
    let init = train.optional(faults, "init", |field, faults| init::init(field, context, faults));
    let params = params::params(&train, entry.as_ref().ok().copied(), faults);
    no_server?;
    enough?;
    let ParameterServers { placement, servers, replicas, consistency } = server?.unwrap_or_default();
    Ok(TrainSpec {
        entry: entry?.name.clone(),
        artifact: artifact?.map(|artifact| artifact.hash),
        backend: backend?.unwrap_or(Backend::Flex),
        strategy: strategy?,
        server: placement,
        servers,
        replicas,
        compression: compression?,
        consistency,
        global_batch: batch?,
        logical_shards: shards?,
        micro_batch: micro_batch?,
        length: length?,
        determinism: determinism?,
        seed: seed?.unwrap_or(0),
        init: init?,
        params: params?,
    })
}

fn entry<'a>(field: &Field<'_>, entries: &'a [EntryInfo], faults: &mut Faults) -> Result<&'a EntryInfo, Reported> {
    let name = field.text(faults)?;
    if let Some(entry) = entries.iter().find(|entry| entry.name == name) {
        return Ok(entry);
    }
    let names = || entries.iter().map(|entry| entry.name.as_str());
    let known = format!("choose {}", words(names()));
    let help = similar(name, names()).map_or(known.clone(), |word| format!("did you mean `{word}`? {known}"));
    Err(field.fault(faults, Code::UnknownEntry, format!("there is no entry {}", field.found()), help))
}

/// An all-reduce has no parameter server, so it takes no settings for one.
fn no_server(train: &Block<'_>, strategy: Option<Strategy>, faults: &mut Faults) -> Result<(), Reported> {
    let Some(ps) = train.get("ps").filter(|_| strategy == Some(Strategy::AllReduce)) else { return Ok(()) };
    let (message, help) = ("`strategy: allreduce` has no parameter server", "remove `ps`, or write `strategy: ps`");
    Err(faults.error(Code::ServerBlock, &ps.path, ps.key_span, message, help))
}

/// The block `ps`.
struct ParameterServers {
    placement: ServerPlacement,
    servers: u32,
    replicas: u32,
    consistency: Consistency,
}

impl Default for ParameterServers {
    fn default() -> Self {
        Self { placement: ServerPlacement::Colocated, servers: 1, replicas: 0, consistency: Consistency::Sync }
    }
}

fn parameter_server(field: &Field<'_>, faults: &mut Faults) -> Result<ParameterServers, Reported> {
    let block = field.block(faults, &layout::PS)?;
    let servers = block.optional(faults, "servers", |field, faults| field.whole_u32(faults, 1..=SERVERS_MAX));
    let replicas = block.optional(faults, "replicas", |field, faults| field.whole_u32(faults, 0..=REPLICAS_MAX));
    let placement = block.optional(faults, "placement", |field, faults| {
        let built = [("colocated", ServerPlacement::Colocated), ("separate", ServerPlacement::Separate)];
        field.choice(faults, Code::BadValue, &built, &[])
    });
    let consistency = consistency(&block, faults);
    let (servers, replicas) = (servers?.unwrap_or(1), replicas?.unwrap_or(0));
    let (placement, consistency) = (placement?.unwrap_or(ServerPlacement::Colocated), consistency?);
    if let (2.., true, Some(field)) = (servers, consistency != Consistency::Sync, block.get("servers")) {
        let message = format!("{servers} parameter servers that do not wait for all workers are not built yet");
        let help = "leave `servers` out, or write `consistency: sync`";
        return Err(field.fault(faults, Code::NotBuiltYet, message, help));
    }
    if let (1.., Some(field)) = (replicas, block.get("replicas")) {
        replicable(&field, placement, servers, consistency, faults)?;
    }
    Ok(ParameterServers { placement, servers, replicas, consistency })
}

/// A replica follows one server, step by step, from another worker's process.
fn replicable(
    replicas: &Field<'_>,
    placement: ServerPlacement,
    servers: u32,
    consistency: Consistency,
    faults: &mut Faults,
) -> Result<(), Reported> {
    let (what, instead) = match (placement, consistency, servers) {
        (_, Consistency::Ssp { .. } | Consistency::Async, _) => {
            ("a server that does not wait for all workers", "write `consistency: sync`")
        }
        (_, _, 2..) => ("several parameter servers", "write `servers: 1`"),
        (ServerPlacement::Separate, ..) => ("a server on a node of its own", "write `placement: colocated`"),
        _ => return Ok(()),
    };
    let message = format!("replicas of {what} are not built yet");
    Err(replicas.fault(faults, Code::NotBuiltYet, message, format!("leave `replicas` out, or {instead}")))
}

/// `consistency`, with the bound that only `ssp` has.
fn consistency(ps: &Block<'_>, faults: &mut Faults) -> Result<Consistency, Reported> {
    let given = ps.optional(faults, "consistency", |field, faults| {
        let built = [
            ("sync", Consistency::Sync),
            ("ssp", Consistency::Ssp { staleness: STALENESS }),
            ("async", Consistency::Async),
        ];
        field.choice(faults, Code::BadValue, &built, &[])
    });
    let staleness = ps.optional(faults, "staleness", |field, faults| {
        Ok((field.whole_u32(faults, 0..=STALENESS_MAX)?, field.clone()))
    });
    match (given?.unwrap_or(Consistency::Sync), staleness?) {
        (consistency, None) => Ok(consistency),
        (Consistency::Ssp { .. }, Some((staleness, _))) => Ok(Consistency::Ssp { staleness }),
        (Consistency::Sync | Consistency::Async, Some((_, field))) => {
            let message = "`staleness` bounds an exchange with `consistency: ssp`, and this is another one";
            Err(field.fault(faults, Code::Staleness, message, "write `consistency: ssp`, or leave `staleness` out"))
        }
    }
}

/// Points at `train.logical_shards` where it is given, otherwise at `workers`.
fn enough_shards(
    shards: u32,
    workers: Option<&WorkerRange>,
    train: &Block<'_>,
    job: &Block<'_>,
    faults: &mut Faults,
) -> Result<(), Reported> {
    let Some(workers) = workers.filter(|workers| workers.max > shards) else { return Ok(()) };
    let message = format!("{shards} logical shards cannot be carried by up to {} workers", workers.max);
    let help = format!("set `train.logical_shards` to {} or more, or allow at most {shards} workers", workers.max);
    let field = train.get("logical_shards").or_else(|| job.get("workers")).unwrap_or_else(|| train.field.clone());
    Err(field.fault(faults, Code::TooFewShards, message, help))
}

fn divisible(batch: u32, shards: u32, point_at: &str, train: &Block<'_>, faults: &mut Faults) -> Result<u32, Reported> {
    if batch.is_multiple_of(shards) {
        return Ok(batch);
    }
    let below = batch - batch % shards;
    let above = below + shards;
    let help = match below {
        0 => format!("set `global_batch` to {above}"),
        _ => format!("set `global_batch` to {below} or {above}"),
    };
    let message = format!("a global batch of {batch} cannot be cut into {shards} equal shards");
    let field = train.get(point_at).unwrap_or_else(|| train.field.clone());
    Err(field.fault(faults, Code::BatchNotDivisible, message, help))
}

fn length(train: &Block<'_>, faults: &mut Faults) -> Result<TrainLength, Reported> {
    let epochs = train.optional(faults, "epochs", |field, faults| field.whole_u32(faults, 1..=u32::MAX));
    let steps = train.optional(faults, "steps", |field, faults| field.whole(faults, 1..=u64::MAX));
    if let (Some(_), Some(steps)) = (train.get("epochs"), train.get("steps")) {
        let message = "`epochs` and `steps` are both given";
        return Err(faults.error(Code::Length, &steps.path, steps.key_span, message, "keep one of them"));
    }
    match (epochs?, steps?) {
        (Some(epochs), _) => Ok(TrainLength::Epochs(epochs)),
        (None, Some(steps)) => Ok(TrainLength::Steps(steps)),
        (None, None) => {
            let help = "add `epochs: 5` or `steps: 1000`";
            Err(train.field.fault(faults, Code::Length, "neither `epochs` nor `steps` is given", help))
        }
    }
}

/// Where the job says nothing: `strict` if the exchange can be, else `samples`.
fn determinism(train: &Block<'_>, faults: &mut Faults) -> Result<Determinism, Reported> {
    let given = train.optional(faults, "determinism", |field, faults| {
        let built = [("strict", Determinism::Strict), ("samples", Determinism::Samples)];
        Ok((field.choice(faults, Code::BadValue, &built, &["none"])?, field.clone()))
    })?;
    let loose = loose_exchange(train);
    let Some((determinism, field)) = given else {
        return Ok(if loose.is_some() { Determinism::Samples } else { Determinism::Strict });
    };
    if determinism == Determinism::Strict
        && let Some(reason) = loose
    {
        let message = format!("`strict` cannot be kept with {reason}");
        return Err(field.fault(faults, Code::Determinism, message, "use `determinism: samples`, or leave that out"));
    }
    Ok(determinism)
}

/// Why the exchange of parameters that the file asks for cannot be bit-identical, if so.
fn loose_exchange(train: &Block<'_>) -> Option<String> {
    let all_reduce = train.get("strategy").is_some_and(|field| field.is_word("allreduce"));
    let ps = train.get("ps").filter(|_| !all_reduce)?;
    let consistency = ps.get("consistency");
    let loose = ["async", "ssp"].into_iter().find(|word| consistency.as_ref().is_some_and(|field| field.is_word(word)));
    match (loose, ps.get("compression")) {
        (Some(word), _) => Some(format!("`consistency: {word}`")),
        (None, Some(_)) => Some("lossy `compression`".to_owned()),
        (None, None) => None,
    }
}
