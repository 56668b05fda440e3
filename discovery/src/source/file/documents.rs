//! Splits the text of a file into documents and parses each on its own: an invalid document does not affect the others.
//! The meaning of the documents is not known here.
//!
//! YAML is parsed as by `kubectl`: 1.1 booleans, `010` is eight, duplicate keys are an error, and every size is
//! bounded. JSON is YAML, so `.json` files are parsed the same way, duplicate keys included.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Options, alias_limits, budget, options};

/// Document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// Number among the documents that are not empty, from 1.
    pub(super) index: usize,
    /// First line in the file, from 1.
    pub(super) line: usize,
    /// Text, including the `---` before it.
    pub(super) text: &'a str,
}

/// Syntax error of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Line in the document, from 0.
    pub(super) line: usize,
    /// Description of the error.
    pub(super) message: String,
}

/// Largest nesting of collections. Kubernetes' own objects stay below twenty.
const MAX_DEPTH: usize = 64;
/// Largest number of scalars and collections of a document: some 50,000 endpoints in one list.
const MAX_NODES: usize = 2_000_000;
/// Largest number of events that aliases may add to a document. Manifests hardly use them; YAML bombs do.
const MAX_ALIASED: usize = 100_000;

/// Splits a file at its `---` lines. Documents that contain only comments and blank lines are left out.
///
/// `---` at the beginning of a line is always a separator: YAML allows it there in no scalar.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    let mut has_content = false;
    let mut close = |start: usize, end: usize, line: usize, has_content: bool| {
        if let (true, Some(text)) = (has_content, text.get(start..end)) {
            documents.push(Document { index: documents.len() + 1, line, text });
        }
    };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let content = match line.strip_prefix("---") {
            Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => {
                close(start, offset, start_line, has_content);
                (start, start_line, has_content) = (offset, number + 1, false);
                rest
            }
            _ => line,
        };
        // `%YAML` and `...` are directives and markers, not content.
        let content = content.trim();
        has_content |= !content.is_empty() && content != "..." && !content.starts_with(['#', '%']);
        offset += line.len();
    }
    close(start, offset, start_line, has_content);
    documents
}

/// Parses a document.
pub(super) fn parse(document: &Document<'_>) -> Result<Value, SyntaxError> {
    serde_saphyr::from_str_with_options(document.text, yaml()).map_err(|error| {
        let line = error.location().map_or(1, |location| usize::try_from(location.line()).unwrap_or(1));
        let message = error.without_snippet().to_string();
        // The parser counts lines from the first line of the document.
        let text = message.split_once(" at line ").map_or(&*message, |(text, _)| text);
        SyntaxError { line: line.saturating_sub(1), message: text.to_owned() }
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

/// Parses a text of one document; null if it has no content.
pub(crate) fn single(text: &str) -> Result<Value, String> {
    let documents = split(text);
    match documents.as_slice() {
        [] => Ok(Value::Null),
        [document] => {
            parse(document).map_err(|error| format!("line {}: {}", document.line + error.line, error.message))
        }
        [_, second, ..] => Err(format!("line {}: unexpected second document", second.line)),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use serde_json::json;

    use super::*;

    fn parse_all(text: &str) -> Vec<(usize, usize, Result<Value, SyntaxError>)> {
        split(text).iter().map(|document| (document.index, document.line, parse(document))).collect()
    }

    fn parse_only(text: &str) -> Result<Value, SyntaxError> {
        let mut documents = parse_all(text);
        assert_eq!(documents.len(), 1, "{text:?}: {documents:?}");
        documents.remove(0).2
    }

    #[test]
    fn empty_documents_are_left_out_and_not_numbered() {
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
            let parsed: Vec<_> = parse_all(text)
                .into_iter()
                .map(|(index, line, value)| (index, line, value.unwrap()))
                .collect();
            assert_eq!(parsed, expected, "{text:?}");
        }
    }

    #[test]
    fn invalid_document_does_not_affect_other_documents() {
        let documents = parse_all("a: 1\n---\nb: [1\nc: {\n---\nd: 4\n");
        assert_eq!(documents[0].2, Ok(json!({"a": 1})));
        assert!((1..=3).contains(&documents[1].2.clone().unwrap_err().line), "{documents:?}");
        assert_eq!(documents[2].2, Ok(json!({"d": 4})));
    }

    #[test]
    fn scalars_are_parsed_as_by_kubectl() {
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
            assert_eq!(parse_only(&format!("a: {text}")), Ok(json!({ "a": expected })), "{text}");
        }
        assert_eq!(parse_only("x: &x {a: 1}\ny: {<<: *x, b: 2}").unwrap()["y"], json!({"a": 1, "b": 2}));
    }

    #[test]
    fn duplicate_keys_deep_nesting_and_alias_bombs_are_syntax_errors() {
        let deep = "[".repeat(100_000);
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let before = format!("*a{}", level - 1);
            writeln!(bomb, "a{level}: &a{level} [{}]", [&*before; 9].join(",")).unwrap();
        }
        for text in ["a: 1\na: 2", "{\"a\": 1, \"a\": 2}", "a: .inf", "a: \"\\x", "a: *nobody", &deep, &bomb]
        {
            let error = parse_only(text).unwrap_err();
            assert!(!error.message.is_empty() && error.message.len() < 400, "{error:?}");
        }
    }
}
