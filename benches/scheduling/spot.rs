//! What does finishing a job by its deadline on spot cost, against the published policies and against who knows the
//! future?
//!
//! Bound: the omniscient plan of one zone is exact; for many zones it is SkyNomad's own "Optimal". First the worlds must
//! agree with the published runs of the same policies; only then do scores count. Recordings are read from
//! `NEAP_BENCH_DATA`, or from beside the workspace.
//!
//! ```sh
//! cargo bench -p neap-scheduler --bench spot                       # everything
//! cargo bench -p neap-scheduler --bench spot -- --set aws_2022_10  # or aws_v100_2023_02, h100, v100, ..., further
//! ```

#![expect(clippy::disallowed_methods, reason = "a bench reads recordings and the clock")]
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "spot_data.rs"]
mod data;
#[path = "spot_many_zones.rs"]
mod many_zones;
#[path = "spot_one_zone.rs"]
mod one_zone;
#[path = "recorded.rs"]
mod recorded;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One-zone sets with their gate and stretch: the mean of cost over on-demand cost.
const ONE_ZONE: [(&str, f64, f64); 2] = [("aws_2022_10", 0.520, 0.509), ("aws_v100_2023_02", 0.633, 0.621)];

/// The zones of the published runs on H100s and on V100s.
const H100: &[&str] =
    &["us-central1-a", "us-west1-a", "europe-west1-c", "europe-west3-c", "asia-southeast1-b", "asia-south2-b"];
const V100: &[&str] = &["us-east-1c", "us-east-2b", "us-west-2a"];

/// Many-zone sets: name, recording, file of the peers' costs, zones.
const MANY_ZONES: [(&str, &str, &str, &[&str]); 4] = [
    ("h100", "gcp_h100_2025", "skynomad_h100_6zones_published", H100),
    ("h100_measured", "gcp_h100_2025", "skynomad_h3_h100_pub_measured", H100),
    ("v100", "aws_v100_2023_02", "skynomad_v100_3zones_published", V100),
    ("v100_measured", "aws_v100_2023_02", "skynomad_v100_measured", V100),
];

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().collect();
    let wanted = arguments.iter().position(|argument| argument == "--set").and_then(|at| arguments.get(at + 1));
    let run = |set: &str| wanted.is_none_or(|wanted| wanted == set);
    if !recorded::folder().is_dir() {
        println!("SKIPPED: no recordings in {}; set NEAP_BENCH_DATA", recorded::folder().display());
        return Ok(());
    }
    for (set, gate, stretch) in ONE_ZONE.into_iter().filter(|(set, ..)| run(set)) {
        one_zone::run(set, gate, stretch)?;
    }
    for (set, recording, published, zones) in MANY_ZONES.into_iter().filter(|(set, ..)| run(set)) {
        many_zones::run(set, recording, published, zones)?;
    }
    if run("further") {
        one_zone::further()?;
        many_zones::further()?;
    }
    Ok(())
}
