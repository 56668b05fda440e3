//! Language: how doc comments open, and words that make persons of processes and data.

use super::{Entry, documents, source};

/// Openings that make a riddle of a doc comment: the reader has to find the noun or the verb.
const OPENINGS: [&str; 6] = ["What", "Who", "Whom", "Whose", "Whether", "Whoever"];

/// Words for persons, which processes and data are not.
const PERSONS: [&str; 11] =
    ["who", "whom", "whoever", "somebody", "someone", "nobody", "anybody", "everybody", "he", "him", "his"];

pub(super) fn faults(entries: &[Entry]) -> Vec<String> {
    let mut faults = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_rust() || documents::is_checked(&entry.path)) {
        let comments = if entry.is_rust() { doc_comments(&entry.text) } else { markdown(&entry.text) };
        for Line { number, text, opens } in &comments {
            if let Some(word) = opening(text).filter(|_| *opens && entry.is_rust()) {
                faults.push(format!("{}:{number}: a doc comment opens with `{word}`", entry.path));
            }
            for word in persons(text) {
                faults.push(format!("{}:{number}: `{word}` is a word for persons", entry.path));
            }
        }
        if entry.is_rust() && !entry.is_test() && !entry.path.starts_with("tests/") {
            for (number, literal) in source::messages(source::without_tests(&entry.text)) {
                for word in persons(&literal) {
                    faults.push(format!(
                        "{}:{number}: `{word}` in a message is a word for persons",
                        entry.path
                    ));
                }
            }
        }
    }
    faults
}

/// One line of prose.
struct Line {
    number: usize,
    text: String,
    /// `true` if it is the first line of its comment.
    opens: bool,
}

fn doc_comments(source: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut in_comment = false;
    let mut in_code = false;
    for (number, line) in (1..).zip(source.lines()) {
        let line = line.trim_start();
        let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            (in_comment, in_code) = (false, false);
            continue;
        };
        if text.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push(Line { number, text: without_code(text), opens: !in_comment });
        }
        in_comment = true;
    }
    lines
}

fn markdown(text: &str) -> Vec<Line> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push(Line { number, text: without_code(line), opens: false });
        }
    }
    lines
}

/// The text without what stands in backticks.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

fn opening(text: &str) -> Option<&'static str> {
    let first = text.split_whitespace().next()?;
    OPENINGS.into_iter().find(|opening| *opening == first.trim_end_matches([',', ':']))
}

fn persons(text: &str) -> impl Iterator<Item = &'static str> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '-' | '_'))
        .map(|word| word.trim_end_matches("'s").to_lowercase())
        .collect();
    PERSONS.into_iter().filter(move |person| words.iter().any(|word| word == person))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let entry = Entry { path: path.into(), text: text.into() };
        let faults = faults(&[entry]);
        let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
        assert_eq!(faults, expected, "{text}");
    }

    #[test]
    fn doc_comment_openings_are_checked_on_first_lines_only() {
        check(
            "proto/xds/src/b.rs",
            "/// What it is.\nfn f() {}",
            &["proto/xds/src/b.rs:1: a doc comment opens with `What`"],
        );
        check(
            "proto/xds/src/b.rs",
            "//! Whether, if at all.",
            &["proto/xds/src/b.rs:1: a doc comment opens with `Whether`"],
        );
        check("proto/xds/src/b.rs", "/// Returns it.\n/// What it is.\nfn f() {}", &[]);
        check("proto/xds/src/b.rs", "/// Whatever it is.\n// What it is.\nfn f() {}", &[]);
    }

    #[test]
    fn words_for_persons_are_found_in_prose_and_messages() {
        let message = "fn f() { g(\"nobody asked\"); h(\"nobody\"); }";
        check(
            "proto/xds/src/b.rs",
            message,
            &["proto/xds/src/b.rs:1: `nobody` in a message is a word for persons"],
        );
        check(
            "proto/xds/src/b.rs",
            "/// A client, his stream.",
            &["proto/xds/src/b.rs:1: `his` is a word for persons"],
        );
        check("proto/xds/src/b.rs", "/// The user `nobody`.\n/// ```text\n/// who\n/// ```", &[]);
        check(
            "proto/xds/README.md",
            "The one who waits.",
            &["proto/xds/README.md:1: `who` is a word for persons"],
        );
        check("proto/xds/README.md", "Her, whole, the, other.", &[]);
        check("proto/xds/src/b.rs", "#[cfg(test)]\nmod tests {\n    const A: &str = \"who is it\";\n}", &[]);
    }
}
