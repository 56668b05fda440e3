//! Validation of header names and values.

use super::findings::{At, Findings};
use crate::api::virtual_service::{HeaderOperations, Headers};

/// Prefix of JWT claims in place of headers; only gateways evaluate them.
const CLAIM: &str = "@request.auth.claims";
/// Pseudo headers that can be matched. <https://httpwg.org/specs/rfc7540.html#PseudoHeaderFields>
const PSEUDO: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];

/// Returns `true` for a JWT claim: `@request.auth.claims.group`, `@request.auth.claims[group]`.
pub(super) fn is_claim(name: &str) -> bool {
    let head = name.get(..CLAIM.len()).filter(|head| head.eq_ignore_ascii_case(CLAIM));
    let Some(rest) = head.and_then(|head| name.get(head.len()..)) else { return false };
    let in_brackets = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    rest.strip_prefix('.').or(in_brackets).is_some_and(|claim| !claim.is_empty())
}

/// Returns `true` for the host, by any of its names.
pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// Returns `true` for a token. <https://www.rfc-editor.org/rfc/rfc9110#name-tokens>
fn is_header(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

impl Findings {
    /// Checks the name of a matched header.
    pub(super) fn matched_header(&mut self, at: At<'_>, name: &str) {
        if !is_claim(name) && !PSEUDO.contains(&name) && !is_header(name) {
            self.error(at, format!("{name:?} is no name of a header"));
        }
    }

    /// Checks the name of a header in a CORS policy.
    pub(super) fn cors_header(&mut self, at: At<'_>, name: &str) {
        if !is_header(name) {
            self.error(at, format!("{name:?} is no name of a header"));
        }
    }

    /// Checks operations on request and response headers.
    pub(super) fn headers(&mut self, at: At<'_>, headers: Option<&Headers>) {
        let Some(headers) = headers else { return };
        if let Some(request) = &headers.request {
            self.operations(at.of("request"), request, Changes::RequestsAndHost);
        }
        if let Some(response) = &headers.response {
            self.operations(at.of("response"), response, Changes::NotHost);
        }
    }

    fn operations(&mut self, at: At<'_>, operations: &HeaderOperations, changes: Changes) {
        for (field, entries) in [("set", &operations.set), ("add", &operations.add)] {
            for (name, value) in entries {
                let field = at.of(field);
                self.changed_header(field.of(name), name, changes);
                self.header_value(field.of(name), value);
            }
        }
        for (index, name) in operations.remove.iter().enumerate() {
            self.changed_header(at.of("remove").nth(index), name, Changes::NotHost);
        }
    }

    fn changed_header(&mut self, at: At<'_>, name: &str, changes: Changes) {
        if name.is_empty() {
            self.error(at, "a header without a name");
        } else if is_authority(name) {
            if changes == Changes::NotHost {
                self.error(at, "the host cannot be changed here");
            }
        } else if name.starts_with(':') {
            self.error(at, format!("{name:?} is a pseudo header and cannot be changed"));
        } else if !is_header(name) {
            self.error(at, format!("{name:?} is no name of a header"));
        }
    }

    fn header_value(&mut self, at: At<'_>, value: &str) {
        if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            self.error(at, "has control characters");
        } else if let Err(why) = format_string(value) {
            self.error(at, format!("{value:?} is no format of Envoy's: {why}"));
        }
    }
}

/// Permission to change the host header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Changes {
    RequestsAndHost,
    NotHost,
}

/// Checks Envoy's command operators: `%NAME%`, `%NAME(arguments)%`; `%%` is a percent sign.
/// <https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#command-operators>
fn format_string(text: &str) -> Result<(), &'static str> {
    let mut rest = text;
    while let Some((_, operator)) = rest.split_once('%') {
        if let Some(after) = operator.strip_prefix('%') {
            rest = after;
            continue;
        }
        let name_end = operator.find(['%', '(']).ok_or("a % has no second one (%% is a percent sign)")?;
        let (_, after) = operator.split_at(name_end);
        rest = match after.strip_prefix('(') {
            None => after.get(1..).unwrap_or_default(),
            Some(arguments) => {
                let end = end_of_arguments(arguments)?;
                let after = arguments.get(end..).unwrap_or_default();
                // A maximum length may follow: `%REQ(x):10%`.
                let tail = after.find('%').ok_or("an operator's end is missing")?;
                after.get(tail + 1..).unwrap_or_default()
            }
        };
    }
    Ok(())
}

/// Returns the position after the closing `)` of arguments. A backslash escapes the next character.
fn end_of_arguments(arguments: &str) -> Result<usize, &'static str> {
    let mut escaped = false;
    for (at, c) in arguments.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ')' => return Ok(at + 1),
            _ => {}
        }
    }
    Err("a ( has no )")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_as_envoy_reads_them() {
        for good in [
            "",
            "plain",
            "100%%",
            "%HOSTNAME%",
            "a %REQ(x-y)% b",
            "%REQ(x?:authority):10%",
            "%A(b\\)c)%",
            "%UPSTREAM_METADATA([\"a\", \"b\"])%",
            "%%%PROTOCOL%%%",
        ] {
            assert_eq!(format_string(good), Ok(()), "{good:?}");
        }
        for bad in ["%", "50%", "%HOST", "%REQ(x", "%REQ(x)", "%A%%", "%%%", "%A(b\\)"] {
            assert!(format_string(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn claims_are_told_from_headers() {
        for (name, is) in [
            ("@request.auth.claims.group", true),
            ("@Request.Auth.Claims[a][b]", true),
            ("@request.auth.claims", false),
            ("@request.auth.claims.", false),
            ("@request.auth.claims[]", false),
            ("x-request.auth.claims.a", false),
            ("ümlaut.auth.claims.group.a", false),
        ] {
            assert_eq!(is_claim(name), is, "{name}");
        }
    }
}
