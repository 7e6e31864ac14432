//! Own actors: words are counted by 8 mappers and 3 reducers on several nodes, exactly, whatever is killed meanwhile.
//!
//! ```text
//! cargo run --example custom_actor                 a cluster of its own on this machine, the job, its bill, and all gone again
//! cargo run --example custom_actor -- up           or any command of `neap`, with this program's actors
//! ```
//!
//! ```text
//!                 chunks                     parts of counts
//! word_count ──call──▶ Mapper × 8 ──call──▶ Reducer × 3    saves its counts before it answers
//!      ▲                                       │
//!      └──────────────────stream───────────────┘
//! ```
//!
//! A call that was lost with its actor is made again, so a part may arrive twice; a reducer knows which it has. That and
//! its saved counts make the result exact: at least once, with effects once.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use neap::actors::{Actor, Context, Fault, Handle, ItemSender, Never, Placement, Program, Spawn};
use serde::{Deserialize, Serialize};

const MAPPERS: u32 = 8;
const REDUCERS: u32 = 3;

/// How long a request may take, over all the restarts that it meets.
const PATIENCE: Duration = Duration::from_secs(120);

/// A piece of the text.
#[derive(Debug, Serialize, Deserialize)]
struct Chunk {
    number: u32,
    text: String,
}

/// Counts the words of a chunk, and hands each reducer its part.
struct Mapper {
    reducers: Vec<Handle<Reducer>>,
}

impl Actor for Mapper {
    const NAME: &'static str = "mapper";
    type Args = Vec<Handle<Reducer>>;
    type Cast = Never;
    type Request = Chunk;
    type Reply = ();
    type Item = Never;

    async fn start(reducers: Self::Args, _: &mut Context) -> Result<Self, Fault> {
        Ok(Self { reducers })
    }

    async fn call(&mut self, chunk: Chunk, _: &mut Context) -> Result<(), Fault> {
        let mut parts = vec![BTreeMap::<String, u64>::new(); self.reducers.len()];
        for word in words(&chunk.text) {
            let part = reducer_of(&word, parts.len());
            *parts[part].entry(word).or_default() += 1;
        }
        for (reducer, counts) in self.reducers.iter().zip(parts) {
            let part = Ask::Count(Part { chunk: chunk.number, counts });
            reducer.call_repeatable(&part, PATIENCE).await?;
        }
        Ok(())
    }
}

/// The counts of a chunk's words that belong to one reducer.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    chunk: u32,
    counts: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Add this part, unless it is there already.
    Count(Part),
    /// All words with their counts, as a stream.
    Words,
}

/// Adds up the counts of its share of the words. What it has answered is saved.
struct Reducer {
    sums: Sums,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Sums {
    counts: BTreeMap<String, u64>,
    /// The chunks that are in there.
    chunks: BTreeSet<u32>,
}

impl Actor for Reducer {
    const NAME: &'static str = "reducer";
    type Args = ();
    type Cast = Never;
    type Request = Ask;
    type Reply = ();
    type Item = (String, u64);

    async fn start((): (), context: &mut Context) -> Result<Self, Fault> {
        Ok(Self { sums: context.restored().await?.unwrap_or_default() })
    }

    async fn call(&mut self, request: Ask, context: &mut Context) -> Result<(), Fault> {
        let Ask::Count(part) = request else { return Err("words are streamed".into()) };
        if self.sums.chunks.insert(part.chunk) {
            for (word, count) in part.counts {
                *self.sums.counts.entry(word).or_default() += count;
            }
            context.save(&self.sums).await?;
        }
        Ok(())
    }

    /// Nothing is left to save: what it has answered is saved already.
    async fn notice(&mut self, left: Duration, context: &mut Context) -> Result<(), Fault> {
        println!("{}: {} chunks saved, its node goes in {} s", context.path(), self.sums.chunks.len(), left.as_secs());
        Ok(())
    }

    async fn stream(&mut self, _: Ask, items: ItemSender<(String, u64)>, _: &mut Context) -> Result<(), Fault> {
        let words = self.sums.counts.clone();
        // In a task of its own: the reader may be slow, and the reducer has other messages.
        tokio::spawn(async move {
            for word in words {
                if items.send(&word).await.is_err() {
                    return;
                }
            }
            // Where the reader has gone, nobody wants to know that this was all.
            let _ = items.finish().await;
        });
        Ok(())
    }
}

/// `actors.params` of the job file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Every `.md` file in it and below is read.
    folder: PathBuf,
    /// How many lines a mapper gets at a time.
    chunk_lines: usize,
    /// Where the counts are written, as JSON.
    counts: PathBuf,
}

/// What the job comes to.
#[derive(Debug, Serialize)]
struct Report {
    chunks: usize,
    words: u64,
    distinct: usize,
    most: Vec<(String, u64)>,
}

