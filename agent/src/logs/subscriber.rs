//! The agent's own log: which lines, in which form, to which stream; and how that changes at run time.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt as lines, reload};

use super::record::Record;
use super::{Sink, Stream};
use crate::cli::LogTarget;
use crate::config::Log;
use crate::config::level::{InvalidLevel, Level, LogFormat, LogLevels};

/// Module tree of the agent's own log.
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// Changes the levels of the agent's log while it runs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LevelControl {
    filter: reload::Handle<Targets, Registry>,
}

/// Reason to reject a change of levels.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LevelError {
    /// The text is not valid.
    #[error(transparent)]
    InvalidLevel(#[from] InvalidLevel),
    /// The log has ended.
    #[error("change the levels of a log that has ended")]
    Gone(#[source] reload::Error),
}

/// Writer of the agent's own log.
#[derive(Clone, Debug)]
struct LogWriter {
    sink: Sink,
    to: Stream,
}

/// One line of it on its way, as `tracing` writes it.
#[derive(Debug)]
struct LineWriter<'a> {
    log: &'a LogWriter,
    bytes: Vec<u8>,
}

/// Lines as [`Record`] has them.
struct LineFormat(LogFormat);

#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, Cow<'static, str>)>,
}

/// From now on the agent's log goes where the user wants it. Once per process.
pub(crate) fn subscribe(log: &Log, sink: &Sink) -> anyhow::Result<LevelControl> {
    let to = match log.target {
        LogTarget::Stdout => Stream::Stdout,
        LogTarget::Stderr => Stream::Stderr,
    };
    let (subscriber, control) = subscriber(&log.levels, LogWriter { sink: sink.clone(), to });
    subscriber.try_init()?;
    Ok(control)
}

fn subscriber(levels: &LogLevels, log: LogWriter) -> (impl Subscriber + Send + Sync + use<>, LevelControl) {
    let (filter, handle) = reload::Layer::new(targets(levels));
    let form = LineFormat(log.sink.format());
    let lines = lines::layer().event_format(form).with_writer(log);
    let control = LevelControl { filter: handle };
    (tracing_subscriber::registry().with(filter).with(lines), control)
}

/// A scope is one of our modules. Libraries below us speak only when something is wrong.
fn targets(levels: &LogLevels) -> Targets {
    let default = filter(levels.default);
    let ours = Targets::new().with_default(default.min(LevelFilter::WARN)).with_target(CRATE, default);
    let ours = ours.with_target("pilot_watch", default);
    levels.scopes.iter().fold(ours, |targets, (scope, level)| {
        let targets = targets.with_target(format!("{CRATE}::{scope}"), filter(*level));
        targets.with_target(format!("pilot_{scope}"), filter(*level))
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

/// `pilot_agent::driver::observer` speaks as `driver`.
fn scope(target: &str) -> &str {
    match target.strip_prefix(CRATE) {
        Some("") => "default",
        Some(path) => path.trim_start_matches("::").split("::").next().unwrap_or(path),
        // `pilot_watch::scanner` has the scope `watch`.
        None => target.strip_prefix("pilot_").map_or(target, |path| path.split("::").next().unwrap_or(path)),
    }
}

// === impl LevelControl ===

impl LevelControl {
    /// Sets all levels, in the spelling of `--log_output_level`: `debug`, or `default:info,driver:debug`. What
    /// is not named is as if it never had been.
    pub(crate) fn set(&self, levels: &str) -> Result<(), LevelError> {
        self.filter.reload(targets(&levels.parse()?)).map_err(LevelError::Gone)
    }
}

// === impl LogWriter ===

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { log: self, bytes: Vec::with_capacity(256) }
    }
}

// === impl LineWriter ===

impl Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.log.sink.write(self.log.to, std::mem::take(&mut self.bytes));
        }
    }
}

// === impl LineFormat ===

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let record = Record {
            time: SystemTime::now(),
            level: *metadata.level(),
            scope: scope(metadata.target()).into(),
            message: fields.message.into(),
            fields: fields.rest,
        };
        to.write_str(&record.render(self.0))
    }
}

// === impl Fields ===

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, format!("{value:?}"));
    }
}

impl Fields {
    fn note(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.rest.push((name, value.into())),
        }
    }
}

#[cfg(test)]
mod tests;
