//! Reads a data set: finds its files, takes it from the node's cache where it is there, else decodes it.

use std::path::Path;

use neap_scheduler::spec::{DataFormat, DataPart, DataSpec};

use super::dataset::Meaning;
use super::files::{self, DataFile, Source};
use super::remote::RemoteFiles;
use super::rows::{Built, RowsBuilder, Width};
use super::split::{Cut, RowHash};
use super::table::{self, Chunk, EncodeError, Encoder, Fit, Next, Selection, TableColumns};
use super::{DataError, Dataset, Fault, Input, SampleShape, Storage, Stores, TargetInfo, idx};

/// The known parts of a folder of the MNIST family.
const TRAIN_PREFIX: &str = "train";
const TEST_PREFIX: &str = "t10k";

/// Files with more than this part of the memory limit may need more memory than that once they are decoded: then the cache
/// is looked into before.
const CACHE_FROM: u64 = 16;

/// Decoded chunks that are kept from the first pass over a table for the second, as a part of the memory limit.
const KEPT_PART: u64 = 4;

/// Reads a data set. `training` is the one that it is to be read like: the same columns, the same classes.
///
/// # Errors
///
/// [`DataError`] with the file, the position and what to do.
pub fn open(spec: &DataSpec, training: Option<&Dataset>, storage: &Storage) -> Result<Dataset, DataError> {
    let path = &spec.path;
    let files = find(spec, storage)?;
    let key = cache_key(spec, training, storage, &files)?;
    if let Some(cached) = key.as_ref().and_then(|key| Dataset::cached(storage, key)) {
        return Ok(cached);
    }
    let (built, meaning) = match spec.format {
        DataFormat::Idx => read_idx(&files, spec, storage)?,
        _ => read_table(&files, spec, training.map(Dataset::meaning), storage)?,
    };
    match built.targets.len() {
        0 => return Err(Fault::new("holds no sample", "name a data set with at least one").at(path)),
        len if len > u32::MAX as usize => {
            return Err(Fault::new("holds more than 2³² samples", "cut it with `split: {rows: a..b}`").at(path));
        }
        _ => {}
    }
    Dataset::complete(built, meaning, storage, &key.unwrap_or_default())
}

/// The files of a data set; those that lie in an object store are copied to this node first.
fn find(spec: &DataSpec, storage: &Storage) -> Result<Vec<DataFile>, DataError> {
    if spec.format != DataFormat::Idx && matches!(spec.part, DataPart::Train | DataPart::Test) {
        let what = "a table has no part called train or test";
        return Err(Fault::new(what, "cut it with `split: {rows: a..b}` or `split: {hash: 0.1}`").at(&spec.path));
    }
    match (spec.remote(), spec.format) {
        (None, DataFormat::Idx) => idx_files(Path::new(&spec.path), &spec.part),
        (None, format) => files::find(&spec.path, table::suffixes(format)),
        (Some(objects), DataFormat::Idx) => {
            let found = RemoteFiles::look(&objects, &storage.stores)?;
            let names = idx_names(found.names(), &spec.part).map_err(|fault| fault.at(&spec.path))?;
            found.fetch(|name| names.contains(&name), storage)
        }
        (Some(objects), format) => {
            let found = RemoteFiles::look(&objects, &storage.stores)?;
            found.check_count(table::suffixes(format))?;
            found.fetch(|name| found.is_meant(name, table::suffixes(format)), storage)
        }
    }
}

/// Whether a data set that lies in an object store is there: its objects are listed, none is read.
///
/// # Errors
///
/// [`DataError`] as [`open`] would give it.
pub fn find_in_store(spec: &DataSpec, stores: &Stores) -> Result<(), DataError> {
    let Some(objects) = spec.remote() else { return Ok(()) };
    let found = RemoteFiles::look(&objects, stores)?;
    match spec.format {
        DataFormat::Idx => idx_names(found.names(), &spec.part).map(|_| ()).map_err(|fault| fault.at(&spec.path)),
        format => found.check_count(table::suffixes(format)),
    }
}

/// What a data set is made of, in one hash. Nothing for files that are small beside the memory limit: they are not kept.
fn cache_key(
    spec: &DataSpec,
    training: Option<&Dataset>,
    storage: &Storage,
    files: &[DataFile],
) -> Result<Option<[u8; 32]>, DataError> {
    let bytes: u64 = files.iter().map(DataFile::bytes).sum::<Result<_, _>>()?;
    if storage.cache.is_none() || bytes <= storage.memory_max / CACHE_FROM {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"neap rows 1");
    // Everything but where the files are, and how they are gone through.
    let meant = (spec.format, &spec.part, &spec.label, spec.target, &spec.columns);
    hasher.update(format!("{meant:?}").as_bytes());
    hasher.update(&training.map_or([0; 32], Dataset::digest));
    for file in files {
        hasher.update(&file.hash()?);
    }
    Ok(Some(*hasher.finalize().as_bytes()))
}

