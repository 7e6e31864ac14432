//! The rules of `docs/ARCHITECTURE.md` that a program can check: who may depend on whom, and what may stand where.
//!
//! The dependency graph is cargo's own (`cargo metadata`); source files are read after comments and literals have been
//! blanked out by [`code_only`], so that prose may name what code may not. What clippy and the compiler already refuse is
//! checked here too where `cargo test` alone would not notice it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId, TargetKind};

#[path = "architecture/source.rs"]
mod source;

use source::{Source, code_only, has_word, lines_with};

/// Our crates, and which of our crates each may name: as a dependency of any kind, for code, tests or a build script.
const ALLOWED_EDGES: &[(&str, &[&str])] = &[
    ("neap-scheduler", &[]),
    ("neap-storage", &["neap-scheduler"]),
    ("neap-runtime", &["neap-scheduler"]),
    ("neap-control", &["neap-runtime", "neap-storage", "neap-scheduler"]),
    ("neap-agent", &["neap-runtime", "neap-storage", "neap-scheduler"]),
    ("neap-training", &["neap-runtime", "neap-storage", "neap-scheduler"]),
    ("neap", &["neap-scheduler", "neap-storage", "neap-runtime", "neap-control", "neap-agent", "neap-training"]),
];

/// Everything but the engines themselves and the shell must stay free of these: an engine runs in the worker process.
const ENGINES: &[&str] = &["burn", "datafusion"];
const ENGINE_FREE: &[&str] = &["neap-scheduler", "neap-storage", "neap-runtime", "neap-control", "neap-agent"];

/// Crates that must be one commit away from replacement, and the one place where each may be named.
const ONE_PLACE: &[(&str, &[&str])] = &[
    ("bincode", &["actors/runtime/src/codec.rs"]),
    ("sled", &["storage/src/projection.rs", "storage/src/projection/"]),
];

/// What `scheduler/` never reaches for. Its `clippy.toml` bans the calls; this bans the paths.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
    "rand::rng",
    "rand::random",
    "tokio",
];

/// What `scheduler/clippy.toml` must name at the least: a clock, a file, a socket, a thread and global randomness.
const BANNED_IN_SCHEDULER: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::fs::File::open",
    "std::fs::read",
    "std::fs::write",
    "std::net::TcpStream::connect",
    "std::net::UdpSocket::bind",
    "std::thread::spawn",
    "std::thread::sleep",
    "rand::rng",
    "rand::random",
];

// ---- the crates and their edges

#[test]
fn our_crates_depend_on_each_other_only_as_agreed() {
    let faults = edge_faults(&our_edges(metadata()));
    assert!(faults.is_empty(), "{}", report("crate edges that docs/ARCHITECTURE.md does not allow", &faults));
}

#[test]
fn every_crate_is_in_the_list_and_tested_by_a_plain_cargo_test() {
    let metadata = metadata();
    let members: BTreeSet<String> = metadata.workspace_packages().iter().map(|p| p.name.to_string()).collect();
    let defaults: BTreeSet<String> = metadata.workspace_default_packages().iter().map(|p| p.name.to_string()).collect();
    let listed: BTreeSet<String> = ALLOWED_EDGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(members, listed, "the workspace's members differ from ALLOWED_EDGES in tests/architecture.rs");
    assert_eq!(members, defaults, "a member is missing from `default-members`: a plain `cargo test` would skip it");
}

#[test]
fn control_plane_and_node_agent_never_reach_an_engine() {
    let metadata = metadata();
    let faults: Vec<String> = ENGINE_FREE.iter().filter_map(|name| engine_path(metadata, name)).collect();
    assert!(faults.is_empty(), "{}", report("engines outside the worker process", &faults));
    let training = engine_path(metadata, "neap-training");
    assert!(training.is_some(), "neap-training does not reach burn either, so this test cannot see an engine");
}

#[test]
fn the_edge_check_can_fail() {
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(edge_faults(&[edge("neap-control", "neap-storage"), edge("neap", "neap-agent")]), Vec::<String>::new());
    let refused = [
        edge("neap-scheduler", "neap-storage"),
        edge("neap-control", "neap-training"),
        edge("neap-agent", "neap"),
        edge("neap-new", "neap-scheduler"),
    ];
    let faults = edge_faults(&refused);
    assert_eq!(faults.len(), refused.len(), "{faults:?}");
    assert_eq!(faults[1], "neap-control -> neap-training; allowed: neap-runtime, neap-storage, neap-scheduler");
    assert_eq!(faults[3], "neap-new -> neap-scheduler; allowed: nothing (neap-new is not in ALLOWED_EDGES)");
}

