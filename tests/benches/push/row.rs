//! One measurement as a line of JSON, and all measurements as a table.

use std::time::Duration;

use pilot_tests::statistics::millis;
use serde_json::{Value, json};

use crate::plan::{FleetShape, PushCase};

/// Measurement of one case.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    shape: String,
    case: PushCase,
    server: &'static str,
    measurement: Measurement,
}

/// Figures of one measurement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measurement {
    /// Time until half of the clients, 99 in 100 and the last one reached the goal.
    pub(crate) until: [Option<Duration>; 3],
    /// The same times, measured from the write of the file.
    pub(crate) written: [Option<Duration>; 3],
    /// CPU time of the server.
    pub(crate) cpu: Duration,
    /// Peak of the server's resident memory in bytes.
    pub(crate) peak: u64,
    /// Size of all messages received by the clients, in bytes.
    pub(crate) bytes: u64,
    /// Number of clients that did not reach the goal in time.
    pub(crate) missing: u32,
    /// Additional figures.
    pub(crate) more: Vec<(&'static str, Value)>,
}

// === impl Row ===

impl Row {
    /// Creates a row and prints it as JSON.
    pub(crate) fn print(
        shape: &FleetShape,
        case: PushCase,
        server: &'static str,
        measurement: Measurement,
    ) -> Self {
        let row = Self { shape: shape.to_string(), case, server, measurement };
        println!("{}", row.json(shape));
        row
    }

    fn json(&self, shape: &FleetShape) -> Value {
        let [p50, p99, last] = self.measurement.until.map(|until| until.map(millis));
        let [written_p50, written_p99, written_last] =
            self.measurement.written.map(|until| until.map(millis));
        let mut line = json!({
            "case": self.case.name(),
            "who": self.server,
            "streams": shape.streams,
            "scopes": shape.scopes,
            "codec": shape.codec,
            "tls": shape.security == crate::plan::Security::Tls,
            "p50_ms": p50,
            "p99_ms": p99,
            "last_ms": last,
            "written_p50_ms": written_p50,
            "written_p99_ms": written_p99,
            "written_last_ms": written_last,
            "cpu_s": thousandths(self.measurement.cpu.as_secs_f64()),
            "peak_mb": megabytes(self.measurement.peak),
            "sent_mb": megabytes(self.measurement.bytes),
            "missing": self.measurement.missing,
        });
        if let Some(line) = line.as_object_mut() {
            line.extend(
                self.measurement.more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())),
            );
        }
        line
    }
}

/// Formats the table: each case of the server, with the ratio to its floor.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = Vec::new();
    let mut shape = "";
    for row in rows {
        if shape != row.shape {
            shape = &row.shape;
            let head = ["p50 ms", "p99 ms", "last ms", "CPU s", "peak MB", "sent MB", "missing"];
            let head = head.map(|name| format!("{name:>10}")).concat();
            lines.push(format!("\n{shape}\n{:<28}{head}", ""));
        }
        let measurement = &row.measurement;
        let mut line = format!("{:<12}{:<16}", row.case.name(), row.server);
        for until in measurement.until {
            line += &until.map_or_else(|| format!("{:>10}", "-"), |until| format!("{:>10.1}", millis(until)));
        }
        let (cpu, peak, sent) =
            (measurement.cpu.as_secs_f64(), megabytes(measurement.peak), megabytes(measurement.bytes));
        lines.push(format!("{line}{cpu:>10.3}{peak:>10.1}{sent:>10.1}{:>10}", measurement.missing));
        let floor = rows.iter().find(|other| {
            (other.case, &other.shape, other.server) == (row.case, &row.shape, "floor")
                && row.server != "floor"
        });
        if let Some(floor) = floor {
            let ratio = |a: Option<Duration>, b: Option<Duration>| {
                Some(a?.as_secs_f64() / b.filter(|b| !b.is_zero())?.as_secs_f64())
            };
            let text = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let [.., mine] = measurement.until;
            let [.., its] = floor.measurement.until;
            let (last, cpu) = (ratio(mine, its), ratio(Some(measurement.cpu), Some(floor.measurement.cpu)));
            lines.push(format!("{:<28}last {} x, CPU {} x", "  of the floor", text(last), text(cpu)));
        }
    }
    lines.join("\n") + "\n"
}

/// Converts to megabytes, rounded to one decimal.
#[expect(clippy::cast_precision_loss, reason = "2^52 bytes are out of reach")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 100_000.0).round() / 10.0
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