/// Whether all rows of the cut are there.
fn all_there(spec: &DataSpec, rows: u64) -> Result<(), DataError> {
    match spec.part {
        DataPart::Rows { from, to } if from > to || to > rows => {
            let what = format!("rows {from}..{to} are not all there: it has {rows}");
            Err(Fault::new(what, "change `split: {rows: a..b}`").at(&spec.path))
        }
        _ => Ok(()),
    }
}

fn read_table(
    files: &[DataFile],
    spec: &DataSpec,
    training: Option<&Meaning>,
    storage: &Storage,
) -> Result<(Built, Meaning), DataError> {
    let first = &files[0];
    let header = table::header(first, spec.format)?;
    let like = training.and_then(|training| Some((training.table.as_ref()?, training)));
    let selection = match like {
        Some((columns, training)) => Selection::like(&header, spec, columns, &training.target),
        None => Selection::of_training(&header, spec),
    };
    let selection = selection.map_err(|fault| fault.at(first.shown()))?;
    let (meaning, kept) = match like {
        Some((_, training)) => (training.clone(), None),
        None => fit(files, spec, &selection, storage)?,
    };
    // Only what was fitted on these rows is known to hold for them.
    let width = match (&meaning.input, like) {
        (Input::Uniform { .. }, None) => Width::Byte,
        _ => Width::Float,
    };
    let mut builder = RowsBuilder::new(width, storage);
    let mut encoder = Encoder::new(&selection, &meaning.input, &meaning.target);
    let mut failed = None;
    let mut store = |chunk: Chunk| {
        let next = if selection.ends_after(&chunk) { Next::Stop } else { Next::Go };
        match encoder.store(&chunk, &selection.rows(&chunk), &mut builder) {
            Ok(()) => Ok(next),
            Err(EncodeError::Fault(fault)) => Err(fault),
            Err(EncodeError::Store(error)) => {
                failed = Some(error);
                Ok(Next::Stop)
            }
        }
    };
    match kept {
        Some(chunks) => {
            for chunk in chunks {
                // Several files are one table here: which of them a row comes from is not known any more.
                if store(chunk).map_err(|fault| fault.at(&spec.path))? == Next::Stop {
                    break;
                }
            }
        }
        None => {
            let rows = table::read(files, spec.format, selection.request(), &mut store)?;
            if failed.is_none() {
                all_there(spec, rows)?;
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok((builder.finish(), meaning)),
    }
}

/// The first pass over training data: what its values become. Gives the decoded chunks too where they are few.
fn fit(
    files: &[DataFile],
    spec: &DataSpec,
    selection: &Selection,
    storage: &Storage,
) -> Result<(Meaning, Option<Vec<Chunk>>), DataError> {
    let mut fit = Fit::new(selection, spec.target);
    let (mut kept, mut kept_bytes) = (Some(Vec::new()), 0);
    let rows = table::read(files, spec.format, selection.request(), &mut |chunk| {
        fit.add(&chunk, &selection.rows(&chunk))?;
        let next = if selection.ends_after(&chunk) { Next::Stop } else { Next::Go };
        kept_bytes += chunk.bytes();
        match &mut kept {
            Some(chunks) if kept_bytes <= storage.memory_max / KEPT_PART => chunks.push(chunk),
            kept => *kept = None,
        }
        Ok(next)
    })?;
    all_there(spec, rows)?;
    let (input, target) = fit.finish().map_err(|fault| fault.at(&spec.path))?;
    let features = match &input {
        Input::Uniform { .. } => selection.features().len(),
        Input::Columns(columns) => Input::features(columns),
    };
    let table = TableColumns {
        features: selection.features().to_vec(),
        categories: spec.columns.categories.iter().cloned().chain(categories(&input)).collect(),
        label: selection.label().to_owned(),
    };
    let shape = SampleShape { height: 1, width: features as u32, channels: 1 };
    Ok((Meaning { shape, input, target, table: Some(table), digest: [0; 32] }, kept))
}

fn categories(input: &Input) -> impl Iterator<Item = String> {
    let is_category = |column: &&super::InputColumn| matches!(column.kind, super::ColumnKind::Category(_));
    input.columns().iter().filter(is_category).map(|column| column.name.clone())
}

/// The images' file and the labels' beside it.
fn idx_files(folder: &Path, part: &DataPart) -> Result<Vec<DataFile>, DataError> {
    let unreadable = |source| DataError::Unreadable { path: folder.display().to_string(), source };
    if !std::fs::metadata(folder).map_err(unreadable)?.is_dir() {
        return Err(Fault::new("is a file", "name the folder that holds the IDX files").at(folder.display()));
    }
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
    let names = names.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let chosen = idx_names(names.iter().map(String::as_str), part).map_err(|fault| fault.at(folder.display()))?;
    Ok(chosen.iter().map(|name| DataFile::local(folder.join(name))).collect())
}

/// The names of the images' file and the labels': the plain one where there is one, else the gzipped one.
fn idx_names<'a>(names: impl Iterator<Item = &'a str>, part: &DataPart) -> Result<[&'a str; 2], Fault> {
    let names: Vec<&str> = names.collect();
    let prefix = |name: &&'a str| name.strip_suffix(".gz").unwrap_or(name).strip_suffix(IMAGES);
    let mut prefixes: Vec<&str> = names.iter().filter_map(prefix).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let prefix = choose_prefix(&prefixes, part)?;
    let existing = |suffix: &str| {
        let is =
            |name: &&&str, end: &str| name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(suffix)) == Some(end);
        let found = names.iter().find(|name| is(name, "")).or_else(|| names.iter().find(|name| is(name, ".gz")));
        let missing = || {
            let what = format!("holds `{prefix}{IMAGES}`, but no `{prefix}{suffix}` beside it");
            Fault::new(what, "put the labels' file of the same data set there")
        };
        found.copied().ok_or_else(missing)
    };
    Ok([existing(IMAGES)?, existing(LABELS)?])
}

