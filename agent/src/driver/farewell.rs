//! The agent's last moments: everything is read, nothing is left behind, and the reason is told.

use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::{Driver, LAST_WORDS};
use crate::{
    cgroup::Oom,
    report::{self, Report},
};

impl Driver {
    /// Leaves nothing unread and nothing behind.
    pub(super) async fn finish(&mut self, code: u8) -> anyhow::Result<u8> {
        let drained = async { while self.pumps.join_next().await.is_some() {} };
        if timeout(LAST_WORDS, drained).await.is_err() {
            debug!("somebody still holds Envoy's stdout or stderr");
        }
        while let Some(oom) = self.autopsies.join_next().await {
            self.ledger.judged(oom.unwrap_or(Oom::Unknown));
        }
        self.publish();
        if let Err(error) = self.bootstraps.clear(&self.run_folder) {
            warn!(%error, "cannot remove what was Envoy's");
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if let Some(code) = self.company.code(&self.children) {
            info!(code, "leaving with the command's exit code");
            return Ok(code);
        }
        self.last_report(code);
        Ok(code)
    }

    /// Why, for the log and for whoever looks at the container afterwards.
    fn last_report(&self, code: u8) {
        let Some(last) = self.ledger.last().filter(|_| code != 0) else {
            info!(code, "leaving");
            return;
        };
        let words = &last.entry.last_words;
        let oom = self.ledger.exits().first().and_then(|exit| exit.oom);
        let oom = oom.map_or(Oom::Unknown, |oom| if oom { Oom::Oom } else { Oom::NotOom });
        let lived = last.entry.age().saturating_sub(last.at.elapsed());
        let ended = report::Ended { epoch: last.entry.generation.epoch, status: last.status, oom, lived };
        let reason = match words.reason() {
            // From 128 on it is a signal, and Envoy had no say.
            Some(last) if code < 128 => format!("Envoy gave up; its last words: {last}"),
            _ => format!("Envoy ended: {}", last.status),
        };
        error!(code, lived_ms = lived.as_millis(), why = last.reason.as_str(), "{reason}");
        let report = Report { reason: &reason, envoy: Some(ended), last_lines: &words.lines() };
        if let Err(error) = report::write(&self.termination_log, &report) {
            warn!(%error, path = %self.termination_log.display(), "cannot write the termination log");
        }
    }
}
