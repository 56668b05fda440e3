//! Converts Istio's `.proxycfg` files, the text format of a `ProxyConfig`, to JSON without a schema. It supports the part of
//! the format that those files use; everything else is an error.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// Parses the message in this text; fields have their proto names.
pub(crate) fn json(text: &str) -> Result<Value> {
    let tokens = tokens(text)?;
    let mut rest = tokens.as_slice();
    let fields = fields(&mut rest, None)?;
    Ok(Value::Object(fields))
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// `{`, `}`, `[`, `]`, `:` or `,`
    Sign(char),
    /// A name, a number or an enum value.
    Word(String),
    /// A quoted string.
    Text(String),
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '{' | '}' | '[' | ']' | ':' | ',' => {
                tokens.push(Token::Sign(first));
                1
            }
            '"' => {
                let end = rest.get(1..).and_then(|rest| rest.find('"')).context("a quote has no end")? + 2;
                let quoted = rest.get(..end).unwrap_or_default();
                // Escapes that JSON has too mean the same in both formats; others are an error.
                tokens.push(Token::Text(serde_json::from_str(quoted).with_context(|| quoted.to_owned())?));
                end
            }
            _ if first.is_whitespace() => first.len_utf8(),
            _ => {
                let ends = |c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c));
                let end = rest.find(ends).unwrap_or(rest.len());
                ensure!(end > 0, "{first:?} is not of the text form");
                tokens.push(Token::Word(rest.get(..end).unwrap_or_default().to_owned()));
                end
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(tokens)
}

fn next(rest: &mut &[Token]) -> Option<Token> {
    let (first, others) = rest.split_first()?;
    *rest = others;
    Some(first.clone())
}

/// Consumes the sign and returns true if it is next.
fn takes(rest: &mut &[Token], sign: char) -> bool {
    let taken = rest.first() == Some(&Token::Sign(sign));
    if taken {
        next(rest);
    }
    taken
}

/// Parses fields up to the closing sign.
fn fields(rest: &mut &[Token], end: Option<char>) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    loop {
        let name = match (next(rest), end) {
            (None, None) => return Ok(fields),
            (Some(Token::Sign(sign)), Some(end)) if sign == end => return Ok(fields),
            (Some(Token::Sign(',')), _) => continue,
            (Some(Token::Word(name)), _) => name,
            (other, _) => bail!("a field's name is missing before {other:?}"),
        };
        takes(rest, ':');
        let value = value(rest).with_context(|| name.clone())?;
        ensure!(fields.insert(name.clone(), value).is_none(), "{name}: given twice");
    }
}

fn value(rest: &mut &[Token]) -> Result<Value> {
    Ok(match next(rest).context("a value is missing")? {
        Token::Text(text) => text.into(),
        Token::Word(word) => match word.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            _ => word.parse::<i64>().map_or_else(|_| word.into(), Value::from),
        },
        Token::Sign('{') => well_known(fields(rest, Some('}'))?),
        Token::Sign('[') => {
            let mut elements = Vec::new();
            while !takes(rest, ']') {
                elements.push(value(rest)?);
                takes(rest, ',');
            }
            entries(&elements).unwrap_or(Value::Array(elements))
        }
        Token::Sign(sign) => bail!("{sign:?} is no value"),
    })
}

/// Converts a duration or a wrapper to its JSON form.
fn well_known(mut fields: Map<String, Value>) -> Value {
    match (fields.len(), fields.get("seconds").and_then(Value::as_i64)) {
        (1, Some(seconds)) => format!("{seconds}s").into(),
        (1, None) if fields.contains_key("value") => fields.remove("value").unwrap_or_default(),
        _ => Value::Object(fields),
    }
}

/// Converts a list of map entries to a map.
fn entries(elements: &[Value]) -> Option<Value> {
    let entry = |element: &Value| {
        let (key, value) = (element.get("key")?.as_str()?, element.get("value")?);
        Some((key.to_owned(), value.clone()))
    };
    let entries: Option<Map<_, _>> = elements.iter().map(entry).collect();
    entries.filter(|entries| !entries.is_empty()).map(Value::Object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn text_format_of_istios_files_is_parsed() {
        let text = r#"
            path: "/a#b"   # why
            drain: {seconds: 2}
            tracing: { zipkin: { address: "localhost:6000" }, tls { mode: SIMPLE } }
            runtime_values: [{ key: "a.b" value: "true" }, { key: "c" value: "5" }]
            tags: ["x", "y"]
            compression: {value: false}
            empty: {}
            port: 15000
        "#;
        let expected = json!({
            "path": "/a#b", "drain": "2s", "tracing": {"zipkin": {"address": "localhost:6000"}, "tls": {"mode": "SIMPLE"}},
            "runtime_values": {"a.b": "true", "c": "5"}, "tags": ["x", "y"], "compression": false, "empty": {}, "port": 15000,
        });
        assert_eq!(super::json(text).unwrap(), expected);
    }

    #[test]
    fn invalid_text_format_is_an_error() {
        for text in ["a: ", "a: {", "a: [1", "a: \"b", "a: 1 a: 2", "}", "a: <b: 1>", "a: }", "\"a\": 1"] {
            assert!(super::json(text).is_err(), "{text:?}");
        }
    }
}