fn read_idx(files: &[DataFile], spec: &DataSpec, storage: &Storage) -> Result<(Built, Meaning), DataError> {
    let (images_file, labels_file) = (&files[0], &files[1]);
    let labels = Source::open(labels_file)?;
    let labels = idx::read_labels(labels.content, labels.bytes_max).map_err(|fault| fault.at(labels_file.shown()))?;
    let source = Source::open(images_file)?;
    let images = idx::Images::open(source.content, source.bytes_max);
    let mut images = images.map_err(|fault| fault.at(images_file.shown()))?;
    images.check_labels(&labels).map_err(|fault| fault.at(images_file.shown()))?;
    all_there(spec, images.count())?;
    let cut = Cut::of(&spec.part);
    let (mut hash, mut counts) = (RowHash::default(), [0u64; 256]);
    let mut builder = RowsBuilder::new(Width::Byte, storage);
    let pixels = images.shape().len();
    let mut row = 0u64;
    while let Some(bytes) = images.next().map_err(|fault| fault.at(images_file.shown()))? {
        for image in bytes.chunks_exact(pixels) {
            let label = labels[row as usize];
            let taken = cut.takes(row, || {
                hash.begin();
                hash.bytes(image);
                hash.bytes(&[label]);
                hash.finish()
            });
            row += 1;
            if taken {
                image.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
                builder.push_target(super::Target::Class(u16::from(label)));
                builder.push_bytes(image)?;
            }
        }
    }
    // Of all labels, so that parts of one folder have the same classes.
    let classes = labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let meaning = Meaning {
        shape: images.shape(),
        input: Input::of_bytes(&counts),
        target: TargetInfo::Classes((0..classes).map(|class| class.to_string()).collect()),
        table: None,
        digest: [0; 32],
    };
    Ok((builder.finish(), meaning))
}

const IMAGES: &str = "-images-idx3-ubyte";
const LABELS: &str = "-labels-idx1-ubyte";

fn choose_prefix<'a>(found: &[&'a str], part: &DataPart) -> Result<&'a str, Fault> {
    let wanted = match part {
        DataPart::Train => Some(TRAIN_PREFIX),
        DataPart::Test => Some(TEST_PREFIX),
        DataPart::All | DataPart::Rows { .. } | DataPart::Hash(_) => None,
    };
    match (wanted, found) {
        (_, []) => Err(Fault::new(
            "holds no file that ends in `-images-idx3-ubyte` or `-images-idx3-ubyte.gz`",
            "name the folder that holds the IDX files, or say the `format` of the files in it",
        )),
        (Some(wanted), found) => found.iter().copied().find(|prefix| *prefix == wanted).ok_or_else(|| {
            let what = format!("holds no `{wanted}{IMAGES}`; there is: {}", found.join(", "));
            Fault::new(what, "change `split`, or name another folder")
        }),
        (None, [only]) => Ok(*only),
        (None, found) => {
            let what = format!("holds several data sets: {}", found.join(", "));
            Err(Fault::new(what, "say which with `split: train` or `split: test`"))
        }
    }
}

#[cfg(test)]
mod tests;
