//! Path normalization of the connection manager, before routing.

use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::PathWithEscapedSlashesAction,
};

/// Result of path normalization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NormalizedPath {
    /// The request continues with this path.
    Path(String),
    /// The client is redirected to this path.
    Redirected(String),
    /// The request is rejected.
    Rejected,
}

/// Handles escaped slashes, then dots, then repeated slashes, as Envoy's `maybeNormalizePath`.
pub(super) fn normal(manager: &HttpConnectionManager, path: &str) -> NormalizedPath {
    if path.contains('#') {
        return NormalizedPath::Rejected;
    }
    let end = path.find('?').unwrap_or(path.len());
    let (bare, query) = path.split_at(end);
    let mut bare = bare.to_owned();
    let mut redirects = false;
    let unescaped = unescape_slashes(&bare);
    if unescaped != bare {
        match manager.path_with_escaped_slashes_action() {
            PathWithEscapedSlashesAction::ImplementationSpecificDefault
            | PathWithEscapedSlashesAction::KeepUnchanged => {}
            PathWithEscapedSlashesAction::RejectRequest => return NormalizedPath::Rejected,
            PathWithEscapedSlashesAction::UnescapeAndRedirect => (bare, redirects) = (unescaped, true),
            PathWithEscapedSlashesAction::UnescapeAndForward => bare = unescaped,
        }
    }
    if manager.normalize_path.as_ref().is_some_and(|on| on.value) {
        match canonical(&bare) {
            Some(canonical) => bare = canonical,
            None => return NormalizedPath::Rejected,
        }
    }
    if manager.merge_slashes {
        bare = merge_slashes(&bare);
    }
    let path = bare + query;
    if redirects { NormalizedPath::Redirected(path) } else { NormalizedPath::Path(path) }
}

fn unescape_slashes(path: &str) -> String {
    ["%2F", "%2f"]
        .iter()
        .fold(path.to_owned(), |path, slash| path.replace(slash, "/"))
        .replace("%5C", "\\")
        .replace("%5c", "\\")
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for letter in path.chars() {
        if !(letter == '/' && merged.ends_with('/')) {
            merged.push(letter);
        }
    }
    merged
}

/// Removes `.` and `..`, escaped or with parameters; converts `\` to `/` with one slash at the start; unescapes unreserved
/// characters and escapes others. `None`: the path has a NUL byte.
fn canonical(path: &str) -> Option<String> {
    let slashed = path.replace('\\', "/");
    let mut kept: Vec<String> = Vec::new();
    let mut rest = slashed.trim_start_matches('/').split('/').peekable();
    while let Some(segment) = rest.next() {
        let dots = dots(segment);
        if dots == Some("..") {
            kept.pop();
        }
        match dots {
            None => kept.push(reescaped(segment)?),
            Some(_) if rest.peek().is_none() => kept.push(String::new()),
            Some(_) => {}
        }
    }
    Some(format!("/{}", kept.join("/")))
}

/// Returns `true` for `.` and `..`. Parameters are removed only if nothing is escaped.
fn dots(segment: &str) -> Option<&'static str> {
    let plain = segment.replace("%2e", ".").replace("%2E", ".");
    let name = if plain == segment { plain.split(';').next().unwrap_or_default() } else { &plain };
    match name {
        "." => Some("."),
        ".." => Some(".."),
        _ => None,
    }
}

fn reescaped(segment: &str) -> Option<String> {
    let mut made = String::with_capacity(segment.len());
    let mut letters = segment.char_indices();
    while let Some((at, letter)) = letters.next() {
        let code = segment.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (letter, code) {
            ('%', Some(0)) => return None,
            ('%', Some(code)) if code.is_ascii_alphanumeric() || b"-._~".contains(&code) => {
                made.push(char::from(code));
                letters.nth(1);
            }
            ('|' | '"' | '<' | '>' | '^' | '`' | '{' | '}', _) => {
                made.extend(format!("%{:02X}", u32::from(letter)).chars());
            }
            (other, _) => made.push(other),
        }
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tried with Envoy 1.40: `normalize_path` alone.
    #[test]
    fn dots_go_and_doubled_slashes_stay() {
        for (path, expected) in [
            ("/a/../b", Some("/b")),
            ("/a/./b/.", Some("/a/b/")),
            ("/a/b/..", Some("/a/")),
            ("/../a", Some("/a")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a\\b", Some("/a/b")),
            ("/a//b", Some("/a//b")),
            ("/%41%2Fb%20", Some("/A%2Fb%20")),
            ("/%7e%2d%21%28", Some("/~-%21%28")),
            ("/%zz", Some("/%zz")),
            ("/a%2", Some("/a%2")),
            ("/a|b\"<>^`{}", Some("/a%7Cb%22%3C%3E%5E%60%7B%7D")),
            ("//a//", Some("/a//")),
            ("///", Some("/")),
            ("\\\\a", Some("/a")),
            ("/a/..;x/b", Some("/b")),
            ("/a/.;/b", Some("/a/b")),
            ("/a/%2e%2e;/b", Some("/a/..;/b")),
            ("/a/...", Some("/a/...")),
            ("/a/b;c=..", Some("/a/b;c=..")),
            ("/..%2fa", Some("/..%2fa")),
            ("/a%00", None),
        ] {
            assert_eq!(canonical(path).as_deref(), expected, "{path}");
        }
        assert_eq!(merge_slashes("//a///b/"), "/a/b/");
    }
}
