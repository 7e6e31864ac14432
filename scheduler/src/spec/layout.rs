//! Which keys each block of a job file has: those that are read, and those that are part of the format but not built
//! yet. Keys outside both lists are unknown.

/// The keys of one block.
pub(super) struct Layout {
    /// Where the block is, `<name>` standing for any key; empty for the file itself.
    pub(super) path: &'static str,
    /// The keys that are read.
    pub(super) keys: &'static [&'static str],
    /// The blocks of other kinds of job; the reader of `kind` speaks about them.
    pub(super) kinds: &'static [&'static str],
    /// The keys that are refused as not built yet, with what to do instead.
    pub(super) planned: &'static [(&'static str, &'static str)],
}

const LEAVE_OUT: &str = "leave it out";

pub(super) const JOB: Layout = Layout {
    path: "",
    keys: &[
        "version",
        "kind",
        "name",
        "description",
        "project",
        "labels",
        "priority",
        "workers",
        "resources",
        "placement",
        "market",
        "max_price",
        "budget",
        "deadline",
        "objective",
        "elastic",
        "retry",
        "checkpoint",
        "data",
        "train",
        "actors",
    ],
    kinds: &["command", "tune"],
    planned: &[
        ("queue", "leave it out; jobs start in the order they came"),
        ("depends_on", "run the jobs one after the other with `neap run --wait`"),
        ("schedule", "start the job from cron with `neap run`"),
        ("infra", "leave it out; nodes come from the local provider"),
        ("max_duration", "limit the training with `train.epochs` or `train.steps`"),
        ("array", "only `kind: train` and `kind: actors` can be run"),
        ("utilization", LEAVE_OUT),
        ("notify", "wait for the job with `neap run --wait` and look at the exit code"),
    ],
};

pub(super) const WORKERS: Layout = Layout {
    path: "workers",
    keys: &["min", "target", "max"],
    kinds: &[],
    planned: &[("per_node", "leave it out; each node carries one worker of the job")],
};

pub(super) const RESOURCES: Layout = Layout {
    path: "resources",
    keys: &["cpus", "memory"],
    kinds: &[],
    planned: &[
        ("disk", LEAVE_OUT),
        ("gpu", "leave it out; `train.backend: wgpu` computes on the graphics card that a node has"),
        ("shm_size", LEAVE_OUT),
        ("instance_type", "say what is needed with `cpus` and `memory`"),
        ("any_of", "say what is needed with `cpus` and `memory`"),
        ("ordered", "say what is needed with `cpus` and `memory`"),
    ],
};

pub(super) const PLACEMENT: Layout = Layout {
    path: "placement",
    keys: &["gang"],
    kinds: &[],
    planned: &[
        ("strategy", "leave it out; each worker gets a node of its own"),
        ("same_zone", "leave it out; the local provider has one zone"),
        ("gang_timeout", "leave it out; the job waits until `workers.min` nodes can be had"),
    ],
};

pub(super) const BUDGET: Layout = Layout {
    path: "budget",
    keys: &["max_cost", "max_cost_per_hour", "warn_at", "on_exceed"],
    kinds: &[],
    planned: &[],
};

pub(super) const ELASTIC: Layout = Layout {
    path: "elastic",
    keys: &["on_preempt"],
    kinds: &[],
    planned: &[("resize_interval", LEAVE_OUT), ("cooldown", LEAVE_OUT)],
};

pub(super) const RETRY: Layout = Layout {
    path: "retry",
    keys: &["max_restarts"],
    kinds: &[],
    planned: &[
        ("on_events", "leave it out; lost nodes are always replaced, crashes count against `max_restarts`"),
        ("window", LEAVE_OUT),
        ("backoff", LEAVE_OUT),
        ("retry_exit_codes", LEAVE_OUT),
    ],
};

pub(super) const CHECKPOINT: Layout = Layout {
    path: "checkpoint",
    keys: &["uri", "every", "keep", "on_notice"],
    kinds: &[],
    planned: &[("managed", "leave it out; training jobs write their checkpoints themselves")],
};

pub(super) const DATA: Layout = Layout { path: "data", keys: &["train", "eval"], kinds: &[], planned: &[] };

pub(super) const DATA_SET: Layout = Layout {
    path: "data.<name>",
    keys: &[
        "uri",
        "format",
        "split",
        "label",
        "target",
        "columns",
        "ignore",
        "categories",
        "shuffle",
        "micro_shard",
        "prefetch",
        "locality",
    ],
    kinds: &[],
    planned: &[("delivery", "leave it out; every sample is used exactly once per epoch")],
};

pub(super) const SPLIT: Layout =
    Layout { path: "data.<name>.split", keys: &["rows", "hash", "by"], kinds: &[], planned: &[] };

pub(super) const SHUFFLE: Layout =
    Layout { path: "data.<name>.shuffle", keys: &["seed", "window"], kinds: &[], planned: &[] };

pub(super) const TRAIN: Layout = Layout {
    path: "train",
    keys: &[
        "entry",
        "artifact",
        "backend",
        "strategy",
        "ps",
        "global_batch",
        "micro_batch",
        "logical_shards",
        "epochs",
        "steps",
        "determinism",
        "seed",
        "init",
        "params",
    ],
    kinds: &[],
    planned: &[],
};

pub(super) const INIT: Layout =
    Layout { path: "train.init", keys: &["uri", "rename", "fresh", "ignore", "freeze"], kinds: &[], planned: &[] };

pub(super) const PS: Layout = Layout {
    path: "train.ps",
    keys: &["servers", "replicas", "placement", "consistency", "staleness", "compression", "topk_share"],
    kinds: &[],
    planned: &[],
};

pub(super) const ACTORS: Layout =
    Layout { path: "actors", keys: &["main", "artifact", "params"], kinds: &[], planned: &[] };

/// Every block with fixed keys.
pub(super) const ALL: &[Layout] = &[
    JOB, WORKERS, RESOURCES, PLACEMENT, BUDGET, ELASTIC, RETRY, CHECKPOINT, DATA, DATA_SET, SPLIT, SHUFFLE, TRAIN,
    INIT, PS, ACTORS,
];
