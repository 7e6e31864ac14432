//! `neap explain`: why a job or node is as it is (from the control plane), or what a fault's code means (offline).

use std::fmt::Write;

use neap_scheduler::codes::{self, Meaning};
use serde_json::json;

use crate::http::body::ExplanationBody;

use super::Shell;
use super::exit::{CliError, Exit};
use super::output::instant;

pub(super) fn explain(shell: &Shell, subject: &str) -> Result<Exit, CliError> {
    if is_code(subject) {
        let code = codes::explain(subject).ok_or_else(|| CliError::UnknownCode(subject.to_uppercase()))?;
        return explain_code(shell, code);
    }
    let answer = shell.client()?.explain(subject)?;
    shell.output.document(&answer, subject, || text(&answer))?;
    Ok(Exit::Ok)
}

fn explain_code(shell: &Shell, code: Meaning) -> Result<Exit, CliError> {
    let document = json!({ "code": code.id, "title": code.title, "text": code.text });
    shell.output.document(&document, code.id, || format!("{}: {}\n\n{}\n", code.id, code.title, code.text))?;
    Ok(Exit::Ok)
}

/// `E` or `A` and three digits. Job names are lowercase, so an upper-case one is always meant as a code.
fn is_code(subject: &str) -> bool {
    let digits = subject.strip_prefix(['A', 'E', 'e']).unwrap_or_default();
    digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn text(answer: &ExplanationBody) -> String {
    let mut text = format!("{}: {}\n", answer.subject, answer.state);
    for reason in &answer.reasons {
        writeln!(text, "  {reason}").expect("writing to a string cannot fail");
    }
    if !answer.history.is_empty() {
        text.push_str("\nhistory\n");
    }
    for line in &answer.history {
        writeln!(text, "  {}  {}", instant(line.at_ms), line.text).expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_from_names() {
        for (subject, code) in [
            ("E044", true),
            ("e044", true),
            ("A003", true),
            ("a003", false),
            ("E44", false),
            ("éé", false),
            ("n123", false),
        ] {
            assert_eq!(is_code(subject), code, "{subject}");
        }
    }
}
