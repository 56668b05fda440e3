//! Rust source as far as our rules need it: the code without comments and literals, and the paths it names.

use std::iter::Peekable;
use std::str::Chars;

/// The code with comments, strings and characters blanked. Lines stay where they are.
pub(super) fn code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let blank = literal_or_comment(rest, out.chars().next_back());
        let (part, after) = rest.split_at(blank.unwrap_or(first.len_utf8()));
        if blank.is_some() {
            out.extend(part.chars().map(|c| if c == '\n' { c } else { ' ' }));
        } else {
            out.push_str(part);
        }
        rest = after;
    }
    out
}

/// The source up to the unit tests at its end.
pub(super) fn without_tests(source: &str) -> &str {
    let end = source.find("#[cfg(test)]\nmod tests {").unwrap_or(source.len());
    source.get(..end).unwrap_or(source)
}

/// The string literals that contain a space, each with the number of its line.
pub(super) fn messages(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut at, mut before) = (0, None);
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or_default();
        let length = literal_or_comment(rest, before);
        if let Some(literal) = length.and_then(|length| rest.get(..length))
            && first == '"'
            && literal.contains(' ')
        {
            let number = source.get(..at).unwrap_or_default().matches('\n').count() + 1;
            found.push((number, literal.to_owned()));
        }
        before = Some(first);
        at += length.unwrap_or(first.len_utf8());
    }
    found
}

/// The length of what starts here, if it is not code.
fn literal_or_comment(rest: &str, before: Option<char>) -> Option<usize> {
    let until = |mark: &str, from: usize| {
        rest.get(from..).and_then(|tail| tail.find(mark)).map_or(rest.len(), |at| from + at + mark.len())
    };
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(until("*/", 2));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && let Some(raw) = rest.strip_prefix('r').or_else(|| rest.strip_prefix("br")) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw.get(hashes..).is_some_and(|tail| tail.starts_with('"')) {
            let opened = rest.len() - raw.len() + hashes + 1;
            return Some(until(&format!("\"{}", "#".repeat(hashes)), opened));
        }
    }
    // 'x' and '\n' are characters, 'a is a lifetime.
    let mut chars = rest.strip_prefix('\'')?.chars();
    match (chars.next()?, chars.next()?) {
        ('\\', _) | (_, '\'') => Some(quoted(rest, '\'')),
        _ => None,
    }
}

/// The length of a literal with its quotes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Returns true if code names `path` as a whole: `env::var` is not in `my_env::var` and not in `env::var_os`.
pub(super) fn names(code: &str, path: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code.get(..at).and_then(|head| head.chars().next_back());
        let after = code.get(at + path.len()..).and_then(|tail| tail.chars().next());
        !before.is_some_and(in_word) && !after.is_some_and(in_word)
    })
}

/// The paths that begin with `root::` in code, groups opened: `crate::a::{b, c::d}` is `a::b` and `a::c::d`.
pub(super) fn paths(code: &str, root: &str) -> Vec<String> {
    let mark = format!("{root}::");
    let starts = code.match_indices(&mark).filter(|(at, _)| {
        let before = code.get(..*at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
    });
    let tails = starts.filter_map(|(at, _)| code.get(at + mark.len()..));
    tails.flat_map(|tail| tree(&mut tail.chars().peekable(), "")).collect()
}

fn tree(chars: &mut Peekable<Chars>, prefix: &str) -> Vec<String> {
    let mut path = prefix.to_owned();
    while chars.next_if(|c| c.is_whitespace()).is_some() {}
    while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '*')) {
        path.push(c);
    }
    if chars.next_if_eq(&'{').is_none() {
        return if path == prefix { Vec::new() } else { vec![path] };
    }
    let mut found = Vec::new();
    loop {
        found.extend(tree(chars, &path));
        // What is left of an item is ` as name`.
        if chars.find(|c| matches!(c, ',' | '}')) != Some(',') {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        for (source, expected) in [
            ("a // crate::x\nb", "a\nb"),
            ("a /* crate::x\n */ b", "a\n b"),
            (r#"a "crate::\"x" b"#, "a b"),
            ("a r#\"crate::\"x\"# b", "a b"),
            (r"a '\'' b '\n' 'c' d", "a b d"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("for bar in var\"\"", "for bar in var"),
        ] {
            let squeezed = |text: &str| {
                text.lines()
                    .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                    .collect::<Vec<_>>()
            };
            assert_eq!(squeezed(&code(source)), squeezed(expected), "{source}");
        }
    }

    #[test]
    fn use_groups_are_expanded() {
        for (source, expected) in [
            ("use crate::a::{b, c::{self, d as e}};", vec!["a::b", "a::c::self", "a::c::d"]),
            ("use crate::{\n    a as b,\n    c,\n};", vec!["a", "c"]),
            ("use crate::{a, b::*,};", vec!["a", "b::*"]),
            ("fn f(x: &crate::a::B) -> super::C", vec!["a::B"]),
            ("pub(crate) fn $crate::a; my_crate::b; ::crate::c", vec![]),
        ] {
            assert_eq!(paths(source, "crate"), expected, "{source}");
        }
    }
}
