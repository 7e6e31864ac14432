//! Shows the faults of a job file: for people with the line and a caret, for programs as a list.

use std::fmt::Write;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use neap_scheduler::spec::{Fault, Severity};
use serde_json::{Value, json};

use super::output::harmless;

const RESET: &str = "\u{1b}[0m";
const BOLD: &str = "\u{1b}[1m";

/// Every fault with its place, code, line with caret, and help, in the order of the file:
///
/// ```text
/// error[E013] digits.yaml:5:33 resources.memory: 16 has no unit
///   |
/// 5 | resources: {cpus: many, memory: 16}
///   |                                 ^^
///   |
///   = help: write `16GB` or `16MiB`
/// ```
pub(super) fn render(file: &str, source: &str, faults: &[Fault], color: bool) -> String {
    let rendered: Vec<String> = faults.iter().map(|fault| one(file, source, fault, color)).collect();
    rendered.join("\n")
}

/// The same as a list.
pub(super) fn to_json(file: &str, faults: &[Fault]) -> Value {
    let one = |fault: &Fault| {
        json!({
            "code": fault.code.id(),
            "severity": fault.severity.to_string(),
            "file": file,
            "line": fault.span.as_ref().map(|span| span.line),
            "column": fault.span.as_ref().map(|span| span.column),
            "path": fault.path,
            "message": fault.message,
            "help": fault.help,
        })
    };
    faults.iter().map(one).collect()
}

fn one(file: &str, source: &str, fault: &Fault, color: bool) -> String {
    let mut text = header(file, fault, color);
    let level = match fault.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_level(level);
    if let Some(span) = &fault.span
        && !source.is_empty()
    {
        group = group.element(Snippet::source(source).annotation(AnnotationKind::Primary.span(span.bytes.clone())));
    }
    if let Some(help) = &fault.help {
        group = group.element(Level::HELP.message(harmless(help)));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    writeln!(text, "{}", renderer.render(&[group])).expect("writing to a string cannot fail");
    text
}

/// `error[E013] digits.yaml:5:33 resources.memory: 16 has no unit`
fn header(file: &str, fault: &Fault, color: bool) -> String {
    let tone = match fault.severity {
        Severity::Error => "\u{1b}[1;31m",
        Severity::Warning => "\u{1b}[1;33m",
    };
    let [tone, bold, reset] = if color { [tone, BOLD, RESET] } else { [""; 3] };
    let place = fault.span.as_ref().map(|span| format!(":{}:{}", span.line, span.column)).unwrap_or_default();
    let field = if fault.path.is_empty() { String::new() } else { format!("{}: ", fault.path) };
    let said = harmless(&format!("{file}{place} {field}{}", fault.message));
    format!("{tone}{}[{}]{reset} {bold}{said}{reset}\n", fault.severity, fault.code)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use neap_scheduler::spec::{EntryInfo, ParseContext, parse};

    use super::*;

    const FILE: &str = "\
version: 1
kind: train
name: \"Bad\\e[2J\"
resources: {cpus: many, memory: 16}
data:
  train: {uri: digits.csv}
  train: {uri: fashion}
train: {entry: mpl, epochs: 1}
";

    fn faults(text: &str) -> Vec<Fault> {
        let mlp = EntryInfo { name: "mlp".to_owned(), default_batch: 128, params: Vec::new() };
        let context = ParseContext { base_dir: "/".to_owned(), entries: vec![mlp], ..ParseContext::default() };
        parse(text, &context).expect_err("the file is faulty")
    }

    #[test]
    fn people_see_the_line_and_a_caret() {
        expect![[r#"
            error[E004] digits.yaml:3:7 name: "Bad�[2J" is not a DNS label
              |
            3 | name: "Bad\e[2J"
              |       ^^^^^^^^^^
              |
              = help: use 1 to 63 lowercase letters, digits and `-`, with a letter or digit first and last

            error[E012] digits.yaml:4:19 resources.cpus: `many` is not a number of processors
              |
            4 | resources: {cpus: many, memory: 16}
              |                   ^^^^
              |
              = help: write `4`, `4+`, `4..8` or a part of one, such as `0.5`

            error[E013] digits.yaml:4:33 resources.memory: 16 has no unit
              |
            4 | resources: {cpus: many, memory: 16}
              |                                 ^^
              |
              = help: write `16GB` or `16MiB`

            error[E083] digits.yaml:7:3 data.train: `train` is given twice, first in line 6
              |
            7 |   train: {uri: fashion}
              |   ^^^^^
              |
              = help: remove one of the two

            error[E040] digits.yaml:8:16 train.entry: there is no entry `mpl`
              |
            8 | train: {entry: mpl, epochs: 1}
              |                ^^^
              |
              = help: did you mean `mlp`? choose `mlp`
        "#]]
        .assert_eq(&render("digits.yaml", FILE, &faults(FILE), false));
    }

    #[test]
    fn places_at_the_very_end_are_shown() {
        for text in ["", "\n", "version: 1", "name: \"open", "version: 1\nkind: [", "é: ü"] {
            let shown = render("x.yaml", text, &faults(text), false);
            assert!(shown.starts_with("error[E0"), "{text:?}: {shown}");
            assert!(shown.contains("= help: ") || shown.contains("help: "), "{text:?}: {shown}");
        }
    }

    #[test]
    fn colors_only_where_they_are_asked_for() {
        let faults = faults(FILE);
        assert!(render("x.yaml", FILE, &faults, true).contains("\u{1b}[1;31merror[E004]"));
        assert!(!render("x.yaml", FILE, &faults, false).contains('\u{1b}'));
    }

    #[test]
    fn programs_get_a_list() {
        let list = to_json("digits.yaml", &faults(FILE));
        assert_eq!(list[2]["code"], "E013");
        assert_eq!((&list[2]["line"], &list[2]["column"]), (&json!(4), &json!(33)));
        assert_eq!((&list[2]["file"], &list[2]["path"]), (&json!("digits.yaml"), &json!("resources.memory")));
        assert_eq!((&list[2]["severity"], &list[2]["help"]), (&json!("error"), &json!("write `16GB` or `16MiB`")));
    }
}
