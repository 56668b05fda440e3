//! The downward API's files: lines of `key="value"`, the value quoted as Go quotes strings.

use std::collections::BTreeMap;

/// Reads the lines. Lines without `=` are skipped, as Istio does; a value badly quoted is an error that
/// names its key.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .map(|(key, quoted)| match unquote(quoted) {
            Some(value) => Ok((key.to_owned(), value)),
            None => Err(format!("{key}: {quoted} is not a quoted string")),
        })
        .collect()
}

/// Go's `strconv.Unquote` for double quotes.
fn unquote(quoted: &str) -> Option<String> {
    let mut rest = quoted.strip_prefix('"')?.strip_suffix('"').filter(|_| quoted.len() >= 2)?;
    // Bytes, not characters: `\xff` may be one byte of a longer character.
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some(next) = rest.chars().next() {
        rest = rest.get(next.len_utf8()..)?;
        match next {
            '"' => return None,
            '\\' => rest = escape(rest, &mut bytes)?,
            other => bytes.extend(other.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Decodes the escape sequence after a backslash; returns the rest.
fn escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let letter = text.chars().next()?;
    let rest = text.get(letter.len_utf8()..)?;
    let simple = match letter {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        'x' => {
            return number(rest, 2, 16).and_then(|(n, rest)| {
                bytes.push(u8::try_from(n).ok()?);
                Some(rest)
            });
        }
        '0'..='7' => {
            return number(text, 3, 8).and_then(|(n, rest)| {
                bytes.push(u8::try_from(n).ok()?);
                Some(rest)
            });
        }
        'u' | 'U' => {
            let (code, rest) = number(rest, if letter == 'u' { 4 } else { 8 }, 16)?;
            bytes.extend(char::from_u32(code)?.encode_utf8(&mut [0; 4]).bytes());
            return Some(rest);
        }
        _ => return None,
    };
    bytes.push(simple);
    Some(rest)
}

/// A number of exactly so many digits; the rest after it.
fn number(text: &str, digits: usize, radix: u32) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let plain = number.chars().all(|digit| digit.is_digit(radix));
    plain.then(|| u32::from_str_radix(number, radix).ok()).flatten().map(|number| (number, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_unquoted() {
        let text = concat!(
            "app=\"reviews\"\n",
            "sidecar.istio.io/x=\"a=b\\nc\\t\\\"d\\\"\"\n",
            "json=\"{\\\"paths\\\":[\\\"/live\\\"]}\"\n",
            "unicode=\"\\u00e4\\xc3\\xa4\\303\\244\\U0001f600ä\"\n",
            "\n",
            "empty=\"\"",
        );
        let read = parse(text).unwrap();
        let expected = [
            ("app", "reviews"),
            ("sidecar.istio.io/x", "a=b\nc\t\"d\""),
            ("json", "{\"paths\":[\"/live\"]}"),
            ("unicode", "äää😀ä"),
            ("empty", ""),
        ];
        assert_eq!(read, expected.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
    }

    #[test]
    fn a_value_badly_quoted_names_its_key() {
        for value in [
            "",
            "x",
            "\"",
            "\"x",
            "x\"",
            "\"a\"b\"",
            "\"\\\"",
            "\"\\q\"",
            "\"\\x1\"",
            "\"\\777\"",
            "\"\\xff\"",
            "\"\\u+123\"",
            "\"\\ud800\"",
        ] {
            let error = parse(&format!("ok=\"1\"\nbad={value}\n")).unwrap_err();
            assert!(error.starts_with("bad: "), "{value}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC*", quoted in "\"[\\\\a-zA-Z0-9\"é]*\"") {
            drop(parse(&text));
            drop(parse(&format!("key={quoted}")));
        }
    }
}
