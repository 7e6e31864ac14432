//! The codes of faults in job files: stable numbers that people search for and `neap explain E044` explains.
//!
//! Numbers below E080 are those of the field they belong to. E080–E089 are about the file as text, E090 and E091 about
//! keys and values that Neap does not know (yet). A number is never used again for something else.

use crate::codes::codes;

codes! {
    /// What kind of fault it is. The number is stable; the message beside it may change.
    enum Code;

    Version = "E001", "the job file's version is not 1",
        "Every job file says `version: 1`, so that a later format can be told apart from this one.";
    Kind = "E002", "unknown kind of job",
        "`kind` says what the job is: `train` trains a model with one of the entries built in or registered, `actors` runs the actors of a program of your own.";
    KindBlock = "E003", "the block of the job's kind is missing, or there is another one",
        "A job has exactly the block that its `kind` names: with `kind: train` a block `train:`, with `kind: actors` a block `actors:` and no `data:`, and never `command:` or `tune:`.";
    Name = "E004", "the name is not a DNS label",
        "Names end up in host names and labels: 1 to 63 lowercase letters, digits and `-`, with a letter or digit first and last. Leave `name` out and one is made up.";
    Project = "E006", "the project cannot be used",
        "A project is named like a job: 1 to 63 lowercase letters, digits and `-`, with a letter or digit first and last. It is there once a job or a budget names it. Without `project` the job goes to `default`.";
    Priority = "E007", "not a priority",
        "`priority` is a whole number from 0 to 1000, 500 where it is left out. Policies that look at it serve the higher one first.";
    Workers = "E010", "the numbers of workers contradict each other",
        "`workers` is one number, a range `\"2..8\"`, or `{min, target, max}` with 1 ≤ min ≤ target ≤ max. Below `min` the job does not run, `target` is what is aimed at, above `max` it never goes.";
    Cpus = "E012", "not a number of processors",
        "`resources.cpus` is what one worker needs: `4`, `4+`, `4..8` or a part such as `0.5`. Of a range the lower end is the need.";
    Memory = "E013", "not an amount of memory",
        "`resources.memory` needs a unit: kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024), as in `16GB`, `16GB..` or `16GB..64GB`. Of a range the lower end is the need.";
    MaxPrice = "E017", "the price limit cannot be used",
        "`max_price` is the most one node may cost, in dollars per hour, above 0 and with at most six decimals: `max_price: 0.35`.";
    UnsafeSpot = "E020", "a spot job that would hardly ever be done",
        "Without checkpoints every preemption throws all work away. `neap plan` refuses a job of `market: spot` that is less likely than not to be done within its deadline, or within ten times its ideal time. Write checkpoints, use `market: on_demand`, or say `--allow-unsafe-spot`.";
    Budget = "E021", "the budget cannot be used",
        "`budget.max_cost` is what the whole job may cost and `budget.max_cost_per_hour` what its nodes may cost together, in dollars above 0 with at most six decimals; give at least one of them. `warn_at` is a part from 0 to 1, 0.8 where it is left out. The budgets of projects and of the organisation (`neap budget set`) follow the same rules.";
    OverSharedBudget = "E022", "the job may cost more than its project has left",
        "`budget.max_cost` is more than what the project's or the organisation's budget has left: its limit, less what is spent and what is set aside for nodes that run. `neap budget show project/NAME` shows all three. Lower `max_cost`, raise that budget with `neap budget set`, or wait until jobs that run give back what is set aside for them.";
    OverForecast = "E023", "the job will most likely cost more than its budget",
        "The forecast made before the job was handed in is as likely too low as too high (P50), and it is above `budget.max_cost`: the job would probably be stopped before it is done. Raise `max_cost`, ask for something cheaper (`neap plan` lists what is), or run it anyway with `--force`.";
    OverBudgetNeedsCheckpoint = "E024", "the budget's end needs a checkpoint",
        "With `on_exceed: checkpoint_and_stop` the job saves its state when its money ends, so checkpoints cannot be switched off with `checkpoint.every: none` and `on_notice: false`. Use `on_exceed: stop`, or write checkpoints.";
    Deadline = "E025", "the deadline cannot be met or read",
        "`deadline` is a time from the moment of submission, such as `18h` or `1d12h`, or a moment in the future, such as `2027-01-31T18:00:00Z`.";
    DeadlineTooShort = "E026", "the deadline leaves too little time",
        "Even with all the workers it may have, and nothing going wrong, the job takes longer than its `deadline` leaves. Give it more time or more workers, or run it anyway with `--force`: then it is stopped at its deadline, with its state saved.";
    CheckpointUri = "E030", "checkpoints cannot be written there",
        "`checkpoint.uri` names a local folder (a path, which starts at the job file's folder where it is relative, or `file:///an/absolute/path`) or a place in an object store (`s3://bucket/prefix`, `gs://…`, `az://…`), and something can be written there. The credentials of a store come from the environment of `neap up` (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`), never from a job file. Without it the project's own store is used.";
    CheckpointEvery = "E031", "not a checkpoint interval",
        "`checkpoint.every` is `auto`, `none`, a number of epochs as in `2epochs`, of steps as in `100steps`, or a time as in `10m`. With `auto` a checkpoint is written at each epoch's end; as soon as the control plane has seen how often such nodes are lost, at the interval with which the least work is lost (Daly 2006), which takes at most 2 % of the time.";
    DataMissing = "E032", "a data set is missing",
        "A training job needs `data.train` with its `uri`; `data.eval` is optional and gives the accuracy at the end. A `uri` is a path, or an object, a prefix or a pattern in an object store (`s3://bucket/key`, `gs://…`, `az://…`), which the control plane must be able to look at: the credentials of a store come from the environment of `neap up` (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`), never from a job file.";
    UnknownEntry = "E040", "unknown train entry or main function",
        "`train.entry` names what is trained: an entry built in, such as `mlp` or `cnn`, or with `train.artifact` an entry that this program registered (`neap entries` and `neap entries PROGRAM` list them). `actors.main` names a main function that the program registered: this one, or the one of `actors.artifact`.";
    Artifact = "E041", "the artifact cannot be used",
        "`train.artifact` and `actors.artifact` are a program of your own that registers its entries or main functions and calls `neap::main` or `neap::worker_main`: a path (relative ones start at the job file's folder) or `blake3:…` of one that the control plane has. It is built for the machines that run it, and with the version of Neap that runs them. `neap entries PROGRAM` shows what it has.";
    ServerBlock = "E042", "settings of a parameter server without one",
        "With `strategy: allreduce` the workers add up their gradients among themselves, so a block `train.ps` has nothing to describe. Remove it, or use `strategy: ps`.";
    Staleness = "E043", "a bound of staleness without an exchange that has one",
        "`train.ps.staleness` says how many steps a logical shard may be ahead of the slowest one, which means something only with `consistency: ssp`. With `sync` nobody is ever ahead, with `async` there is no bound.";
    BatchNotDivisible = "E044", "the global batch cannot be cut into equal shards",
        "Every step's `global_batch` samples are cut into `logical_shards` equal parts, whatever the number of workers, so the first must be a multiple of the second.";
    TooFewShards = "E045", "more workers than logical shards",
        "A worker carries at least one logical shard, so `workers` can never be more than `train.logical_shards`. The number of shards is part of the job and decides its result; the number of workers does not.";
    Length = "E046", "the training's length is not said once",
        "A training ends after `train.epochs` passes over the data or after `train.steps` steps; give exactly one of them.";
    Determinism = "E047", "the exchange of parameters cannot be strict",
        "`determinism: strict` means bit-identical parameters whatever the workers. That takes a synchronous exchange without lossy compression; otherwise use `determinism: samples`.";
    Param = "E048", "a parameter does not fit the entry",
        "`train.params` are the entry's own settings; it says which there are, of which type and in which range.";
    InitWeights = "E049", "the weights to begin with cannot be used",
        "`train.init.uri` names a `.safetensors` file or a `state_dict` of PyTorch (`.pt`, `.pth`), on a disk or in an object store, that is there and has a tensor of the right shape for each of the model's. `rename` maps the file's names to the model's, `fresh` lists tensors that are drawn from the seed instead, `ignore` what the file has too many, `freeze` what does not change.";
    Syntax = "E080", "not valid YAML",
        "A job file is one YAML 1.2 document. Indent with spaces, put a space after each `:`, and quote texts that hold `: `, ` #` or start with a special character.";
    NotAJob = "E081", "the file holds no job",
        "A job file is a map of keys to values that starts with `version: 1` and `kind: train`.";
    YamlFeature = "E082", "a YAML feature that job files do not use",
        "Anchors, aliases, merge keys, tags, composite keys and several documents in one file are refused: a job file says each thing once and in plain sight.";
    DuplicateKey = "E083", "a key is given twice",
        "Each key may stand once in its map; which of two values counts would be a guess.";
    WrongType = "E084", "a value of the wrong type",
        "The field takes another type: a number, a text, `true` or `false`, a list or a map. A text that looks like a number needs quotes.";
    BadValue = "E085", "a value that the field does not take",
        "The value has the right type but is outside of what the field takes.";
    Missing = "E086", "a required field is missing",
        "The field has no default, so it must be given.";
    TooLarge = "E087", "the file is too large or nested too deeply",
        "A job file has at most 64 KiB and 16 levels. Larger things (lists of files, environments) belong in the data or the program.";
    NotBuiltYet = "E090", "not built yet",
        "The field or value is part of the job format, but this version of Neap cannot do it yet. It is refused rather than ignored.";
    UnknownKey = "E091", "unknown key",
        "The key is not part of the job format; often it is a slip of the pen or stands in the wrong block.";
}
