//! Istio's `.proxycfg` files, protobuf's text form of a `ProxyConfig`, as JSON. Without a schema: as much of the form as those files
//! use. What else there might be is an error, never a guess.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// The message in this text, with proto field names.
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
    /// A name, a number or an enum's value.
    Word(String),
    /// What was quoted.
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
                // Escapes of the two forms are alike as far as JSON knows them, and an error beyond.
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

/// Whether a sign is next; then it is taken.
fn takes(rest: &mut &[Token], sign: char) -> bool {
    let taken = rest.first() == Some(&Token::Sign(sign));
    if taken {
        next(rest);
    }
    taken
}

/// Fields up to what ends them.
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

/// A duration and a wrapper have a form of their own in JSON.
fn well_known(mut fields: Map<String, Value>) -> Value {
    match (fields.len(), fields.get("seconds").and_then(Value::as_i64)) {
        (1, Some(seconds)) => format!("{seconds}s").into(),
        (1, None) if fields.contains_key("value") => fields.remove("value").unwrap_or_default(),
        _ => Value::Object(fields),
    }
}

/// A map is a list of its entries.
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
    fn everything_the_files_use_is_read() {
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
    fn what_is_not_understood_is_an_error() {
        for text in ["a: ", "a: {", "a: [1", "a: \"b", "a: 1 a: 2", "}", "a: <b: 1>", "a: }", "\"a\": 1"] {
            assert!(super::json(text).is_err(), "{text:?}");
        }
    }
}
