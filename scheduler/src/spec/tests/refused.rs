//! Job files that are refused: every code, with its place, message and help.

use expect_test::{Expect, expect};

use super::accepted::{FULL, SMALL};
use super::*;

/// The faults of the smallest valid file with `lines` added to it.
fn added(lines: &str) -> String {
    case(lines, &format!("{SMALL}{lines}\n"))
}

/// The faults of the complete file in which `from` was replaced.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(FULL.matches(from).count(), 1, "`{from}` stands once in the file");
    case(to, &FULL.replace(from, to))
}

/// The faults of this text.
fn whole(text: &str) -> String {
    case(text, text)
}

/// What was done to the file, and the faults it gave.
fn case(what: &str, text: &str) -> String {
    let what: String = what.replace('\n', "⏎").replace('\t', "⇥").chars().take(100).collect();
    format!("{what}\n{}", faults(text))
}

fn check(cases: &[String], wanted: Expect) {
    wanted.assert_eq(&cases.concat());
}

#[test]
fn not_a_job() {
    check(
        &[whole(""), whole("# nothing\n"), whole("---\n"), whole("- 1\n- 2\n"), whole("just words"), whole("{}")],
        expect![[r#"

            1:1 error[E081] the file is empty | start with `version: 1` and `kind: train`
            # nothing⏎
            1:1 error[E081] the file is empty | start with `version: 1` and `kind: train`
            ---⏎
            1:4 error[E081] the file holds nothing instead of a job | start with `version: 1` and `kind: train`
            - 1⏎- 2⏎
            1:1 error[E081] the file holds a list instead of a job | start with `version: 1` and `kind: train`
            just words
            1:1 error[E081] the file holds `just words` instead of a job | start with `version: 1` and `kind: train`
            {}
            1:1 error[E032] data: `data` is missing | name the training data: `data: {train: {uri: path/to/data}}`
            1:1 error[E086] kind: `kind` is missing | say `kind: train` or `kind: actors`
            1:1 error[E003] train: `train` is missing | add the block `train:` with `entry` and `epochs`
            1:1 error[E086] version: `version` is missing | start the file with `version: 1`
        "#]],
    );
}

#[test]
fn not_yaml() {
    check(
        &[
            whole("version: 1\nkind: [train\nname: x\n"),
            whole("version: 1\n\tkind: train\n"),
            whole("version: 1\nname: a: b\n"),
            whole("name: \"open\n"),
            whole(&"[".repeat(100)),
            whole(&"a:\n".repeat(30_000)),
        ],
        expect![[r#"
            version: 1⏎kind: [train⏎name: x⏎
            3:5 error[E080] not valid YAML: illegal placement of ':' indicator | check indentation, quotes and brackets in this line and the one before
            version: 1⏎⇥kind: train⏎
            1:10 error[E080] not valid YAML: while scanning a plain scalar, found a tab | indent with spaces; YAML does not take tabs
            version: 1⏎name: a: b⏎
            2:8 error[E080] not valid YAML: mapping values are not allowed in this context | check indentation, quotes and brackets in this line and the one before
            name: "open⏎
            2:1 error[E080] not valid YAML: invalid indentation in multiline quoted scalar | check indentation, quotes and brackets in this line and the one before
            [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
            1:17 error[E087] maps and lists are nested more than 16 deep | no field needs that; check the brackets
            a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a:⏎a
            1:1 error[E087] the file has 90000 bytes; a job file has at most 65536 | keep data and programs in files of their own
        "#]],
    );
}

#[test]
fn yaml_that_job_files_do_not_use() {
    check(
        &[
            added("labels: &all {a: b}"),
            added("labels: {a: &x b, c: *x, d: *missing}"),
            added("labels: {<<: {a: b}}"),
            added("name: !!str x\nlabels: !mine {a: b}"),
            added("? [a, b]\n: c"),
            added("---\nversion: 1"),
            whole("%YAML 1.2\n---\nversion: 1\n"),
        ],
        expect![[r#"
            labels: &all {a: b}
            5:9 error[E082] labels: the anchor `&all` is not used in job files | write the value out where it is needed
            labels: {a: &x b, c: *x, d: *missing}
            5:13 error[E082] labels: the anchor `&x` is not used in job files | write the value out where it is needed
            5:22 error[E082] labels.c: the alias `*x` is not used in job files | write the value out
            5:29 error[E082] labels.d: the alias `*missing` is not used in job files | write the value out
            labels: {<<: {a: b}}
            5:10 error[E082] labels: the merge key `<<` is not used in job files | write the keys out
            name: !!str x⏎labels: !mine {a: b}
            5:7 error[E082] name: the tag `!!str` is not used in job files | leave it out; the field says which type it takes
            6:9 error[E082] labels: the tag `!mine` is not used in job files | leave it out; the field says which type it takes
            ? [a, b]⏎: c
            5:3 error[E082] a list or map as a key is not used in job files | keys are plain words
            ---⏎version: 1
            5:1 error[E082] a second document is not used in job files | put each job into a file of its own
            %YAML 1.2⏎---⏎version: 1⏎
            1:1 error[E080] not valid YAML: YAML directives are disallowed | check indentation, quotes and brackets in this line and the one before
        "#]],
    );
}

#[test]
fn a_byte_order_mark_and_other_line_ends_move_nothing() {
    let faults = parse("\u{feff}version: 2\r\nkind: command\r\n", &context()).expect_err("two faults");
    let places: Vec<_> =
        faults.iter().flat_map(|fault| &fault.span).map(|span| (span.line, span.bytes.clone())).collect();
    assert_eq!(places, [(1, 12..13), (2, 21..28)]);
}

#[test]
fn keys() {
    check(
        &[
            added("kind: train"),
            added("worker: 3"),
            added("epochs: 3"),
            added("zzz: 3"),
            added("queue: fast\nschedule: daily"),
            added("resources: {gpu: 1, cpu: 3}"),
            changed("train: {uri: /usr", "test: {uri: /usr"),
            changed("split: train", "delivery: exactly_once"),
        ],
        expect![[r#"
            kind: train
            5:1 error[E083] kind: `kind` is given twice, first in line 2 | remove one of the two
            worker: 3
            5:1 error[E091] worker: unknown key `worker` | did you mean `workers`?
            epochs: 3
            5:1 error[E091] epochs: unknown key `epochs` | it belongs into `train`
            zzz: 3
            5:1 error[E091] zzz: unknown key `zzz` | the keys here are `version`, `kind`, `name`, `description`, `project`, `labels`, `priority`, `workers`, `resources`, `placement`, `market`, `max_price`, `budget`, `deadline`, `objective`, `elastic`, `retry`, `checkpoint`, `data`, `train` or `actors`
            queue: fast⏎schedule: daily
            5:1 error[E090] queue: `queue` is not built yet | leave it out; jobs start in the order they came
            6:1 error[E090] schedule: `schedule` is not built yet | start the job from cron with `neap run`
            resources: {gpu: 1, cpu: 3}
            5:13 error[E090] resources.gpu: `gpu` is not built yet | leave it out; `train.backend: wgpu` computes on the graphics card that a node has
            5:21 error[E091] resources.cpu: unknown key `cpu` | did you mean `cpus`?
            test: {uri: /usr
            25:1 error[E032] data.train: `train` is missing | name the training data: `data: {train: {uri: path/to/data}}`
            26:3 error[E091] data.test: unknown key `test` | the keys here are `train` or `eval`
            delivery: exactly_once
            26:49 error[E090] data.train.delivery: `delivery` is not built yet | leave it out; every sample is used exactly once per epoch
        "#]],
    );
}

#[test]
fn version_and_kind() {
    check(
        &[
            changed("version: 1", "version: 2"),
            changed("version: 1", "version: one"),
            changed("kind: train", "kind: tran"),
            changed("kind: train", "kind: command"),
            whole("version: 1\nkind: tune\ntune: {metric: x}\n"),
            added("command: {run: ls}\ntune: {}"),
            whole("version: 1\nkind: train\ndata: {train: {uri: a.csv}}\n"),
        ],
        expect![[r#"
            version: 2
            1:10 error[E001] version: the version `2` is not known | write `version: 1`
            version: one
            1:10 error[E001] version: the version `one` is not known | write `version: 1`
            kind: tran
            2:7 error[E002] kind: unknown value `tran` | did you mean `train`?
            kind: command
            2:7 error[E090] kind: `command` is not built yet | write `train` or `actors`
            version: 1⏎kind: tune⏎tune: {metric: x}⏎
            2:7 error[E090] kind: `tune` is not built yet | write `train` or `actors`
            command: {run: ls}⏎tune: {}
            5:1 error[E003] command: a job of `kind: train` has no block `command` | remove the block, or change `kind`
            6:1 error[E003] tune: a job of `kind: train` has no block `tune` | remove the block, or change `kind`
            version: 1⏎kind: train⏎data: {train: {uri: a.csv}}⏎
            1:1 error[E003] train: `train` is missing | add the block `train:` with `entry` and `epochs`
        "#]],
    );
}

#[test]
fn own_actors() {
    let actors = |more: &str| whole(&format!("version: 1\nkind: actors\n{more}\n"));
    check(
        &[
            actors("name: x"),
            actors("actors: {params: {a: 1}}"),
            actors("actors: {main: word-cuont}"),
            actors("actors: {main: word-count, params: {list: [1], off: off}, mian: x, artifact: y}"),
            actors("actors: {main: word-count}\ndata: {train: {uri: a.csv}}\ntrain: {entry: mlp}"),
            actors("actors: {main: word-count}\ncheckpoint: {every: 10steps, keep: 4}"),
            added("actors: {main: word-count}"),
        ],
        expect![[r#"
            version: 1⏎kind: actors⏎name: x⏎
            1:1 error[E003] actors: `actors` is missing | add the block `actors:` with `main`
            version: 1⏎kind: actors⏎actors: {params: {a: 1}}⏎
            3:1 error[E086] actors.main: `main` is missing | name the main function: `word-count`
            version: 1⏎kind: actors⏎actors: {main: word-cuont}⏎
            3:16 error[E040] actors.main: there is no main function `word-cuont` | did you mean `word-count`?
            version: 1⏎kind: actors⏎actors: {main: word-count, params: {list: [1], off: off}, mian: x, artifact:
            3:37 error[E084] actors.params.list: expected a number, a text or a switch, found a list | give a single value
            3:53 error[E084] actors.params.off: expected a text, found `off` | put it in quotes: "off"
            3:59 error[E091] actors.mian: unknown key `mian` | did you mean `main`?
            3:78 error[E041] actors.artifact: nothing is known about the artifact `y` | hand the job in with `neap run`, which looks into it
            version: 1⏎kind: actors⏎actors: {main: word-count}⏎data: {train: {uri: a.csv}}⏎train: {entry: mlp}⏎
            4:1 error[E003] data: a job of `kind: actors` has no block `data` | remove the block, or change `kind`
            5:1 error[E003] train: a job of `kind: actors` has no block `train` | remove the block, or change `kind`
            version: 1⏎kind: actors⏎actors: {main: word-count}⏎checkpoint: {every: 10steps, keep: 4}⏎
            4:14 error[E090] checkpoint.every: own actors save their states when they have something to save | leave it out
            4:30 error[E090] checkpoint.keep: own actors save their states when they have something to save | leave it out
            actors: {main: word-count}
            5:1 error[E003] actors: a job of `kind: train` has no block `actors` | remove the block, or change `kind`
        "#]],
    );
}

#[test]
fn names_and_texts() {
    check(
        &[
            changed("name: fashion-mnist", "name: Fashion_MNIST"),
            changed("name: fashion-mnist", "name: 2026"),
            changed("name: fashion-mnist", "name:"),
            changed("project: default", "project: Computer_Vision"),
            changed("team: vision", "team: yes"),
            changed("team: vision", "team: [a]"),
            added(&format!("labels: {{{}: x}}", "k".repeat(64))),
            added(&format!("description: {}", "long ".repeat(201).trim())),
        ],
        expect![[r#"
            name: Fashion_MNIST
            3:7 error[E004] name: `Fashion_MNIST` is not a DNS label | use 1 to 63 lowercase letters, digits and `-`, with a letter or digit first and last
            name: 2026
            3:7 error[E084] name: expected a text, found `2026` | put it in quotes: "2026"
            name:
            3:1 error[E084] name: expected a text, found nothing | give a text
            project: Computer_Vision
            5:10 error[E006] project: `Computer_Vision` is not a DNS label | use 1 to 63 lowercase letters, digits and `-`, with a letter or digit first and last
            team: yes
            6:16 error[E084] labels.team: expected a text, found `yes` | put it in quotes: "yes"
            team: [a]
            6:10 error[E084] labels.team: expected a text, found a list | give a text
            labels: {kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk: x}
            5:10 error[E085] labels.kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…: the label's key has 64 characters | use 1 to 63
            description: long long long long long long long long long long long long long long long long long lo
            5:14 error[E085] description: the description has 1004 characters | keep it within 1000
        "#]],
    );
}

#[test]
fn workers() {
    check(
        &[
            added("workers: 0"),
            added("workers: -1"),
            added("workers: 8..2"),
            added("workers: many"),
            added("workers: [1, 2]"),
            added("workers: {min: 3, target: 2}"),
            added("workers: {target: 5, max: 4}"),
            added("workers: {min: 0, max: 2, per_node: 2}"),
            added("workers: 99999999"),
            added("workers: 9"),
            changed("logical_shards: 4", "logical_shards: 2"),
        ],
        expect![[r#"
            workers: 0
            5:10 error[E010] workers: a job needs at least 1 worker | the order is 1 ≤ min ≤ target ≤ max
            workers: -1
            5:10 error[E010] workers: `-1` is not a number or range of workers | write a number, a range "2..8", or {min: 2, target: 4, max: 8}
            workers: 8..2
            5:10 error[E010] workers: the minimum 8 is above the target 2 | the order is 1 ≤ min ≤ target ≤ max
            workers: many
            5:10 error[E010] workers: `many` is not a number or range of workers | write a number, a range "2..8", or {min: 2, target: 4, max: 8}
            workers: [1, 2]
            5:1 error[E084] workers: expected a number or range of workers, found a list | write a number, a range "2..8", or {min: 2, target: 4, max: 8}
            workers: {min: 3, target: 2}
            5:1 error[E010] workers: the minimum 3 is above the target 2 | the order is 1 ≤ min ≤ target ≤ max
            workers: {target: 5, max: 4}
            5:1 error[E010] workers: the target 5 is above the maximum 4 | the order is 1 ≤ min ≤ target ≤ max
            workers: {min: 0, max: 2, per_node: 2}
            5:16 error[E010] workers.min: 0 is out of range | give a whole number from 1 to 10000
            5:27 error[E090] workers.per_node: `per_node` is not built yet | leave it out; each node carries one worker of the job
            workers: 99999999
            5:10 error[E010] workers: 99999999 workers are more than a job may have, which is 10000 | the order is 1 ≤ min ≤ target ≤ max
            workers: 9
            5:10 error[E045] workers: 8 logical shards cannot be carried by up to 9 workers | set `train.logical_shards` to 9 or more, or allow at most 8 workers
            logical_shards: 2
            39:19 error[E045] train.logical_shards: 2 logical shards cannot be carried by up to 4 workers | set `train.logical_shards` to 4 or more, or allow at most 2 workers
        "#]],
    );
}

#[test]
fn resources_and_price() {
    check(
        &[
            changed("cpus: 0.5+", "cpus: 0"),
            changed("cpus: 0.5+", "cpus: 8..4"),
            changed("memory: 1GiB..4GiB", "memory: 16"),
            changed("memory: 1GiB..4GiB", "memory: 16G"),
            changed("max_price: 0.35", "max_price: 0"),
            changed("max_price: 0.35", "max_price: -1.5"),
            changed("max_price: 0.35", "max_price: $2"),
            changed("max_price: 0.35", "max_price: 0.0000001"),
            changed("market: spot", "market: sport"),
            changed("{gang: true}", "{gang: false, strategy: pack}"),
            changed("on_preempt: replace", "on_preempt: wait"),
            changed("max_restarts: 3", "max_restarts: -3"),
        ],
        expect![[r#"
            cpus: 0
            10:9 error[E012] resources.cpus: `0` is not a number of processors | write `4`, `4+`, `4..8` or a part of one, such as `0.5`
            cpus: 8..4
            10:9 error[E012] resources.cpus: `8..4` is not a number of processors | write `4`, `4+`, `4..8` or a part of one, such as `0.5`
            memory: 16
            11:11 error[E013] resources.memory: 16 has no unit | write `16GB` or `16MiB`
            memory: 16G
            11:11 error[E013] resources.memory: `16G` is not an amount of memory | write it with its unit: `16GB`, `16GB..`, `16GB..64GB` or `512MiB`
            max_price: 0
            14:12 error[E017] max_price: the price must be above 0 | give dollars per hour for one node, as in `max_price: 0.35`
            max_price: -1.5
            14:12 error[E017] max_price: the price must be above 0 | give dollars per hour for one node, as in `max_price: 0.35`
            max_price: $2
            14:12 error[E017] max_price: `$2` is not an amount in dollars | give dollars per hour for one node, as in `max_price: 0.35`
            max_price: 0.0000001
            14:12 error[E017] max_price: `0.0000001` has more than six decimals | the smallest one is 0.000001
            market: sport
            13:9 error[E085] market: unknown value `sport` | did you mean `spot`?
            {gang: false, strategy: pack}
            12:19 error[E090] placement.gang: `gang: false` is not built yet | leave it out; the workers of `workers.min` start together
            12:26 error[E090] placement.strategy: `strategy` is not built yet | leave it out; each worker gets a node of its own
            on_preempt: wait
            16:23 error[E090] elastic.on_preempt: `wait` is not built yet | write `shrink` or `replace`
            max_restarts: -3
            17:23 error[E085] retry.max_restarts: -3 is out of range | give a whole number from 0 to 1000
        "#]],
    );
}

#[test]
fn money_and_time() {
    check(
        &[
            added("priority: 1001"),
            added("budget: {}"),
            added("budget: 12"),
            added("budget: {max_cost: 0}"),
            added("budget: {max_cost: -3}"),
            added("budget: {max_cost: .nan}"),
            added("budget: {max_cost_per_hour: 0.0000001}"),
            added("budget: {max_cost: 1, warn_at: 80}"),
            added("budget: {max_cost: 1, on_exceed: pause}"),
            added("budget: {max_cots: 1}"),
            added("budget: {max_cost: 1}\ncheckpoint: {every: none, on_notice: false}"),
            added("deadline: soon"),
            added("deadline: 2027-01-31"),
            added("objective: cheap"),
        ],
        expect![[r#"
            priority: 1001
            5:11 error[E007] priority: 1001 is out of range | give a whole number from 0 to 1000
            budget: {}
            5:1 error[E021] budget: the budget has no limit | add `max_cost: 120`, or `max_cost_per_hour: 4.5`
            budget: 12
            5:9 error[E084] budget: expected a map, found `12` | give a map with `max_cost`, `max_cost_per_hour`, `warn_at` or `on_exceed`
            budget: {max_cost: 0}
            5:20 error[E021] budget.max_cost: the budget must be above 0 | give dollars for the whole job, as in `max_cost: 120`
            budget: {max_cost: -3}
            5:20 error[E021] budget.max_cost: the budget must be above 0 | give dollars for the whole job, as in `max_cost: 120`
            budget: {max_cost: .nan}
            5:20 error[E021] budget.max_cost: `.nan` is not an amount in dollars | give dollars for the whole job, as in `max_cost: 120`
            budget: {max_cost_per_hour: 0.0000001}
            5:29 error[E021] budget.max_cost_per_hour: `0.0000001` has more than six decimals | the smallest one is 0.000001
            budget: {max_cost: 1, warn_at: 80}
            5:32 error[E021] budget.warn_at: `80` is not a part from 0 to 1 | write a part of the budget from 0 to 1, as in `warn_at: 0.8`
            budget: {max_cost: 1, on_exceed: pause}
            5:34 error[E090] budget.on_exceed: `pause` is not built yet | write `checkpoint_and_stop` or `stop`
            budget: {max_cots: 1}
            5:10 error[E091] budget.max_cots: unknown key `max_cots` | did you mean `max_cost`?
            budget: {max_cost: 1}⏎checkpoint: {every: none, on_notice: false}
            5:1 error[E024] budget: `checkpoint_and_stop` needs checkpoints, and the job writes none | use `on_exceed: stop`, or write checkpoints
            deadline: soon
            5:11 error[E025] deadline: `soon` is not a deadline | write a time from submission, such as `18h`, or a moment, such as `2027-01-31T18:00:00Z`
            deadline: 2027-01-31
            5:11 error[E025] deadline: `2027-01-31` is not a deadline | write a time from submission, such as `18h`, or a moment, such as `2027-01-31T18:00:00Z`
            objective: cheap
            5:12 error[E085] objective: unknown value `cheap` | write `min_cost`, `min_time` or `balanced`
        "#]],
    );
}

#[test]
fn checkpoints() {
    check(
        &[
            changed("every: 100steps", "every: often"),
            changed("every: 100steps", "every: 0steps"),
            changed("every: 100steps", "every: 0m"),
            changed("keep: 5", "keep: 1"),
            changed("keep: 5", "keep: 0"),
            changed("on_notice: false", "on_notice: \"false\""),
            changed("file:///var/lib/neap/ckpt", "s3://bucket/../ckpt"),
            changed("file:///var/lib/neap/ckpt", "s3://key:secret@bucket/ckpt"),
            changed("file:///var/lib/neap/ckpt", "ftp://bucket/ckpt"),
            changed("file:///var/lib/neap/ckpt", "\"s\\t3://bucket\""),
            changed("file:///var/lib/neap/ckpt", "file://ckpt"),
        ],
        expect![[r#"
            every: often
            21:10 error[E031] checkpoint.every: `often` is not a checkpoint interval | write `auto`, `none`, `2epochs`, `100steps` or `10m`
            every: 0steps
            21:10 error[E031] checkpoint.every: `0steps` is not a checkpoint interval | write `auto`, `none`, `2epochs`, `100steps` or `10m`
            every: 0m
            21:10 error[E031] checkpoint.every: `0m` is not a checkpoint interval | write `auto`, `none`, `2epochs`, `100steps` or `10m`
            keep: 1
            22:9 warning[E085] checkpoint.keep: a single checkpoint leaves nothing when it is damaged; 2 are kept | write `keep: 2`
            keep: 0
            22:9 error[E085] checkpoint.keep: 0 is out of range | give a whole number from 1 to 1000
            on_notice: "false"
            23:14 error[E084] checkpoint.on_notice: expected `true` or `false`, found "false" | write `true` or `false`, without quotes
            s3://bucket/../ckpt
            20:8 error[E030] checkpoint.uri: `s3://bucket/../ckpt` names no place in an object store; one looks like `s3://bucket/some/prefix` | write `s3://bucket/some/prefix`; credentials come from the environment
            s3://key:secret@bucket/ckpt
            20:8 error[E030] checkpoint.uri: a URI holds no credentials; set them in the environment (AWS_ACCESS_KEY_ID and so on) | write `s3://bucket/some/prefix`; credentials come from the environment
            ftp://bucket/ckpt
            20:8 error[E090] checkpoint.uri: `ftp://` is not built yet | write a path, or `file:///an/absolute/path`
            "s\t3://bucket"
            20:8 error[E090] checkpoint.uri: `s�3://` is not built yet | write a path, or `file:///an/absolute/path`
            file://ckpt
            20:8 error[E030] checkpoint.uri: `file://ckpt` has no absolute path behind `file://` | write a path, or `file:///an/absolute/path`
        "#]],
    );
}

#[test]
fn init() {
    let init = |text: &str| changed("seed: 42", &format!("seed: 42\n  init: {text}"));
    check(
        &[
            init("{rename: {a: b}}"),
            init("model.safetensors"),
            init("{uri: model.onnx}"),
            init("{uri: s3://bucket/../model.pt}"),
            init("{uri: model.pt, freez: [a]}"),
            init("{uri: model.pt, freeze: layer1}"),
            init("{uri: model.pt, fresh: [a, {b: c}]}"),
            init("{uri: model.pt, ignore: [\"\"], rename: [a]}"),
        ],
        expect![[r#"
            seed: 42⏎  init: {rename: {a: b}}
            43:3 error[E049] train.init.uri: `uri` is missing | say where the weights are: `uri: model.safetensors`
            seed: 42⏎  init: model.safetensors
            43:9 error[E084] train.init: expected a map, found `model.safetensors` | give a map with `uri`, `rename`, `fresh`, `ignore` or `freeze`
            seed: 42⏎  init: {uri: model.onnx}
            43:15 error[E049] train.init.uri: the name of `model.onnx` does not tell what it is | give a `.safetensors` file, or a state_dict of PyTorch as `.pt` or `.pth`
            seed: 42⏎  init: {uri: s3://bucket/../model.pt}
            43:15 error[E049] train.init.uri: `s3://bucket/../model.pt` names no place in an object store; one looks like `s3://bucket/some/prefix` | write `s3://bucket/some/prefix`; credentials come from the environment
            seed: 42⏎  init: {uri: model.pt, freez: [a]}
            43:25 error[E091] train.init.freez: unknown key `freez` | did you mean `freeze`?
            seed: 42⏎  init: {uri: model.pt, freeze: layer1}
            43:33 error[E084] train.init.freeze: expected a list, found `layer1` | give a list of names or of what they begin with, as in `[layer1]`
            seed: 42⏎  init: {uri: model.pt, fresh: [a, {b: c}]}
            43:25 error[E084] train.init.fresh[1]: expected a text, found a map | give a text
            seed: 42⏎  init: {uri: model.pt, ignore: [""], rename: [a]}
            43:34 error[E085] train.init.ignore[0]: a name is empty | write the name, as in `layer1`
            43:39 error[E084] train.init.rename: expected a map, found a list | give a map from the file's names to the model's, as in `{fc1: layer1}`
        "#]],
    );
}

#[test]
fn data() {
    check(
        &[
            whole("version: 1\nkind: train\ntrain: {entry: mlp, epochs: 1}\n"),
            whole("version: 1\nkind: train\ntrain: {entry: mlp, epochs: 1}\ndata: {eval: {format: csv}}\n"),
            whole(
                "version: 1\nkind: train\ntrain: {entry: mlp, epochs: 1}\n\
                 data: {train: {uri: a.csv, split: {hash: 0.1}}, eval: {uri: a.csv, split: {hash: 0.2}}}\n",
            ),
            changed("uri: eval.csv.gz", "uri: eval.xlsx"),
            changed("uri: eval.csv.gz", "uri: parts/*"),
            changed("uri: eval.csv.gz", "uri: s3://b*/eval.csv"),
            changed("uri: eval.csv.gz", "uri: s3://key:secret@bucket/*.csv"),
            changed("split: {rows: 10..20}", "locality: near"),
            changed("format: idx", "format: orc"),
            changed("split: train", "split: validation"),
            changed("split: {rows: 10..20}", "split: {rows: 20..10}"),
            changed("split: {rows: 10..20}", "split: {hash: 10}"),
            changed("split: {rows: 10..20}", "split: {rows: 10..20, by: id}"),
            changed("split: {rows: 10..20}", "target: value"),
            changed("split: {rows: 10..20}", "ignore: id"),
            changed("split: train", "ignore: [id]"),
            changed("window: 4096", "window: 63"),
            changed("split: {rows: 10..20}", "split: test"),
            changed("shuffle: {seed: 7, window: 4096}", "shuffle: {seed: -7}, label: digit"),
            changed("shuffle: {seed: 7, window: 4096}", "shuffle: 7"),
        ],
        expect![[r#"
            version: 1⏎kind: train⏎train: {entry: mlp, epochs: 1}⏎
            1:1 error[E032] data: `data` is missing | name the training data: `data: {train: {uri: path/to/data}}`
            version: 1⏎kind: train⏎train: {entry: mlp, epochs: 1}⏎data: {eval: {format: csv}}⏎
            4:1 error[E032] data.train: `train` is missing | name the training data: `data: {train: {uri: path/to/data}}`
            4:8 error[E032] data.eval.uri: `uri` is missing | say where the data is: `uri: path/to/data`
            version: 1⏎kind: train⏎train: {entry: mlp, epochs: 1}⏎data: {train: {uri: a.csv, split: {hash: 0.1}}
            4:68 error[E085] data.eval.split: `data.train` cuts the same files in another way | write the same `split` in both; `train` gets the other rows
            uri: eval.xlsx
            28:10 error[E085] data.eval.uri: the name of `eval.xlsx` does not tell its format | say one of `format: idx`, `format: csv`, `format: jsonl`, `format: parquet`, `format: arrow`
            uri: parts/*
            28:10 error[E085] data.eval.uri: the name of `parts/*` does not tell its format | say one of `format: idx`, `format: csv`, `format: jsonl`, `format: parquet`, `format: arrow`
            uri: s3://b*/eval.csv
            28:10 error[E085] data.eval.uri: `s3://b*/eval.csv` names no place in an object store; one looks like `s3://bucket/some/prefix` | write `s3://bucket/a/key`, a prefix, or `s3://bucket/2013-*.csv`; credentials come from the environment
            uri: s3://key:secret@bucket/*.csv
            28:10 error[E085] data.eval.uri: a URI holds no credentials; set them in the environment (AWS_ACCESS_KEY_ID and so on) | write `s3://bucket/a/key`, a prefix, or `s3://bucket/2013-*.csv`; credentials come from the environment
            locality: near
            29:15 error[E085] data.eval.locality: unknown value `near` | write `prefer`, `require` or `ignore`
            format: orc
            26:44 error[E085] data.train.format: unknown value `orc` | write `idx`, `csv`, `jsonl`, `parquet` or `arrow`
            split: validation
            26:56 error[E085] data.train.split: unknown value `validation` | write `train` or `test`
            split: {rows: 20..10}
            29:19 error[E085] data.eval.split.rows: `20..10` is not a range of rows | the first row is 0 and the end is not included: `0..1500`
            split: {hash: 10}
            29:19 error[E085] data.eval.split.hash: `10` is not a share between 0 and 1 | write the share of `data.eval`, as in `hash: 0.1`
            split: {rows: 10..20, by: id}
            29:31 error[E085] data.eval.split.by: a cut by rows needs no column | leave `by` out
            target: value
            29:13 error[E085] data.eval.target: the columns are those of `data.train` | leave it out here
            ignore: id
            29:13 error[E085] data.eval.ignore: the columns are those of `data.train` | leave it out here
            ignore: [id]
            26:49 error[E085] data.train.ignore: IDX data has no columns with names | leave it out; an IDX folder holds images and their classes
            window: 63
            26:90 error[E085] data.train.shuffle.window: a window of 63 samples is smaller than a micro-shard of 64 | make the window larger, or `micro_shard` smaller
            split: test
            29:12 error[E085] data.eval.split: `test` names a part of a folder of IDX files; a table has none | cut a table by rows or by hash: `split: {rows: 0..1500}`, `split: {hash: 0.1}`
            shuffle: {seed: -7}, label: digit
            26:79 error[E085] data.train.shuffle.seed: -7 is out of range | give a whole number, 0 or more
            26:91 error[E085] data.train.label: IDX data has no columns with names | leave it out; IDX folders have their labels in files of their own
            shuffle: 7
            26:72 error[E084] data.train.shuffle: expected `{seed: 7}` or `false`, found `7` | write `{seed: 7}`, or `false` for the order of the file
        "#]],
    );
}

#[test]
fn training() {
    let strict = FULL.replace("determinism: samples", "determinism: strict");
    check(
        &[
            changed("entry: cnn", "entry: cn"),
            changed("entry: cnn", "entry: resnet50"),
            changed("backend: flex", "backend: rocm"),
            changed("strategy: ps", "strategy: allreduce"),
            changed("servers: 1", "servers: 65"),
            changed("servers: 1", "replicas: 2"),
            changed("servers: 1", "replicas: 1"),
            changed("servers: 1, placement: separate", "servers: 2, replicas: 1"),
            changed("placement: separate, consistency: sync", "replicas: 1, consistency: async"),
            changed("servers: 1, placement: separate, consistency: sync", "servers: 2, consistency: async"),
            changed("consistency: sync", "consistency: async, staleness: 4"),
            changed("consistency: sync", "staleness: 4"),
            changed("consistency: sync", "consistency: ssp, staleness: 20000"),
            changed("consistency: sync", "consistency: bsp"),
            changed("global_batch: 64", "global_batch: 66"),
            changed("global_batch: 64", "global_batch: 1.5"),
            changed("  global_batch: 64\n  logical_shards: 4", "  logical_shards: 5"),
            changed("logical_shards: 4", "logical_shards: 8001"),
            changed("  epochs: 5\n", ""),
            changed("  epochs: 5\n", "  epochs: 5\n  steps: 9\n"),
            changed("  epochs: 5\n", "  epochs: 0\n"),
            changed("determinism: samples", "determinism: none"),
            changed("seed: 42", "seed: 1e3"),
            changed("seed: 42", "micro_batch: 0"),
            whole(&strict.replace("consistency: sync", "consistency: ssp")),
            whole(&strict),
            changed("compression: topk", "compression: int8"),
            changed("compression: topk", "compression: bf16"),
            changed("compression: topk, ", ""),
            changed("topk_share: 0.05", "topk_share: 0"),
            changed("topk_share: 0.05", "topk_share: \"0.1\""),
        ],
        expect![[r#"
            entry: cn
            34:10 error[E040] train.entry: there is no entry `cn` | did you mean `cnn`? choose `mlp` or `cnn`
            entry: resnet50
            34:10 error[E040] train.entry: there is no entry `resnet50` | choose `mlp` or `cnn`
            backend: rocm
            35:12 error[E085] train.backend: unknown value `rocm` | write `flex`, `wgpu` or `cuda`
            strategy: allreduce
            37:3 error[E042] train.ps: `strategy: allreduce` has no parameter server | remove `ps`, or write `strategy: ps`
            servers: 65
            37:17 error[E085] train.ps.servers: 65 is out of range | give a whole number from 1 to 64
            replicas: 2
            37:18 error[E085] train.ps.replicas: 2 is out of range | give a whole number from 0 to 1
            replicas: 1
            37:18 error[E090] train.ps.replicas: replicas of a server on a node of its own are not built yet | leave `replicas` out, or write `placement: colocated`
            servers: 2, replicas: 1
            37:30 error[E090] train.ps.replicas: replicas of several parameter servers are not built yet | leave `replicas` out, or write `servers: 1`
            replicas: 1, consistency: async
            37:30 error[E090] train.ps.replicas: replicas of a server that does not wait for all workers are not built yet | leave `replicas` out, or write `consistency: sync`
            servers: 2, consistency: async
            37:17 error[E090] train.ps.servers: 2 parameter servers that do not wait for all workers are not built yet | leave `servers` out, or write `consistency: sync`
            consistency: async, staleness: 4
            37:72 error[E043] train.ps.staleness: `staleness` bounds an exchange with `consistency: ssp`, and this is another one | write `consistency: ssp`, or leave `staleness` out
            staleness: 4
            37:52 error[E043] train.ps.staleness: `staleness` bounds an exchange with `consistency: ssp`, and this is another one | write `consistency: ssp`, or leave `staleness` out
            consistency: ssp, staleness: 20000
            37:70 error[E085] train.ps.staleness: 20000 is out of range | give a whole number from 0 to 10000
            consistency: bsp
            37:54 error[E085] train.ps.consistency: unknown value `bsp` | did you mean `ssp`?
            global_batch: 66
            38:17 error[E044] train.global_batch: a global batch of 66 cannot be cut into 4 equal shards | set `global_batch` to 64 or 68
            global_batch: 1.5
            38:17 error[E084] train.global_batch: expected a whole number, found `1.5` | give a whole number from 1 to 16777216
              logical_shards: 5
            38:19 error[E044] train.logical_shards: a global batch of 128 cannot be cut into 5 equal shards | set `global_batch` to 125 or 130
            logical_shards: 8001
            39:19 error[E085] train.logical_shards: 8001 is out of range | give a whole number from 1 to 8000

            33:1 error[E046] train: neither `epochs` nor `steps` is given | add `epochs: 5` or `steps: 1000`
              epochs: 5⏎  steps: 9⏎
            41:3 error[E046] train.steps: `epochs` and `steps` are both given | keep one of them
              epochs: 0⏎
            40:11 error[E085] train.epochs: 0 is out of range | give a whole number, 1 or more
            determinism: none
            41:16 error[E090] train.determinism: `none` is not built yet | write `strict` or `samples`
            seed: 1e3
            42:9 error[E084] train.seed: expected a whole number, found `1e3` | give a whole number, 0 or more
            micro_batch: 0
            42:16 error[E085] train.micro_batch: 0 is out of range | give a whole number from 1 to 16777216
            version: 1⏎kind: train⏎name: fashion-mnist⏎description: "an image classifier"⏎project: default⏎label
            41:16 error[E047] train.determinism: `strict` cannot be kept with `consistency: ssp` | use `determinism: samples`, or leave that out
            version: 1⏎kind: train⏎name: fashion-mnist⏎description: "an image classifier"⏎project: default⏎label
            41:16 error[E047] train.determinism: `strict` cannot be kept with lossy `compression` | use `determinism: samples`, or leave that out
            compression: int8
            37:73 error[E085] train.ps.compression: unknown value `int8` | write `bf16` or `topk`
            compression: bf16
            37:79 error[E085] train.ps.topk_share: `topk_share` without `compression: topk` | add that, or remove `topk_share`

            37:60 error[E085] train.ps.topk_share: `topk_share` without `compression: topk` | add that, or remove `topk_share`
            topk_share: 0
            37:91 error[E085] train.ps.topk_share: `0` is not such a share | give the share of values that are sent, from 0.0001 to 1
            topk_share: "0.1"
            37:91 error[E085] train.ps.topk_share: "0.1" is not such a share | give the share of values that are sent, from 0.0001 to 1
        "#]],
    );
}

#[test]
fn params() {
    check(
        &[
            changed("lr: 1.0e-3", "lr: fast"),
            changed("lr: 1.0e-3", "lr: .inf"),
            changed("lr: 1.0e-3", "lr: 11"),
            changed("hidden: 64", "hidden: 64.5"),
            changed("optimizer: adam", "optimizer: lion"),
            changed("bias: true", "bias: 1"),
            changed("bias: true", "learning_rate: 1"),
            changed("{lr: 1.0e-3, hidden: 64, optimizer: adam, bias: true}", "[lr]"),
        ],
        expect![[r#"
            lr: fast
            43:16 error[E048] train.params.lr: `lr` takes a number from 0 to 10, not `fast` | give a number from 0 to 10
            lr: .inf
            43:16 error[E048] train.params.lr: `lr` takes a number from 0 to 10, not `.inf` | give a number from 0 to 10
            lr: 11
            43:16 error[E048] train.params.lr: `lr` takes a number from 0 to 10, not `11` | give a number from 0 to 10
            hidden: 64.5
            43:32 error[E048] train.params.hidden: `hidden` takes a whole number from 1 to 4096, not `64.5` | give a whole number from 1 to 4096
            optimizer: lion
            43:47 error[E048] train.params.optimizer: `optimizer` takes `sgd` or `adam`, not `lion` | give `sgd` or `adam`
            bias: 1
            43:59 error[E048] train.params.bias: `bias` takes `true` or `false`, not `1` | give `true` or `false`
            learning_rate: 1
            43:53 error[E048] train.params.learning_rate: the entry `cnn` has no such parameter | it has `lr`, `hidden`, `optimizer` or `bias`
            [lr]
            43:3 error[E084] train.params: expected a map, found a list | give a map, as in `{lr: 0.1}`
        "#]],
    );
}

#[test]
fn a_file_full_of_faults() {
    let text = "\
version: 3
kind: train
name: Bad_Name
worker: 2
resources: {cpus: many, memory: 16}
max_price: -1
market: both
data:
  train: {url: x.csv}
train:
  entry: mpl
  global_batch: 100
  epochs: 3
  steps: 4
";
    check(
        &[whole(text)],
        expect![[r#"
            version: 3⏎kind: train⏎name: Bad_Name⏎worker: 2⏎resources: {cpus: many, memory: 16}⏎max_price: -1⏎ma
            1:10 error[E001] version: the version `3` is not known | write `version: 1`
            3:7 error[E004] name: `Bad_Name` is not a DNS label | use 1 to 63 lowercase letters, digits and `-`, with a letter or digit first and last
            4:1 error[E091] worker: unknown key `worker` | did you mean `workers`?
            5:19 error[E012] resources.cpus: `many` is not a number of processors | write `4`, `4+`, `4..8` or a part of one, such as `0.5`
            5:33 error[E013] resources.memory: 16 has no unit | write `16GB` or `16MiB`
            6:12 error[E017] max_price: the price must be above 0 | give dollars per hour for one node, as in `max_price: 0.35`
            7:9 error[E085] market: unknown value `both` | write `on_demand`, `spot` or `auto`
            9:11 error[E091] data.train.url: unknown key `url` | did you mean `uri`?
            11:10 error[E040] train.entry: there is no entry `mpl` | did you mean `mlp`? choose `mlp` or `cnn`
            12:17 error[E044] train.global_batch: a global batch of 100 cannot be cut into 8 equal shards | set `global_batch` to 96 or 104
            14:3 error[E046] train.steps: `epochs` and `steps` are both given | keep one of them
        "#]],
    );
}
