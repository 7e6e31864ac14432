//! What a worker prints, shipped in whole lines. When the control plane is slow or away the queue fills up; then lines
//! are dropped and counted, and the next line that gets through says how many bytes are missing.

use std::time::Duration;

use neap_runtime::wire::agent::LogLines;
use neap_scheduler::model::{JobId, WorkerId};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::link::Outgoing;

/// Lines are sent together for so long.
const BATCH_TIME: Duration = Duration::from_millis(100);

/// Or until they are this long.
const BATCH_BYTES: usize = 32 << 10;

/// A longer line is cut into pieces of this size.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Lines that may wait to be batched.
const LINES_MAX: usize = 256;

/// Ships both outputs of a worker until they are closed.
pub(crate) fn ship(
    job: JobId,
    worker: WorkerId,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    outgoing: Outgoing,
) -> JoinHandle<()> {
    let (lines, batched) = mpsc::channel(LINES_MAX);
    if let Some(stdout) = stdout {
        tokio::spawn(read_lines(stdout, lines.clone()));
    }
    if let Some(stderr) = stderr {
        tokio::spawn(read_lines(stderr, lines));
    }
    tokio::spawn(batch(job, worker, batched, outgoing))
}

async fn read_lines(output: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut reader = BufReader::with_capacity(LINE_BYTES_MAX, output);
    let mut line = Vec::new();
    loop {
        let available = match reader.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(available) => available,
        };
        let (taken, whole) = match available.iter().position(|&byte| byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (available.len(), line.len() + available.len() >= LINE_BYTES_MAX),
        };
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken);
        if whole && lines.send(text_of(&mut line)).await.is_err() {
            return;
        }
    }
    if !line.is_empty() {
        let _ = lines.send(text_of(&mut line)).await;
    }
}

fn text_of(line: &mut Vec<u8>) -> String {
    let text = String::from_utf8_lossy(line).trim_end_matches(['\r', '\n']).to_owned();
    line.clear();
    text
}

async fn batch(job: JobId, worker: WorkerId, mut lines: mpsc::Receiver<String>, outgoing: Outgoing) {
    let mut dropped_bytes = 0;
    while let Some(first) = lines.recv().await {
        let mut text = first + "\n";
        let until = tokio::time::Instant::now() + BATCH_TIME;
        while text.len() < BATCH_BYTES {
            match tokio::time::timeout_at(until, lines.recv()).await {
                Ok(Some(line)) => text = text + &line + "\n",
                Ok(None) | Err(_) => break,
            }
        }
        match outgoing.try_log(LogLines { job, worker, text, dropped_bytes }) {
            Ok(()) => dropped_bytes = 0,
            Err(lines) => dropped_bytes += lines.text.len() as u64,
        }
    }
}
