//! `POST /logging?level=…&envoy=…`: log levels at run time.
//!
//! `level` is the agent's own, spelt as `--log_output_level` is; `envoy` is Envoy's, spelt as
//! `--proxyLogLevel` is. Either may be left out. Both are read before either is set, so that a mistake
//! changes nothing. Envoy's last until it ends; the next one begins with those of its command line.

use http::{Response, StatusCode};
use tracing::info;

use super::{StatusError, StatusServer, text};
use crate::{
    config::level::{EnvoyLevels, LogLevels},
    envoy_admin::AdminError,
    listen::ResponseBody,
};

/// Sets the agent's own levels, given in the spelling of `--log_output_level`.
pub(crate) type SetLevels = Box<dyn Fn(&str) -> anyhow::Result<()> + Send + Sync>;

/// Requested levels.
#[derive(Debug, Default, PartialEq, Eq)]
struct LevelChange {
    own: Option<String>,
    envoys: Option<String>,
}

impl StatusServer {
    pub(super) async fn set_levels(&self, query: &str) -> Result<Response<ResponseBody>, StatusError> {
        let LevelChange { own, envoys } = read(query).map_err(StatusError::Levels)?;
        if let Some(levels) = own {
            let set = self.wiring.levels.as_ref().ok_or(StatusError::Fixed)?;
            set(&levels).map_err(|error| StatusError::Levels(format!("{error:#}")))?;
        }
        if let Some(levels) = envoys {
            let admin = self.admin().ok_or(StatusError::Envoy(AdminError::Absent))?;
            admin.log_level(&levels).await.map_err(StatusError::Envoy)?;
        }
        info!(query, "log levels set");
        Ok(text(StatusCode::OK, "OK\n"))
    }
}

fn read(query: &str) -> Result<LevelChange, String> {
    let mut wanted = LevelChange::default();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        // Percent encoding of the two special characters in levels, as by `curl --data-urlencode`.
        let value = value.replace("%3A", ":").replace("%2C", ",");
        match name {
            "level" => {
                value.parse::<LogLevels>().map_err(|error| format!("level: {error}"))?;
                wanted.own = Some(value);
            }
            "envoy" => {
                EnvoyLevels::parse(&value, "").map_err(|error| format!("envoy: {error}"))?;
                wanted.envoys = Some(value);
            }
            _ => return Err(format!("{name} is neither level nor envoy")),
        }
    }
    if wanted == LevelChange::default() {
        return Err(
            "say level=… for the agent (default:info,driver:debug), envoy=… for Envoy (info,http:debug)"
                .into(),
        );
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_levels_are_read_in_their_own_spelling() {
        let check = |query: &str, own: Option<&str>, envoys: Option<&str>| {
            let (own, envoys) = (own.map(Into::into), envoys.map(Into::into));
            assert_eq!(read(query).unwrap(), LevelChange { own, envoys }, "{query}");
        };
        check("level=debug", Some("debug"), None);
        check("envoy=info,http:debug", None, Some("info,http:debug"));
        check(
            "level=default%3Awarn%2Cdriver%3Adebug&envoy=off",
            Some("default:warn,driver:debug"),
            Some("off"),
        );
    }

    #[test]
    fn a_mistake_is_named() {
        for (query, named) in [
            ("", "level="),
            ("level", "level="),
            ("level=loud", "\"loud\""),
            ("level=debug&envoy=loud", "envoy"),
            ("paths=http:debug", "paths"),
        ] {
            let error = read(query).unwrap_err();
            assert!(error.contains(named), "{query}: {error}");
        }
    }
}
