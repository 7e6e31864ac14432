//! How well, and how fast, do the policies divide a cluster of GPUs among elastic training jobs?
//! temporary driver
use std::path::PathBuf;
use std::time::Instant;

use neap_scheduler::policy::adaptive::*;
use neap_scheduler::sim::adaptive::*;
use neap_scheduler::sim::read_rows;

struct Clock;
impl DecisionTimer for Clock {
    fn time(&mut self, decide: &mut dyn FnMut()) -> f64 {
        let start = Instant::now();
        decide();
        start.elapsed().as_secs_f64()
    }
}

fn text(name: &str) -> String {
    let dir = std::env::var("NEAP_BENCH_DATA").map(PathBuf::from).unwrap_or("/work/shared/bench/scheduling".into());
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[derive(serde::Deserialize)]
struct Conf { app: String, gpu: String, placement: String, target_batch: u32, completion_s: f64 }
#[derive(serde::Deserialize)]
struct Iso { app: String, gpu: String, placement: String, run_s: f64 }

fn digits(p: &str) -> Vec<u32> { p.split('x').map(|d| d.parse().unwrap()).collect() }

fn main() {
    let a = text("profiles/apps.csv"); let t = text("profiles/throughput.csv"); let e = text("profiles/statistical_efficiency.csv");
    let world = World::read(Table { file: "apps.csv", text: &a }, Table { file: "throughput.csv", text: &t }, Table { file: "se.csv", text: &e }).unwrap();
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|a| a == "conf") {
        let mut worst = 0.0f64;
        for r in read_rows::<Conf>("c", &text("profiles/conformance_fixed_config.csv")).unwrap() {
            let r = r.value;
            let d = digits(&r.placement);
            let s = completion_seconds(&world.apps[&r.app], FixedRun { gpu: &r.gpu, gpus_per_node: &d, batch: r.target_batch }, 60.0, 1000000).unwrap();
            let err = (s / r.completion_s - 1.0).abs();
            worst = worst.max(err);
            if err > 0.001 { println!("{} {} {} {} {} vs {}", r.app, r.gpu, r.placement, r.target_batch, s, r.completion_s); }
        }
        println!("worst {worst}");
        for r in read_rows::<Iso>("c", &text("profiles/isolated.csv")).unwrap() {
            let r = r.value;
            let d = digits(&r.placement);
            let s = best_run_seconds(&world.apps[&r.app], &r.gpu, &d).unwrap();
            let err = (s / r.run_s - 1.0).abs();
            if err > 0.02 { println!("iso {} {} {} {} vs {}", r.app, r.gpu, r.placement, s, r.run_s); }
        }
        return;
    }
    let mut set = GoodputSettings::default();
    let mut traces = vec![]; let mut policy = "goodput".to_string(); let mut rigid = false; let mut hom = false; let mut scale = 1; let mut detail = false;
    for a in &args[1..] {
        let Some((k, v)) = a.split_once('=') else { continue };
        let f = || v.parse::<f64>().unwrap();
        match k {
            "floor" => set.price_floor = f(), "mem" => set.price_memory_seconds = f(), "avg" => set.price_average_seconds = f(),
            "far" => set.price_far_share = f(), "ten" => set.tenure_seconds = f(), "tail" => set.tail_exponent = f(),
            "exp" => set.explore_factor = f() as u32, "unk" => set.unknown_seconds = f(),
            "p" => policy = v.into(), "rigid" => rigid = true, "hom" => hom = true, "scale" => scale = v.parse().unwrap(), "detail" => detail = true,
            "t" => traces = v.split(',').map(String::from).collect(), _ => panic!("{k}"),
        }
    }
    let cluster = if hom { ClusterSpec::homogeneous_t4() } else { ClusterSpec::sia_heterogeneous() }.scaled(scale);
    let mut fam: std::collections::BTreeMap<String, Vec<[f64; 5]>> = Default::default();
    for want in traces {
        let family = want.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_').to_string();
        let txt = text(&format!("job_traces/{family}.csv"));
        for tr in read_traces(Table { file: "t", text: &txt }, &world).unwrap() {
            if tr.name != want && want != family { continue; }
            let tr = if scale > 1 { tr.repeated(scale) } else { tr };
            let mut pol: Box<dyn AllocationPolicy> = match policy.as_str() { "fifo" => Box::new(Fifo), "las" => Box::new(LeastService), _ => Box::new(Goodput::new(set)) };
            let start = Instant::now();
            let rep = simulate(&world, &cluster, &tr, pol.as_mut(), RunSettings { rigid, ..Default::default() }, &mut Clock).unwrap();
            let s = rep.summary();
            println!("{:16} jct {:.4} p50 {:.3} p99 {:.3} mk {:.3} gpuh {:.3} {:?} rst {:.2} wait {:.3} util {:.2} ms {:.2}/{:.2} rounds {} ftf {:.2} {:.1}s", tr.name, s.jct_mean_hours, s.jct_p50_hours, s.jct_p99_hours, s.makespan_hours, s.gpu_hours_per_job, s.gpu_hours.iter().map(|h| h.round()).collect::<Vec<_>>(), s.restarts_per_job, s.wait_mean_hours, s.utilisation, s.decision_median_seconds * 1e3, s.decision_p95_seconds * 1e3, rep.use_over_time.len(), if scale == 1 {rep.worst_fairness(&world)} else {0.0}, start.elapsed().as_secs_f64());
            if detail {
                let mut by: std::collections::BTreeMap<&str, (f64, f64, f64, f64)> = Default::default();
                for j in &rep.jobs { let e = by.entry(&j.app).or_default(); e.0 += 1.0; e.1 += (j.end - j.submit) / 3600.; e.2 += j.gpu_seconds / 3600.; e.3 += j.restarts as f64; }
                for (k, v) in by { println!("   {k}: n {} jct {:.3} (sum {:.2}) gpuh {:.2} (sum {:.1}) rst {:.1}", v.0, v.1 / v.0, v.1, v.2 / v.0, v.2, v.3 / v.0); }
                for j in &rep.jobs { if j.end - j.submit > 4. * 3600. { println!("     {} sub {:.2} start {:.2} end {:.2} gpuh {:.1} rst {}", j.name, j.submit / 3600., j.start / 3600., j.end / 3600., j.gpu_seconds / 3600., j.restarts); } }
            }
            fam.entry(family.clone()).or_default().push([s.jct_mean_hours, s.jct_p99_hours, s.makespan_hours, s.gpu_hours_per_job, s.restarts_per_job]);
        }
    }
    for (k, v) in fam { let n = v.len() as f64; let m: Vec<String> = (0..5).map(|i| format!("{:.3}", v.iter().map(|x| x[i]).sum::<f64>() / n)).collect(); println!("MEAN {k} {}", m.join(" ")); }
}
