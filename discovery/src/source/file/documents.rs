//! A file's text, cut into documents, and each parsed on its own: a document that is no YAML costs its
//! neighbours nothing. What the documents mean is not known here.
//!
//! YAML as `kubectl` reads it: 1.1 booleans, `010` is eight, duplicate keys are an error, and every size is
//! bounded. JSON is YAML, so `.json` files come the same way and have no duplicate keys either.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Options, alias_limits, budget, options};

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// Its place among the documents that say something, from 1.
    pub(super) index: usize,
    /// The line of the file it begins on, from 1.
    pub(super) line: usize,
    /// Its text, with the `---` before it.
    pub(super) text: &'a str,
}

/// Why a document is no YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxFault {
    /// The line of the document, from 0.
    pub(super) line: usize,
    /// What is wrong there.
    pub(super) message: String,
}

/// Nesting of collections. Kubernetes' own objects stay below twenty.
const MAX_DEPTH: usize = 64;
/// Scalars and collections of one document: some 50,000 endpoints in one list.
const MAX_NODES: usize = 2_000_000;
/// What aliases may add to a document. Manifests hardly use them; bombs do.
const MAX_ALIASED: usize = 100_000;

/// Cuts a file at its `---` lines. Documents of comments and blank lines alone are left out.
///
/// At the beginning of a line `---` cannot be anything else: YAML allows it inside no scalar there.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    let mut says_something = false;
    let mut close = |start: usize, end: usize, line: usize, says_something: bool| {
        if let (true, Some(text)) = (says_something, text.get(start..end)) {
            documents.push(Document { index: documents.len() + 1, line, text });
        }
    };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let content = match line.strip_prefix("---") {
            Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => {
                close(start, offset, start_line, says_something);
                (start, start_line, says_something) = (offset, number + 1, false);
                rest
            }
            _ => line,
        };
        // `%YAML` and `...` are marks of the stream.
        let content = content.trim();
        says_something |= !content.is_empty() && content != "..." && !content.starts_with(['#', '%']);
        offset += line.len();
    }
    close(start, offset, start_line, says_something);
    documents
}

/// Parses one document.
pub(super) fn parse(document: &Document<'_>) -> Result<Value, SyntaxFault> {
    serde_saphyr::from_str_with_options(document.text, yaml()).map_err(|error| {
        let line = error.location().map_or(1, |location| usize::try_from(location.line()).unwrap_or(1));
        let message = error.without_snippet().to_string();
        // The parser counts lines from the document's first.
        let what = message.split_once(" at line ").map_or(&*message, |(what, _)| what);
        SyntaxFault { line: line.saturating_sub(1), message: what.to_owned() }
    })
}

fn yaml() -> Options {
    options! {
        budget: budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: MAX_NODES * 4,
            max_recorded_anchor_events: MAX_ALIASED,
        },
        alias_limits: alias_limits! { max_total_replayed_events: MAX_ALIASED },
        duplicate_keys: DuplicateKeyPolicy::Error,
        legacy_octal_numbers: true,
        with_snippet: false,
    }
}

/// The one document of a text; null when it says nothing.
pub(crate) fn single(text: &str) -> Result<Value, String> {
    let documents = split(text);
    match documents.as_slice() {
        [] => Ok(Value::Null),
        [document] => {
            parse(document).map_err(|fault| format!("line {}: {}", document.line + fault.line, fault.message))
        }
        [_, second, ..] => Err(format!("line {}: a second document begins", second.line)),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use serde_json::json;

    use super::*;

    fn cut(text: &str) -> Vec<(usize, usize, Result<Value, SyntaxFault>)> {
        split(text).iter().map(|document| (document.index, document.line, parse(document))).collect()
    }

    fn only(text: &str) -> Result<Value, SyntaxFault> {
        let mut documents = cut(text);
        assert_eq!(documents.len(), 1, "{text:?}: {documents:?}");
        documents.remove(0).2
    }

    #[test]
    fn documents_are_numbered_where_they_say_something() {
        for (text, expected) in [
            ("", vec![]),
            ("# only a comment\n---\n\n---", vec![]),
            ("a: 1", vec![(1, 1, json!({"a": 1}))]),
            (
                "---\na: 1\n---\n# nothing\n---\nb: 2\n",
                vec![(1, 1, json!({"a": 1})), (2, 5, json!({"b": 2}))],
            ),
            ("\u{feff}a: 1\r\n---\r\nb: 2\r\n", vec![(1, 1, json!({"a": 1})), (2, 2, json!({"b": 2}))]),
            ("%YAML 1.2\n---\na: 1\n...\n---\nb: 2", vec![(1, 2, json!({"a": 1})), (2, 5, json!({"b": 2}))]),
            ("--- {a: 1}\n--- # comment\nb: 2", vec![(1, 1, json!({"a": 1})), (2, 2, json!({"b": 2}))]),
            ("a: |\n  ---\n  text\n", vec![(1, 1, json!({"a": "---\ntext\n"}))]),
            ("---a: 1", vec![(1, 1, json!({"---a": 1}))]),
            ("{\n\t\"a\": [\n\t\t1,\n\t\ttrue\n\t]\n}\n", vec![(1, 1, json!({"a": [1, true]}))]),
        ] {
            let found: Vec<_> =
                cut(text).into_iter().map(|(index, line, value)| (index, line, value.unwrap())).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn a_broken_document_costs_its_neighbours_nothing() {
        let documents = cut("a: 1\n---\nb: [1\nc: {\n---\nd: 4\n");
        assert_eq!(documents[0].2, Ok(json!({"a": 1})));
        assert!((1..=3).contains(&documents[1].2.clone().unwrap_err().line), "{documents:?}");
        assert_eq!(documents[2].2, Ok(json!({"d": 4})));
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        for (text, expected) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("'yes'", json!("yes")),
            ("010", json!(8)),
            ("0x1f", json!(31)),
            ("10.0.0.1", json!("10.0.0.1")),
            ("2026-08-22T10:11:12Z", json!("2026-08-22T10:11:12Z")),
            ("null", json!(null)),
            ("~", json!(null)),
        ] {
            assert_eq!(only(&format!("a: {text}")), Ok(json!({ "a": expected })), "{text}");
        }
        assert_eq!(only("x: &x {a: 1}\ny: {<<: *x, b: 2}").unwrap()["y"], json!({"a": 1, "b": 2}));
    }

    #[test]
    fn what_cannot_be_trusted_is_refused() {
        let deep = "[".repeat(100_000);
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let before = format!("*a{}", level - 1);
            writeln!(bomb, "a{level}: &a{level} [{}]", [&*before; 9].join(",")).unwrap();
        }
        for text in ["a: 1\na: 2", "{\"a\": 1, \"a\": 2}", "a: .inf", "a: \"\\x", "a: *nobody", &deep, &bomb]
        {
            let fault = only(text).unwrap_err();
            assert!(!fault.message.is_empty() && fault.message.len() < 400, "{fault:?}");
        }
    }
}
