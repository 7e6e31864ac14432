//! `train.ps.compression`, and how much of a gradient `topk` sends.

use super::super::code::Code;
use super::super::fault::{Faults, Reported};
use super::super::field::{Block, Field};
use super::super::job::Compression;

/// The share of values that `topk` sends where the job says nothing.
const TOPK_SHARE: f64 = 0.01;

/// Fewer are a typing error: a value of a gradient would wait for ten thousand steps.
const TOPK_SHARE_MIN: f64 = 0.0001;

/// The compression of gradients on their way to the parameter server, where the job asks for one. Reads only its own
/// fields; the others of `ps` are read elsewhere.
pub(super) fn compression(train: &Block<'_>, faults: &mut Faults) -> Result<Option<Compression>, Reported> {
    let Some(ps) = train.get("ps") else { return Ok(None) };
    let built = [("bf16", Compression::Bf16), ("topk", Compression::TopK { share: TOPK_SHARE })];
    let compression = ps.get("compression").map(|field| field.choice(faults, Code::BadValue, &built, &[])).transpose();
    let Some(field) = ps.get("topk_share") else { return compression };
    let share = topk_share(&field, faults);
    match compression? {
        Some(Compression::TopK { .. }) => Ok(Some(Compression::TopK { share: share? })),
        _ => {
            let message = "`topk_share` without `compression: topk`";
            Err(faults.error(Code::BadValue, &field.path, field.key_span, message, "add that, or remove `topk_share`"))
        }
    }
}

fn topk_share(field: &Field<'_>, faults: &mut Faults) -> Result<f64, Reported> {
    let help = format!("give the share of values that are sent, from {TOPK_SHARE_MIN} to 1");
    let (text, quoted) = field.scalar(faults, "a share", &help)?;
    match text.parse::<f64>() {
        Ok(share) if !quoted && (TOPK_SHARE_MIN..=1.0).contains(&share) => Ok(share),
        _ => Err(field.fault(faults, Code::BadValue, format!("{} is not such a share", field.found()), help)),
    }
}
