//! `neap node list` and `neap node preempt`.

use neap_scheduler::model::Millis;

use crate::http::body::NodeBody;

use super::Shell;
use super::args::{AllArgs, Format, PreemptArgs};
use super::devices::gpus;
use super::exit::{CliError, Exit};
use super::output::{Listing, Tone, age, coarse, now};

pub(super) fn list(shell: &Shell, args: &AllArgs) -> Result<Exit, CliError> {
    let nodes = shell.client()?.nodes(args.listed())?;
    let mut listing = Listing::new(&[
        "NODE", "STATE", "OFFER", "CPUS", "MEMORY", "GPUS", "MARKET", "PRICE", "JOBS", "COST", "AGE", "WHY",
    ]);
    for node in &nodes {
        listing.row(row(node));
    }
    if nodes.is_empty() && shell.output.format == Format::Table {
        let more = if args.all { "" } else { "; `neap node list -a` shows released ones" };
        shell.output.remark(&format!("no nodes{more}"));
        return Ok(Exit::Ok);
    }
    shell.output.list(&nodes, &listing)?;
    Ok(Exit::Ok)
}

pub(super) fn preempt(shell: &Shell, args: &PreemptArgs) -> Result<Exit, CliError> {
    let notice = Millis::from(args.notice);
    let node = shell.client()?.preempt(args.node, notice)?;
    shell
        .output
        .document(&node, &node.id, || format!("{} is taken back in {notice}; now {}\n", node.id, node.state))?;
    Ok(Exit::Ok)
}

fn row(node: &NodeBody) -> Vec<(String, Tone)> {
    let plain = |text: String| (text, Tone::Plain);
    let jobs = if node.jobs.is_empty() { "-".to_owned() } else { node.jobs.join(" ") };
    let time = node.ended_ms.map_or_else(|| age(node.requested_ms), |end| coarse(end.since(node.requested_ms)));
    let notice = node.notice_until_ms.filter(|_| node.ended_ms.is_none());
    let why = match notice {
        Some(until) => format!("taken back in {}; {}", until.since(now()), node.keep_reason),
        None => node.keep_reason.clone(),
    };
    vec![
        plain(node.id.clone()),
        (node.state.clone(), tone(&node.state)),
        plain(node.offer.clone()),
        plain(node.cpu_millis.to_string()),
        plain(node.memory_mib.to_string()),
        plain(gpus(&node.devices)),
        plain(node.market.clone()),
        plain(node.price_micro_usd_per_hour.to_string()),
        plain(jobs),
        plain(node.cost_micro_usd.to_string()),
        plain(time),
        plain(why),
    ]
}

fn tone(state: &str) -> Tone {
    match state {
        "ready" => Tone::Good,
        "failed" | "unreachable" => Tone::Bad,
        "released" => Tone::Plain,
        _ => Tone::Busy,
    }
}
