//! The agent's own log: which lines, in which form, to which stream.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use super::{OwnLog, Sink, Stream};
use crate::cli::LogTarget;
use crate::config::Log;
use crate::config::level::{Level, LogFormat, LogLevels};

/// From now on the agent's log goes where the user wants it. Once per process.
pub fn subscribe(log: &Log, sink: &Sink) -> anyhow::Result<()> {
    let to = match log.target {
        LogTarget::Stdout => Stream::Stdout,
        LogTarget::Stderr => Stream::Stderr,
    };
    let lines = fmt::layer().with_ansi(false).with_writer(OwnLog::new(sink.clone(), to));
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines.with_filter(targets(&log.levels))).try_init()?)
}

/// A scope is one of our modules. Libraries below us speak only when something is wrong.
fn targets(levels: &LogLevels) -> Targets {
    let default = filter(levels.default);
    let ours = Targets::new()
        .with_default(default.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), default);
    levels.scopes.iter().fold(ours, |targets, (scope, level)| {
        targets.with_target(format!("{}::{scope}", env!("CARGO_CRATE_NAME")), filter(*level))
    })
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::None => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_module_of_ours() {
        let targets = targets(&"info,driver:debug,status:none".parse().unwrap());
        let enabled = |target, level| targets.would_enable(target, &level);
        assert!(enabled("pilot_agent::driver::observer", tracing::Level::DEBUG));
        assert!(enabled("pilot_agent::config", tracing::Level::INFO));
        assert!(!enabled("pilot_agent::config", tracing::Level::DEBUG));
        assert!(!enabled("pilot_agent::status", tracing::Level::ERROR));
        assert!(!enabled("hyper", tracing::Level::INFO));
    }
}
