//! `train.init`: the weights a training begins with.

use std::collections::BTreeMap;

use super::super::code::Code;
use super::super::context::ParseContext;
use super::super::fault::{Faults, Reported};
use super::super::field::{Block, Field, Missing};
use super::super::job::InitSpec;
use super::super::layout;
use super::location::location;

/// The longest name of a tensor, and the most names in one list: more are a mistake.
const NAME_CHARS_MAX: usize = 512;
const NAMES_MAX: usize = 10_000;

const FORMATS: [&str; 4] = [".safetensors", ".pt", ".pth", ".bin"];

pub(super) fn init(field: &Field<'_>, context: &ParseContext, faults: &mut Faults) -> Result<InitSpec, Reported> {
    let block = field.block(faults, &layout::INIT)?;
    let missing = Missing { code: Code::InitWeights, help: "say where the weights are: `uri: model.safetensors`" };
    let path = block.required(faults, "uri", missing, |field, faults| {
        let path = location(field, Code::InitWeights, context, faults)?.to_string();
        if FORMATS.iter().any(|suffix| path.ends_with(suffix)) {
            return Ok(path);
        }
        let message = format!("the name of {} does not tell what it is", field.found());
        let help = "give a `.safetensors` file, or a state_dict of PyTorch as `.pt` or `.pth`";
        Err(field.fault(faults, Code::InitWeights, message, help))
    });
    let rename = block.optional(faults, "rename", |field, faults| {
        let entries =
            field.entries(faults, "give a map from the file's names to the model's, as in `{fc1: layer1}`")?;
        let read = |(from, field): (&str, Field<'_>)| Ok((from.to_owned(), new_name(&field, faults)?));
        let renamed: Vec<_> = entries.into_iter().map(read).collect();
        renamed.into_iter().collect::<Result<BTreeMap<_, _>, Reported>>()
    });
    let fresh = names(&block, "fresh", faults);
    let ignore = names(&block, "ignore", faults);
    let freeze = names(&block, "freeze", faults);
    Ok(InitSpec { path: path?, rename: rename?.unwrap_or_default(), fresh: fresh?, ignore: ignore?, freeze: freeze? })
}

fn names(block: &Block<'_>, key: &str, faults: &mut Faults) -> Result<Vec<String>, Reported> {
    let given = block.optional(faults, key, |field, faults| {
        let items = field.items(faults, "give a list of names or of what they begin with, as in `[layer1]`")?;
        if items.len() > NAMES_MAX {
            return Err(field.fault(
                faults,
                Code::BadValue,
                format!("{} names", items.len()),
                "give beginnings of names",
            ));
        }
        let names: Vec<_> = items.iter().map(|item| name(item, faults)).collect();
        names.into_iter().collect::<Result<Vec<_>, Reported>>()
    })?;
    Ok(given.unwrap_or_default())
}

fn name(field: &Field<'_>, faults: &mut Faults) -> Result<String, Reported> {
    let name = new_name(field, faults)?;
    if name.is_empty() {
        return Err(field.fault(faults, Code::BadValue, "a name is empty", "write the name, as in `layer1`"));
    }
    Ok(name)
}

/// A new name may be empty: then what it stands for falls away.
fn new_name(field: &Field<'_>, faults: &mut Faults) -> Result<String, Reported> {
    let name = field.text(faults)?;
    if name.chars().count() > NAME_CHARS_MAX {
        let message = format!("a name of {} characters", name.chars().count());
        return Err(field.fault(faults, Code::BadValue, message, format!("keep it within {NAME_CHARS_MAX}")));
    }
    Ok(name.to_owned())
}