/// Edges (from, to) among our crates, of every dependency kind.
fn our_edges(metadata: &Metadata) -> Vec<(String, String)> {
    let packages = metadata.workspace_packages();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let edges_of = |package: &cargo_metadata::Package| {
        let from = package.name.to_string();
        let ours = &ours;
        let targets = package.dependencies.iter().map(|dependency| dependency.name.clone());
        targets.filter(move |to| ours.contains(to.as_str())).map(move |to| (from.clone(), to)).collect::<Vec<_>>()
    };
    packages.iter().flat_map(|package| edges_of(package)).collect()
}

/// One line for every edge that is not in [`ALLOWED_EDGES`].
fn edge_faults(edges: &[(String, String)]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED_EDGES.iter().copied().collect();
    let fault = |(from, to): &(String, String)| match allowed.get(from.as_str()) {
        Some(names) if names.contains(&to.as_str()) => None,
        Some([]) => Some(format!("{from} -> {to}; allowed: nothing")),
        Some(names) => Some(format!("{from} -> {to}; allowed: {}", names.join(", "))),
        None => Some(format!("{from} -> {to}; allowed: nothing ({from} is not in ALLOWED_EDGES)")),
    };
    edges.iter().filter_map(fault).collect()
}

/// The shortest chain of dependencies from one of our crates to an engine, if there is one. Dependencies for tests count
/// for the crate itself only.
fn engine_path(metadata: &Metadata, start: &str) -> Option<String> {
    let resolve = metadata.resolve.as_ref().expect("cargo metadata was asked for the graph");
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let packages = metadata.workspace_packages();
    let start = packages.iter().find(|package| package.name == start).expect("the crate is a member");
    let mut seen = BTreeSet::from([&start.id]);
    let mut frontier = vec![(&start.id, start.name.to_string())];
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for (id, path) in frontier {
            for dependency in &nodes[id].deps {
                let only_tests = dependency.dep_kinds.iter().all(|kind| kind.kind == DependencyKind::Development);
                if (only_tests && *id != start.id) || !seen.insert(&dependency.pkg) {
                    continue;
                }
                let name = metadata[&dependency.pkg].name.as_str();
                let path = format!("{path} -> {name}");
                if ENGINES.iter().any(|engine| name == *engine || name.starts_with(&format!("{engine}-"))) {
                    return Some(path);
                }
                next.push((&dependency.pkg, path));
            }
        }
        frontier = next;
    }
    None
}

/// cargo's view of the workspace, for this machine's platform only: other platforms' crates need not be downloaded.
fn metadata() -> &'static Metadata {
    static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
        MetadataCommand::new()
            .manifest_path(root().join("Cargo.toml"))
            .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), rustc_host()])
            .exec()
            .expect("`cargo metadata --locked` works in a checkout; is Cargo.lock up to date?")
    });
    &METADATA
}

fn rustc_host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc is on the path of a cargo test");
    let text = String::from_utf8(output.stdout).expect("rustc writes UTF-8");
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc -vV names the host").to_owned()
}

// ---- what every crate must say of itself

