//! Bulk transfers: one stream each, a header frame and then the raw payload.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, VarInt, WriteError};

use crate::bulk::BulkBuffer;
use crate::dispatch::{Dispatcher, Violation};
use crate::frame::{self, BULK_HEADER_BYTES_MAX, tag};

/// What is left to send of one transfer. Dropped before its end, it goes on in a task of its own: the receiver has
/// already been promised the payload, and counts it against the credit.
pub(crate) struct Transfer {
    stream: Option<SendStream>,
    chunks: Vec<Bytes>,
    /// Chunks before this one are through.
    next: usize,
}

impl Transfer {
    pub(crate) fn new(stream: SendStream, chunks: Vec<Bytes>) -> Self {
        Self { stream: Some(stream), chunks, next: 0 }
    }

    pub(crate) async fn send(mut self) -> Result<(), WriteError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.next < self.chunks.len() {
            match stream.write_chunks(&mut self.chunks[self.next..]).await {
                Ok(written) => self.next += written.chunks,
                Err(error) => {
                    self.stream = None;
                    return Err(error);
                }
            }
        }
        // Fails only where the receiver has stopped the stream, which it does for an actor that has ended.
        let _ = stream.finish();
        self.stream = None;
        Ok(())
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        let rest = Self { stream: Some(stream), chunks: std::mem::take(&mut self.chunks), next: self.next };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = rest.send().await;
            });
        }
    }
}

/// Why a transfer did not become a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The peer breaks the protocol; the connection is to be closed.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// Only this transfer is lost.
    #[error("a bulk transfer ended early")]
    Ended,
}

impl From<ReadError> for ReceiveError {
    fn from(_: ReadError) -> Self {
        Self::Ended
    }
}

impl From<ReadExactError> for ReceiveError {
    fn from(_: ReadExactError) -> Self {
        Self::Ended
    }
}

/// Receives one transfer and hands it to its actor.
pub(crate) async fn receive(mut stream: RecvStream, dispatcher: Arc<Dispatcher>) -> Result<(), ReceiveError> {
    let mut start = [0; 6];
    stream.read_exact(&mut start).await?;
    let length = u32::from_le_bytes([start[0], start[1], start[2], start[3]]) as usize;
    let tag = u16::from_le_bytes([start[4], start[5]]);
    if !(2..=BULK_HEADER_BYTES_MAX).contains(&length) {
        return Err(Violation::Malformed(format!("a bulk header of {length} bytes")).into());
    }
    if tag != tag::BULK {
        dispatcher.unsupported(tag);
        let _ = stream.stop(VarInt::from_u32(0));
        return Ok(());
    }
    let mut head = vec![0; length - 2];
    stream.read_exact(&mut head).await?;
    let (channel, header) = frame::split_u32(&head).ok_or_else(Violation::short)?;
    let (bytes, header) = frame::split_u64(header).ok_or_else(Violation::short)?;
    let Some((credit, room, channel)) = dispatcher.admit_bulk(channel, bytes)? else {
        let _ = stream.stop(VarInt::from_u32(0));
        return Ok(());
    };
    let bytes = usize::try_from(bytes).map_err(|_| Violation::short())?;
    let mut payload = BulkBuffer::take(dispatcher.pool(), bytes, room);
    fill(&mut stream, head.len() as u64 + 6, payload.as_bytes_mut()).await?;
    dispatcher.deliver_bulk(&channel, header, payload, credit)?;
    Ok(())
}

/// Reads the payload in whatever order it arrives; `start` is its place in the stream. QUIC delivers every byte once, so
/// it is complete when the count is right at the end of the stream.
async fn fill(stream: &mut RecvStream, start: u64, payload: &mut [u8]) -> Result<(), ReceiveError> {
    let mut received = 0;
    while let Some(chunk) = stream.read_chunk(usize::MAX, false).await? {
        let range = chunk.offset.checked_sub(start).and_then(|at| usize::try_from(at).ok()).and_then(|at| {
            let end = at.checked_add(chunk.bytes.len())?;
            payload.get_mut(at..end)
        });
        let Some(place) = range else {
            return Err(Violation::Malformed("a payload longer than its header says".to_owned()).into());
        };
        place.copy_from_slice(&chunk.bytes);
        received += chunk.bytes.len();
    }
    if received == payload.len() { Ok(()) } else { Err(ReceiveError::Ended) }
}
