//! Log lines in Istio's format: `<time>\t<level>\t<scope>\t<message>\t<key=value ...>`, or JSON with
//! `time`, `level`, `scope`, `msg`. The scope is the module (`ads`, `pusher`, `source`, ...).

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Levels and format.
#[derive(Clone, Debug)]
pub(crate) struct Logging {
    /// Level of other scopes.
    default: LevelFilter,
    /// Level by scope.
    scopes: Vec<(String, LevelFilter)>,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl Default for Logging {
    fn default() -> Self {
        Self { default: LevelFilter::INFO, scopes: Vec::new(), format: Format::Text }
    }
}

// === impl Logging ===

impl Logging {
    /// Parses Istio's `--log_output_level`: `info`, `default:info`, `ads:debug,default:warn`.
    pub(crate) fn parse(levels: &str, json: bool) -> Result<Self, String> {
        let format = if json { Format::Json } else { Format::Text };
        let mut logging = Self { format, ..Self::default() };
        for part in levels.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (scope, level) = part.split_once(':').unwrap_or(("default", part));
            let level = match level {
                "none" => LevelFilter::OFF,
                "fatal" | "error" => LevelFilter::ERROR,
                "warn" => LevelFilter::WARN,
                "info" => LevelFilter::INFO,
                "debug" => LevelFilter::DEBUG,
                "trace" => LevelFilter::TRACE,
                other => {
                    return Err(format!("{other:?} is not a level: none, error, warn, info, debug, trace"));
                }
            };
            match scope {
                "default" | "all" => logging.default = level,
                scope => logging.scopes.push((scope.to_owned(), level)),
            }
        }
        Ok(logging)
    }

    fn targets(&self) -> Targets {
        // Libraries log from `warn` on.
        let quiet = self.default.min(LevelFilter::WARN);
        let targets = Targets::new().with_default(quiet).with_target("pilot_discovery", self.default);
        let targets = targets.with_target("pilot_watch", self.default);
        self.scopes.iter().fold(targets, |targets, (scope, level)| {
            targets
                .with_target(format!("pilot_discovery::{scope}"), *level)
                .with_target(format!("pilot_{scope}"), *level)
                .with_target(scope.clone(), *level)
        })
    }
}

/// Starts logging for the process. A second start is ignored.
pub(crate) fn start(logging: &Logging) {
    let layer = tracing_subscriber::fmt::layer().event_format(logging.format).with_writer(std::io::stderr);
    let started = tracing_subscriber::registry().with(logging.targets()).with(layer).try_init();
    drop(started);
}

// === impl Format ===

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, scope) = (level(*metadata.level()), scope(metadata.target()));
        match self {
            Self::Text => {
                write!(writer, "{time}\t{level}\t{scope}\t{}", fields.message)?;
                for (index, (key, value)) in fields.rest.iter().enumerate() {
                    write!(writer, "{}{key}={value}", if index == 0 { '\t' } else { ' ' })?;
                }
            }
            Self::Json => {
                let mut line = serde_json::Map::new();
                for (key, value) in
                    [("level", level), ("time", &time), ("scope", scope), ("msg", &fields.message)]
                {
                    line.insert(key.to_owned(), value.into());
                }
                line.extend(fields.rest.into_iter().map(|(key, value)| (key.to_owned(), value.into())));
                write!(writer, "{}", serde_json::Value::Object(line))?;
            }
        }
        writeln!(writer)
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Returns the scope of a module: `ads` for `pilot_discovery::ads::connection`.
fn scope(target: &str) -> &str {
    match target.strip_prefix("pilot_discovery") {
        Some("") => "default",
        Some(path) => path.trim_start_matches("::").split("::").next().unwrap_or(path),
        // `pilot_watch::scanner` has the scope `watch`.
        None => target.strip_prefix("pilot_").map_or(target, |path| path.split("::").next().unwrap_or(path)),
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record(field, format!("{value:?}"));
    }
}

impl Fields {
    fn record(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.rest.push((name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_parsed_by_scope() {
        let logging = Logging::parse("default:warn,ads:debug", false).unwrap();
        assert_eq!(
            (logging.default, logging.scopes.as_slice()),
            (LevelFilter::WARN, &[("ads".to_owned(), LevelFilter::DEBUG)][..])
        );
        assert_eq!(Logging::parse("debug", false).unwrap().default, LevelFilter::DEBUG);
        assert!(Logging::parse("ads:loud", false).is_err());
    }

    #[test]
    fn scope_is_the_module() {
        for (target, expected) in [
            ("pilot_discovery", "default"),
            ("pilot_discovery::ads::connection", "ads"),
            ("pilot_watch::scanner", "watch"),
            ("h2::client", "h2::client"),
        ] {
            assert_eq!(scope(target), expected);
        }
    }
}