#[test]
fn every_crate_inherits_the_lints_and_forbids_unsafe_code() {
    let mut faults = Vec::new();
    for package in metadata().workspace_packages() {
        let manifest = read(package.manifest_path.as_std_path());
        if !inherits_lints(&manifest) {
            faults.push(format!("{}: add `[lints]` with `workspace = true`", package.manifest_path));
        }
        let roots =
            package.targets.iter().filter(|t| t.kind.contains(&TargetKind::Lib) || t.kind.contains(&TargetKind::Bin));
        for root in roots {
            if !code_only(&read(root.src_path.as_std_path())).contains("#![forbid(unsafe_code)]") {
                faults.push(format!("{}: add `#![forbid(unsafe_code)]`", root.src_path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", report("crates without the house rules", &faults));
}

#[test]
fn the_lints_check_can_fail() {
    assert!(inherits_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
    assert!(!inherits_lints("[package]\nname = \"a\"\n"));
    assert!(!inherits_lints("[lints]\n[dependencies]\nworkspace = true\n"));
    assert!(!inherits_lints("[lints]\nworkspace = false\n"));
}

fn inherits_lints(manifest: &str) -> bool {
    let after = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    after.take_while(|line| !line.starts_with('[')).any(|line| line.replace(' ', "") == "workspace=true")
}

/// Supervision catches a panic only while it unwinds; see `docs/adr/0008-panic-unwind.md`.
#[test]
fn no_profile_aborts_on_panic() {
    let manifest = read(&root().join("Cargo.toml")).replace(' ', "");
    assert!(!manifest.contains("panic=\"abort\""), "Cargo.toml: ractor's supervision catches nothing under abort");
}

#[test]
fn the_schedulers_clippy_list_bans_the_outside_world() {
    let list = read(&root().join("scheduler/clippy.toml"));
    let missing: Vec<String> = BANNED_IN_SCHEDULER
        .iter()
        .filter(|path| !list.contains(&format!("path = \"{path}\"")))
        .map(|path| format!("scheduler/clippy.toml: `disallowed-methods` lacks {path}"))
        .collect();
    assert!(missing.is_empty(), "{}", report("holes in the scheduler's purity", &missing));
}

// ---- what may stand in the sources

#[test]
fn the_scheduler_names_nothing_impure() {
    let faults = sources()
        .iter()
        .filter(|source| source.path.starts_with("scheduler/src/"))
        .flat_map(impurities)
        .collect::<Vec<_>>();
    assert!(faults.is_empty(), "{}", report("scheduler/ decides purely (invariant 1)", &faults));
}

#[test]
fn crates_on_notice_are_named_in_one_place() {
    let sources = sources();
    for (name, places) in ONE_PLACE {
        let users: Vec<&str> = sources.iter().filter(|s| has_word(&s.code, name)).map(|s| s.path.as_str()).collect();
        let (inside, outside): (Vec<&str>, Vec<&str>) =
            users.into_iter().partition(|path| places.iter().any(|place| path.starts_with(place)));
        assert!(outside.is_empty(), "`{name}` may be named only in {}, but also is in {outside:?}", places[0]);
        assert!(!inside.is_empty(), "nothing in {} names `{name}`: drop the dependency and this rule", places[0]);
    }
}

#[test]
fn no_source_is_unfinished() {
    let faults: Vec<String> = sources().iter().flat_map(unfinished).collect();
    assert!(faults.is_empty(), "{}", report("unfinished code", &faults));
}

#[test]
fn nothing_outside_tests_unwraps() {
    let faults: Vec<String> = sources().iter().flat_map(unwraps).collect();
    assert!(
        faults.is_empty(),
        "{}",
        report("`unwrap()` outside tests; return an error, or `expect` the invariant", &faults)
    );
}

#[test]
fn the_source_checks_can_fail() {
    let source = |path: &str, text: &str| Source::new(path, text);
    let bad = "fn a() {\n    let t = std::time::Instant::now();\n    todo!();\n    Some(1).unwrap();\n}\n";
    assert_eq!(impurities(&source("scheduler/src/a.rs", bad)), ["scheduler/src/a.rs:2: Instant::now"]);
    assert_eq!(unfinished(&source("src/a.rs", bad)), ["src/a.rs:3: todo!"]);
    assert_eq!(unwraps(&source("src/a.rs", bad)), ["src/a.rs:4: .unwrap()"]);

    let fine = "// std::fs, todo!() and x.unwrap()\nconst A: &str = \"dbg!(b.unwrap())\"; const Q: char = '\"';\n\
                #[cfg(test)]\nmod tests {\n    fn b() { Some(\"}\").unwrap(); }\n}\n";
    for check in [impurities, unfinished, unwraps] {
        assert_eq!(check(&source("src/a.rs", fine)), Vec::<String>::new());
    }
    let after = format!("{fine}fn c() {{ Some(1).unwrap(); }}\n");
    assert_eq!(unwraps(&source("src/a.rs", &after)), ["src/a.rs:7: .unwrap()"]);
    for test in ["tests/a.rs", "actors/agent/tests/a.rs", "src/http/tests.rs"] {
        assert_eq!(unwraps(&source(test, bad)), Vec::<String>::new());
    }
    let parent = source("src/data/mod.rs", "mod open;\n#[cfg(test)]\npub(crate) mod synthetic;\n");
    assert_eq!(parent.test_modules(), ["src/data/synthetic.rs", "src/data/synthetic/"]);
    assert!(has_word("use bincode::config;", "bincode") && !has_word("use my_bincode::config;", "bincode"));
}

fn impurities(source: &Source) -> Vec<String> {
    lines_with(&source.path, &source.shipped(), IMPURE)
}

fn unfinished(source: &Source) -> Vec<String> {
    lines_with(&source.path, &source.code, &["todo!", "unimplemented!", "dbg!"])
}

fn unwraps(source: &Source) -> Vec<String> {
    lines_with(&source.path, &source.shipped(), &[".unwrap()"])
}

/// Every Rust file of the workspace's members, in order of path.
fn sources() -> Vec<Source> {
    let mut folders = Vec::new();
    for package in metadata().workspace_packages() {
        let folder = package.manifest_path.parent().expect("a manifest lies in a folder").as_std_path();
        folders.extend(["src", "tests", "benches", "examples", "build.rs"].map(|part| folder.join(part)));
    }
    // Peers are measured beside us; they are a workspace of their own.
    let sources = source::read_all(&root(), &folders, &root().join("benches/peers"));
    assert!(sources.len() > 10, "found only {} files: the checks of the sources would see nothing", sources.len());
    sources
}

fn report(title: &str, faults: &[String]) -> String {
    format!("{title}:\n  {}\n", faults.join("\n  "))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
