//! End of the agent: reads the rest of Envoy's output, removes files, reports the reason.

use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::{Driver, STDERR_TIMEOUT};
use crate::{
    cgroup::Oom,
    report::{self, Report},
};

impl Driver {
    /// Ends the agent with this exit code, or with that of the application process.
    pub(super) async fn finish(&mut self, code: u8) -> anyhow::Result<u8> {
        let drained = async { while self.outputs.pumps.join_next().await.is_some() {} };
        if timeout(STDERR_TIMEOUT, drained).await.is_err() {
            debug!("Envoy's stdout or stderr is still open in another process");
        }
        while let Some(oom) = self.inputs.oom_checks.join_next().await {
            self.records.instances.record_oom(oom.unwrap_or(Oom::Unknown));
        }
        self.publish();
        if let Err(error) = self.outputs.bootstrap_folder.clear(&self.outputs.run_folder) {
            warn!(%error, "cannot remove Envoy's files");
        }
        if let Some(fault) = self.records.fault.take() {
            return Err(fault);
        }
        if let Some(code) = self.inputs.app.code(&self.outputs.children) {
            info!(code, "leaving with the command's exit code");
            return Ok(code);
        }
        self.last_report(code);
        Ok(code)
    }

    /// Reports the reason in the log and in the termination log.
    fn last_report(&self, code: u8) {
        let Some(last) = self.records.instances.last().filter(|_| code != 0) else {
            info!(code, "leaving");
            return;
        };
        let words = &last.instance.stderr_tail;
        let oom = self.records.instances.exits().first().and_then(|exit| exit.oom);
        let oom = oom.map_or(Oom::Unknown, |oom| if oom { Oom::Yes } else { Oom::No });
        let lived = last.instance.age().saturating_sub(last.at.elapsed());
        let ended =
            report::EndedEnvoy { epoch: last.instance.generation.epoch, status: last.status, oom, lived };
        let reason = match words.reason() {
            // From 128 on it is a signal, and the last line is unrelated.
            Some(last) if code < 128 => format!("Envoy gave up; its last words: {last}"),
            _ => format!("Envoy ended: {}", last.status),
        };
        error!(code, lived_ms = lived.as_millis(), why = last.reason.as_str(), "{reason}");
        let report = Report { reason: &reason, envoy: Some(ended), last_lines: &words.lines() };
        if let Err(error) = report::write(&self.records.termination_log, &report) {
            warn!(%error, path = %self.records.termination_log.display(), "cannot write the termination log");
        }
    }
}