/// The main function: starts the actors, deals the chunks, gathers the counts.
async fn word_count(context: Context, params: Params) -> Result<Report, Fault> {
    let chunks = chunks_of(&text_of(&params.folder)?, params.chunk_lines);
    let total = chunks.len();
    let mut reducers = Vec::new();
    for number in 0..REDUCERS {
        let spawn = Spawn::named(format!("reducer-{number}")).on(Placement::Spread);
        reducers.push(context.spawn::<Reducer>(spawn, &()).await?);
    }
    let left = Arc::new(Mutex::new(chunks.into_iter().rev().collect::<Vec<_>>()));
    let mut dealers = tokio::task::JoinSet::new();
    for number in 0..MAPPERS {
        let spawn = Spawn::named(format!("mapper-{number}")).on(Placement::Spread);
        let mapper = context.spawn::<Mapper>(spawn, &reducers).await?;
        dealers.spawn(deal(mapper, left.clone(), total));
    }
    while let Some(dealt) = dealers.join_next().await {
        dealt??;
    }
    let mut counts = BTreeMap::new();
    for reducer in &reducers {
        counts.extend(reducer.stream(&Ask::Words, PATIENCE).await?.collect().await?);
    }
    fs::write(&params.counts, serde_json::to_vec(&counts)?)?;
    let mut most: Vec<(String, u64)> = counts.iter().map(|(word, count)| (word.clone(), *count)).collect();
    most.sort_by_key(|(word, count)| (std::cmp::Reverse(*count), word.clone()));
    most.truncate(5);
    Ok(Report { chunks: total, words: counts.values().sum(), distinct: counts.len(), most })
}

/// Gives one mapper a chunk after the other.
async fn deal(mapper: Handle<Mapper>, left: Arc<Mutex<Vec<Chunk>>>, total: usize) -> Result<(), Fault> {
    loop {
        let (chunk, done) = {
            let mut left = left.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let Some(chunk) = left.pop() else { return Ok(()) };
            (chunk, total - left.len())
        };
        mapper.call_repeatable(&chunk, PATIENCE).await?;
        if done % 20 == 0 {
            println!("{done} of {total} chunks dealt");
        }
    }
}

/// Lower-case runs of letters and digits.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Which reducer a word belongs to: the same for every mapper.
fn reducer_of(word: &str, reducers: usize) -> usize {
    word.bytes().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte))) % reducers
}

/// The text of all `.md` files in a folder and below, in the order of their names.
fn text_of(folder: &Path) -> Result<String, Fault> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let mut text = String::new();
    for path in paths {
        if path.is_dir() {
            text.push_str(&text_of(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            text.push_str(&fs::read_to_string(&path)?);
            text.push('\n');
        }
    }
    Ok(text)
}

fn chunks_of(text: &str, lines: usize) -> Vec<Chunk> {
    let all: Vec<&str> = text.lines().collect();
    let chunk = |(number, lines): (usize, &[&str])| Chunk { number: number as u32, text: lines.join("\n") };
    all.chunks(lines.max(1)).enumerate().map(chunk).collect()
}

/// What this binary has for jobs of `kind: actors`.
fn program() -> Program {
    Program::default().actor::<Mapper>().actor::<Reducer>().main("word-count", word_count)
}

fn main() -> ExitCode {
    // Started with arguments it is `neap` with these actors: that is how control plane, nodes and workers come to have them.
    if std::env::args_os().len() > 1 {
        return neap::main(program());
    }
    match show() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A cluster of its own, the job, its bill, and all gone again.
fn show() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("neap-custom-actor-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let job = folder.join("word-count.yaml");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs::write(&job, job_file(&docs, &folder.join("counts.json")))?;
    neap(&folder, &["up", "--http", "127.0.0.1:0"])?;
    let ran = neap(&folder, &["run", "-y", &job.to_string_lossy()]).and_then(|()| neap(&folder, &["cost"]));
    let ended = neap(&folder, &["down"]);
    fs::remove_dir_all(&folder)?;
    ran.and(ended)
}

fn job_file(docs: &Path, counts: &Path) -> String {
    format!(
        "version: 1\nkind: actors\nname: word-count\nworkers: 2..4\nresources: {{cpus: 0.5}}\nmarket: spot\n\
         elastic: {{on_preempt: replace}}\nbudget: {{max_cost: 1.00}}\n\
         actors:\n  main: word-count\n  params: {{folder: {docs:?}, chunk_lines: 20, counts: {counts:?}}}\n"
    )
}

fn neap(folder: &Path, args: &[&str]) -> Result<(), Box<dyn Error>> {
    let status = Command::new(std::env::current_exe()?).args(args).env("NEAP_HOME", folder.join("home")).status()?;
    if status.success() { Ok(()) } else { Err(format!("`neap {}` ended with {status}", args.join(" ")).into()) }
}
