//! Programs that jobs bring along, with a control plane that has never seen them: how they get to the nodes, and what
//! happens to those that cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::example;
use crate::support::{Done, Home, folder};

/// A job file beside the home folder.
fn job(home: &Home, name: &str, train: &str) -> String {
    let data = folder("examples/data/digits.csv");
    let data = data.display();
    let text = format!(
        "version: 1\nkind: train\nname: {name}\nworkers: 2\n\
         data: {{train: {{uri: {data}, split: {{rows: 0..400}}, label: label}}}}\ntrain:\n  epochs: 1\n  {train}\n"
    );
    let path = home.path().with_file_name(format!("{name}.yaml"));
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn of_program(program: &Path, more: &str) -> String {
    format!("artifact: {}\n  entry: custom_model::Smooth\n  {more}", program.display())
}

/// A copy of the example under another name and content, so that tests do not share it.
fn copy(home: &Home, name: &str, more: &[u8]) -> PathBuf {
    let path = home.path().with_file_name(name);
    let mut program = fs::read(example("custom_model")).unwrap();
    program.extend(more);
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[track_caller]
fn says(done: &Done, parts: &[&str]) {
    for part in parts {
        assert!(done.stderr.contains(part), "`{part}` is not in {done:?}");
    }
}

#[test]
fn a_program_travels_to_the_nodes_once_and_runs_there_by_its_content() {
    let home = Home::new();
    home.up();
    let program = copy(&home, "mine", b"");
    let first = job(&home, "first", &of_program(&program, "params: {hidden: 16}"));
    says(&home.neap(&["run", "--wait", &first]).expect(0), &["handing in"]);
    let entries = home.neap(&["entries", program.to_str().unwrap(), "-o", "json"]).expect(0).json();
    let hash = entries["artifact"].as_str().unwrap().to_owned();
    assert_eq!(entries["program"]["entries"][0]["name"], "custom_model::Smooth");
    let kept = home.path().join("artifacts").join(hash.strip_prefix("blake3:").unwrap());
    assert_eq!(fs::read(&kept).unwrap(), fs::read(&program).unwrap());
    // The file is not needed any more, only its content.
    fs::remove_file(&program).unwrap();
    let second =
        job(&home, "second", &format!("artifact: \"{hash}\"\n  entry: custom_model::Smooth\n  params: {{hidden: 16}}"));
    home.neap(&["run", "--wait", "-q", &second]).expect(0);
    let status = |name: &str| home.neap(&["status", name, "-o", "json"]).expect(0).json();
    assert_eq!(status("first")["spec_hash"], status("second")["spec_hash"], "the same content is the same job");
    assert_eq!(model(&status("first")), model(&status("second")));
    let listed = home.neap(&["entries", &hash]).expect(0).stdout;
    assert!(listed.contains("custom_model::Smooth (batch 64)") && listed.contains("smoothing"), "{listed}");
    // A control plane that starts again knows what the jobs brought along. New nodes fetch the program again, and do not
    // run what is not what it should be.
    home.neap(&["down"]).expect(0);
    assert!(!home.path().join("nodes/n1/artifacts").exists(), "a node that is gone leaves no program behind");
    let mut damaged = fs::read(&kept).unwrap();
    damaged[100_000] ^= 1;
    fs::write(&kept, damaged).unwrap();
    home.up();
    assert_eq!(status("second")["state"], "succeeded");
    let third = job(&home, "third", &format!("artifact: \"{hash}\"\n  entry: custom_model::Smooth"));
    home.neap(&["run", "--wait", "-q", &third]).expect(104);
    let why = status("third")["why"].as_str().unwrap().to_owned();
    assert!(why.contains(&format!("the artifact should be {hash}, and what came is blake3:")), "{why}");
}

fn model(job: &Value) -> Vec<u8> {
    fs::read(job["result"]["model_path"].as_str().unwrap_or_else(|| panic!("no model: {job:#}"))).unwrap()
}

#[test]
fn what_the_artifact_does_not_have_is_found_offline() {
    let home = Home::new();
    let program = example("custom_model");
    let valid = job(&home, "valid", &of_program(&program, "params: {hidden: 16}"));
    home.neap(&["validate", &valid]).expect(0);
    let slip = job(&home, "slip", &of_program(&program, "params: {hiden: 16}"));
    says(&home.neap(&["validate", &slip]).expect(2), &["E048", "has no such parameter", "did you mean `hidden`?"]);
    let wide = job(&home, "wide", &of_program(&program, "params: {hidden: 5000}"));
    says(&home.neap(&["validate", &wide]).expect(2), &["E048", "a whole number from 1 to 4096"]);
    let other = job(&home, "other", &format!("artifact: {}\n  entry: mlp", program.display()));
    says(&home.neap(&["validate", &other]).expect(2), &["E040", "choose `custom_model::Smooth`"]);
}

#[test]
fn what_cannot_be_brought_along_is_refused_before_it_is_run() {
    let home = Home::new();
    let script = home.path().with_file_name("run.sh");
    let ran = home.path().with_file_name("ran");
    fs::write(&script, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut foreign = fs::read(example("custom_model")).unwrap();
    foreign[18..20].copy_from_slice(&258u16.to_le_bytes());
    let other_machine = home.path().with_file_name("foreign");
    fs::write(&other_machine, foreign).unwrap();
    let mut newer = fs::read(example("custom_model")).unwrap();
    let mark = b"launch version 2;";
    for at in (0..newer.len() - mark.len()).filter(|&at| newer[at..].starts_with(mark)).collect::<Vec<_>>() {
        newer[at + mark.len() - 2] = b'7';
    }
    let other_version = home.path().with_file_name("newer");
    fs::write(&other_version, newer).unwrap();
    let cases: [(&Path, &str); 5] = [
        (&other_version, "reads launch version 7 of Neap, and this is version 2"),
        (&script, "is a script"),
        (&other_machine, "is built for LoongArch"),
        (Path::new("/bin/true"), "does not link Neap"),
        (Path::new("/nonexistent/program"), "there is nothing at"),
    ];
    for (program, why) in cases {
        let file = job(&home, "refused", &of_program(program, ""));
        says(&home.neap(&["validate", &file]).expect(2), &["E041", why]);
        assert!(home.neap(&["entries", program.to_str().unwrap()]).expect(2).stderr.contains(why));
    }
    assert!(!ran.exists(), "a script is never run");
    let unknown = job(&home, "unknown", &format!("artifact: \"blake3:{}\"\n  entry: mine", "07".repeat(32)));
    says(&home.neap(&["validate", &unknown]).expect(2), &["E041", "neap up"]);
    home.up();
    says(&home.neap(&["run", &unknown]).expect(2), &["E041", "the control plane does not have blake3:0707"]);
}

/// A file system of 1 MiB where the first node keeps programs. Needs root; says so where it cannot.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&at).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

#[test]
fn a_node_without_room_for_the_program_says_so() {
    let home = Home::new();
    let Some(_disk) = SmallDisk::mount(home.path().join("nodes/n1/artifacts")) else {
        eprintln!("SKIPPED: a small file system can be mounted by root only");
        return;
    };
    home.up();
    let file = job(&home, "full", &of_program(&example("custom_model"), ""));
    let text = fs::read_to_string(&file).unwrap().replace("workers: 2", "workers: 1");
    fs::write(&file, text).unwrap();
    home.neap(&["run", "--wait", "-q", &file]).expect(104);
    let why = home.neap(&["status", "full", "-o", "json"]).expect(0).json()["why"].as_str().unwrap().to_owned();
    assert!(why.contains("no room for the artifact in") && why.contains("nodes/n1/artifacts"), "{why}");
}
