//! The page of figures that `neap simulate --report` writes, read as a browser would read it.

use roxmltree::{Document, Node};

use crate::support::Home;

/// Names that would be markup, did nobody escape them.
const TRACE: &str = "vc,submit_s,duration_s,req_gpus\n\
    <script>alert(1)</script>,0,1000,8\n<img src=x>,1,1000,16\nb&b,2,10,4\nb&b,3,5000,4\nb&b,900,20,16\n";

/// The report of two policies on [`TRACE`], and what the command printed as JSON.
fn report(home: &Home, policies: &[&str]) -> (String, serde_json::Value) {
    let folder = home.path().parent().unwrap().to_owned();
    let (trace, page) = (folder.join("a <b>&.csv"), folder.join("report.html"));
    std::fs::write(&trace, TRACE).unwrap();
    let (trace, file) = (trace.display().to_string(), page.display().to_string());
    let word = if policies.len() > 1 { "diff" } else { "run" };
    let mut args =
        vec!["simulate", word, &trace, "--nodes", "4", "--price", "2.5", "--report", &file, "-o", "json", "-q"];
    args.extend(policies.iter().flat_map(|policy| ["--policy", policy]));
    let printed = home.neap(&args).expect(0).json();
    (std::fs::read_to_string(page).unwrap(), printed)
}

/// The drawings of a page, each as text that must be XML.
fn drawings(page: &str) -> Vec<String> {
    let parts = page.split("<svg").skip(1).map(|part| part.split("</svg>").next().unwrap());
    parts.map(|part| format!("<svg{part}</svg>")).collect()
}

/// The points of the lines of one colour. In a drawing y counts downwards.
fn points(drawing: &Document<'_>, color: &str) -> Vec<(f64, f64)> {
    let line = |node: &Node<'_, '_>| node.tag_name().name() == "polyline" && node.attribute("stroke") == Some(color);
    let line = drawing.descendants().find(line).unwrap_or_else(|| panic!("no line in {color}"));
    let pairs = line.attribute("points").unwrap().split_whitespace();
    pairs
        .map(|pair| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        })
        .collect()
}

const POLICY_COLORS: [&str; 2] = ["#1D5FA8", "#C2571A"];

#[test]
fn every_figure_is_drawn_with_both_policies_and_rises_to_its_end() {
    let home = Home::new();
    let (page, printed) = report(&home, &["fifo", "backfill"]);
    let drawings = drawings(&page);
    assert_eq!(drawings.len(), 6);
    for (at, drawing) in drawings.iter().enumerate() {
        let drawing = Document::parse(drawing).unwrap();
        let title = drawing.root_element().attribute("aria-label").unwrap();
        for color in POLICY_COLORS {
            let points = points(&drawing, color);
            assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{title}: {points:?}");
            // Use and queue fall too; distributions, cost and jobs done only ever rise.
            let rises = points.windows(2).all(|pair| pair[0].1 >= pair[1].1);
            assert!([2, 3].contains(&at) || rises, "{title}: {points:?}");
        }
        let texts = drawing.descendants().filter(|node| node.tag_name().name() == "text");
        assert!(texts.count() > 6, "{title} has ticks and names of axes");
    }
    let cost = printed["after"]["cost_micro_usd"].as_f64().unwrap() / 1e6;
    assert!(page.contains(&format!("backfill ends at {}", format!("{cost:.3}").trim_end_matches('0'))), "{page}");
    assert!(
        page.contains("Jobs done: jobs done by time since the first submission. fifo ends at 5; backfill ends at 5")
    );
}

#[test]
fn a_page_asks_for_nothing_and_runs_nothing() {
    let home = Home::new();
    let (page, _) = report(&home, &["fifo", "backfill"]);
    for word in ["<script", "<img", "<link", "<iframe", "src=", "@import", "url(", "href"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("http:"), "only the name of SVG is an address");
    assert!(page.contains("default-src 'none'"));
    assert!(page.contains("<h1>Simulation of a &lt;b&gt;&amp;.csv</h1>"));
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
}

#[test]
fn the_same_seed_gives_the_same_page_and_the_same_json() {
    let home = Home::new();
    let first = report(&home, &["fair_share"]);
    assert_eq!(first, report(&home, &["fair_share"]));
    let command = "neap simulate run ";
    assert!(first.0.contains(command) && first.0.contains("<dt>seed</dt><dd>0</dd>"), "{}", first.0);
    for row in [
        "jobs",
        "mean completion",
        "p50 completion",
        "p99 completion",
        "makespan",
        "GPU-hours per job",
        "cost",
        "restarts",
    ] {
        assert!(first.0.contains(&format!("<th scope=\"row\">{row}</th>")), "{row}");
    }
}

#[test]
fn a_page_that_cannot_be_written_is_said() {
    let home = Home::new();
    let trace = home.path().with_file_name("t.csv");
    std::fs::write(&trace, TRACE).unwrap();
    let done = home.neap(&["simulate", &trace.display().to_string(), "--report", "/nowhere/r.html"]).expect(2);
    assert!(done.stderr.contains("failed to write /nowhere/r.html"), "{done:?}");
}
