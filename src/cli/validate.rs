//! `neap validate` and `neap schema`: job files, offline. `neap run` checks its file with the same code first.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use neap_scheduler::spec::{self, Fault, ParseContext, ParsedJob};
use serde_json::json;

use crate::artifact::Artifact;

use super::args::Format;
use super::exit::{CliError, Exit};
use super::output::Output;
use super::{Shell, entries, faults};

/// No more than this is read of a job file; far above what the format allows, so that the fault names a length.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A job file that was found valid.
#[derive(Debug)]
pub(super) struct Checked {
    /// What it says.
    pub(super) job: ParsedJob,
    /// The program that it brings along.
    pub(super) artifact: Option<Artifact>,
}

/// A job file's text and what surrounds it.
#[derive(Debug)]
pub(super) struct JobFile {
    /// What the user calls it.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
    /// The absolute folder that relative paths in it start at.
    pub(super) base_dir: String,
}

impl JobFile {
    /// Reads a file, or standard input where `path` is `-`.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let stdin = path == Path::new("-");
        let read = || {
            let mut bytes = Vec::new();
            let input: Box<dyn Read> = if stdin { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
            input.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
            let base_dir = if stdin { std::env::current_dir()? } else { folder_of(path)? };
            Ok((bytes, base_dir))
        };
        let (bytes, base_dir) = read().map_err(|source| CliError::ReadFile { path: path.to_owned(), source })?;
        let name = if stdin { "<stdin>".to_owned() } else { path.display().to_string() };
        let text = String::from_utf8(bytes).map_err(|_| CliError::Usage(format!("{name} is not UTF-8 text")))?;
        let base_dir = base_dir.into_os_string().into_string();
        let base_dir = base_dir.map_err(|_| CliError::Usage(format!("the folder of {name} has no UTF-8 name")))?;
        Ok(Self { name, text, base_dir })
    }

    /// Checks it, its artifact included, and shows what there is to know about it.
    pub(super) fn check(&self, shell: &Shell) -> Result<Checked, CliError> {
        let output = shell.output;
        let named = spec::artifact(&self.text, &self.base_dir).map(|place| entries::look_at(shell, &place));
        let context = ParseContext {
            base_dir: self.base_dir.clone(),
            entries: shell.program.entries().infos(),
            mains: Some(shell.program.mains()),
            artifact: named.as_ref().map(|found| found.as_ref().map(|found| found.info.clone()).map_err(Clone::clone)),
        };
        match spec::parse(&self.text, &context) {
            Ok(job) => {
                if !job.warnings.is_empty() {
                    output.warn(self.render(&job.warnings, output.color_err()).trim_end());
                }
                Ok(Checked { job, artifact: named.and_then(Result::ok) })
            }
            Err(found) => {
                self.show_faults(&found, output)?;
                Err(CliError::InvalidJob { file: self.name.clone() })
            }
        }
    }

    fn show_faults(&self, found: &[Fault], output: Output) -> Result<(), CliError> {
        if output.format == Format::Table {
            output.warn(&self.render(found, output.color_err()));
            return Ok(());
        }
        let document = json!({ "file": self.name, "valid": false, "faults": faults::to_json(&self.name, found) });
        output.document(&document, &self.name, String::new)
    }

    fn render(&self, found: &[Fault], color: bool) -> String {
        faults::render(&self.name, &self.text, found, color)
    }
}

fn folder_of(path: &Path) -> io::Result<PathBuf> {
    let full = path.canonicalize()?;
    Ok(full.parent().map(Path::to_owned).unwrap_or(full))
}

pub(super) fn validate(shell: &Shell, path: &Path) -> Result<Exit, CliError> {
    let file = JobFile::read(path)?;
    let job = file.check(shell)?.job;
    let document = json!({ "file": file.name, "valid": true, "faults": faults::to_json(&file.name, &job.warnings) });
    shell.output.document(&document, &file.name, || format!("{} is valid\n", file.name))?;
    Ok(Exit::Ok)
}

pub(super) fn schema(shell: &Shell) -> Result<Exit, CliError> {
    let schema = spec::json_schema(&shell.program.entries().infos());
    shell.output.text(&format!("{schema:#}\n"))?;
    Ok(Exit::Ok)
}
