//! Requests of `/logging` for levels in the format of `--proxyLogLevel`.

use crate::config::level::{EnvoyLevels, InvalidLevel};

/// One path for the level of everything, then one for the components that differ.
pub(super) fn requests(levels: &str) -> Result<Vec<String>, InvalidLevel> {
    // Also what keeps anything else out of the query.
    EnvoyLevels::parse(levels, "")?;
    let parts = || levels.split(',').filter(|part| !part.is_empty());
    let all =
        parts().rfind(|part| !part.contains(':')).map(|level| format!("/logging?level={}", full(level)));
    let named: Vec<_> = parts()
        .filter_map(|part| part.split_once(':'))
        .map(|(component, level)| format!("{component}:{}", full(level)))
        .collect();
    let named = (!named.is_empty()).then(|| format!("/logging?paths={}", named.join(",")));
    Ok(all.into_iter().chain(named).collect())
}

/// The command line takes `warn`, the admin does not.
fn full(level: &str) -> &str {
    if level == "warn" { "warning" } else { level }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_first_then_what_differs() {
        let check = |levels: &str, expected: &[&str]| {
            assert_eq!(requests(levels).unwrap(), expected, "{levels}");
        };
        check("", &[]);
        check("warn", &["/logging?level=warning"]);
        check("http:debug", &["/logging?paths=http:debug"]);
        check(
            "http:debug,info,misc:warn",
            &["/logging?level=info", "/logging?paths=http:debug,misc:warning"],
        );
    }

    #[test]
    fn nothing_else_reaches_the_query() {
        for levels in ["loud", "info&paths=x:debug", "http:debug&level=off", "info ", "a/b:info", "info#"] {
            assert!(requests(levels).is_err(), "{levels}");
        }
    }
}
