//! Logs: agents send whole lines, a job's log keeps them with the worker in front, up to a size.

use std::path::PathBuf;

use neap_runtime::wire::agent::LogLines;
use neap_scheduler::model::NodeId;
use tokio::fs;
use tokio::io::AsyncWriteExt;

use super::Controller;

/// The most a job's log grows to; a line says so where it ends.
const LOG_BYTES_MAX: u64 = 64 << 20;

impl Controller {
    pub(super) async fn log(&self, node: NodeId, lines: LogLines) {
        let LogLines { job, worker, text, dropped_bytes } = lines;
        let hosts = self.state.jobs.get(&job).and_then(|job| job.workers.get(&worker)).map(|worker| worker.node);
        if hosts.is_some_and(|host| host != node) || !self.state.jobs.contains_key(&job) {
            return;
        }
        let mut out = String::new();
        if dropped_bytes > 0 {
            out.push_str(&format!("({worker}) dropped {dropped_bytes} bytes\n"));
        }
        for line in text.lines() {
            out.push_str(&format!("({worker}) {line}\n"));
        }
        if let Err(error) = append(self.parts.home.log(job), &out).await {
            tracing::warn!(%error, %job, "log lines lost");
        }
    }
}

async fn append(path: PathBuf, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).await?;
    }
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).await?;
    let size = file.metadata().await?.len();
    if size > LOG_BYTES_MAX {
        return Ok(());
    }
    file.write_all(text.as_bytes()).await?;
    if size + text.len() as u64 > LOG_BYTES_MAX {
        file.write_all(format!("log cut here: a job's log holds {LOG_BYTES_MAX} bytes\n").as_bytes()).await?;
    }
    file.flush().await
}
