//! Frames of the control stream: `u32` length, `u16` tag, body; both numbers little-endian, the length counts tag and body.
//!
//! Messages between actors come with fixed fields in front, because there are hundreds of thousands a second; everything
//! else is one struct through the codec. A tag is never used again for something else. What a frame *means* is decided in
//! `dispatch`, not here.

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::remote::RemoteError;
use crate::watch::ExitReason;

/// How large a frame of the control stream may be, tag included. A longer one closes the connection: what follows it
/// could not be found.
pub(crate) const FRAME_BYTES_MAX: usize = codec::MESSAGE_BYTES_MAX;

/// How large the header of a bulk transfer may be.
pub(crate) const BULK_HEADER_BYTES_MAX: usize = 64 * 1024;

/// Texts of others (panics, reasons) are cut here before they travel.
const TEXT_BYTES_MAX: usize = 1024;

/// What a frame is.
pub(crate) mod tag {
    /// [`super::Hello`], the first frame in both directions and never again.
    pub(crate) const HELLO: u16 = 1;
    /// [`super::Open`].
    pub(crate) const OPEN: u16 = 2;
    /// [`super::Opened`].
    pub(crate) const OPENED: u16 = 3;
    /// [`super::Closed`].
    pub(crate) const CLOSED: u16 = 4;
    /// [`super::Forget`].
    pub(crate) const FORGET: u16 = 5;
    /// channel `u32`, message.
    pub(crate) const CAST: u16 = 6;
    /// channel `u32`, call `u64`, request.
    pub(crate) const CALL: u16 = 7;
    /// call `u64`, answer.
    pub(crate) const REPLY: u16 = 8;
    /// [`super::Failed`].
    pub(crate) const FAILED: u16 = 9;
    /// channel `u32`, messages `u32`, bulk bytes `u64`.
    pub(crate) const CREDIT: u16 = 10;
    /// [`super::Spawn`]; answered by `REPLY` with the actor's name, or `FAILED`.
    pub(crate) const SPAWN: u16 = 11;
    /// [`super::Watch`]; answered by an empty `REPLY`, or `FAILED`.
    pub(crate) const WATCH: u16 = 12;
    /// [`super::Exited`].
    pub(crate) const EXITED: u16 = 13;
    /// [`super::Unwatch`].
    pub(crate) const UNWATCH: u16 = 14;
    /// [`super::Unsupported`].
    pub(crate) const UNSUPPORTED: u16 = 15;
    /// channel `u32`, payload length `u64`, header; only on a stream of its own, where the payload follows.
    pub(crate) const BULK: u16 = 16;
    /// [`super::ForgetAfter`].
    pub(crate) const FORGET_AFTER: u16 = 17;
}

/// Which versions of the protocol a side speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) proto_min: u16,
    pub(crate) proto_max: u16,
    pub(crate) build: String,
}

/// The sender will use this channel number for messages to this actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) channel: u32,
    pub(crate) protocol: String,
    pub(crate) actor: String,
}

/// The actor takes messages: this many at a time, and this many bulk bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) channel: u32,
    pub(crate) messages: u32,
    pub(crate) bulk_bytes: u64,
}

/// The channel leads nowhere, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) channel: u32,
    pub(crate) refusal: Refusal,
}

/// The sender will not use this channel number again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forget {
    pub(crate) channel: u32,
}

/// As [`Forget`], once all bulk transfers of the channel are here: they travel on streams of their own, and this overtakes
/// them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForgetAfter {
    pub(crate) channel: u32,
    /// How many transfers were ever begun on it.
    pub(crate) transfers: u64,
}

/// A call, spawn or watch has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) call: u64,
    pub(crate) refusal: Refusal,
}

/// Start an actor by the name of a factory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spawn {
    pub(crate) call: u64,
    pub(crate) factory: String,
    pub(crate) protocol: String,
    pub(crate) args: Vec<u8>,
}

/// Tell me when this actor ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watch {
    pub(crate) call: u64,
    pub(crate) actor: String,
}

/// A watched actor has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exited {
    pub(crate) watch: u64,
    pub(crate) exit: Exit,
}

/// No longer tell me.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unwatch {
    pub(crate) watch: u64,
}

/// A frame with a tag that this build does not know was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unsupported {
    pub(crate) tag: u16,
}

/// Why the other side does not do what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    NoSuchActor,
    WrongProtocol { theirs: String },
    Forbidden,
    NoSuchFactory,
    SpawnRefused(String),
    NoReply,
    Overloaded(String),
    ReplyTooLarge { length: u64, limit: u64 },
    ReplyNotEncoded(String),
}

impl Refusal {
    /// What the sender is told; `target` is what it asked for.
    pub(crate) fn into_error(self, target: &str, protocol: &str) -> RemoteError {
        let actor = target.to_owned();
        match self {
            Self::NoSuchActor => RemoteError::NoSuchActor { actor },
            Self::WrongProtocol { theirs } => RemoteError::WrongProtocol { actor, ours: protocol.to_owned(), theirs },
            Self::Forbidden => RemoteError::Forbidden { actor },
            Self::NoSuchFactory => RemoteError::NoSuchFactory { factory: actor },
            Self::SpawnRefused(reason) => RemoteError::SpawnRefused { factory: actor, reason },
            Self::NoReply => RemoteError::NoReply,
            Self::Overloaded(what) => RemoteError::Overloaded { what },
            Self::ReplyTooLarge { length, limit } => RemoteError::TooLarge { length, limit },
            Self::ReplyNotEncoded(reason) => RemoteError::Codec(reason),
        }
    }
}

/// How an actor ended, as its own node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    Stopped(Option<String>),
    Failed(String),
}

impl From<Exit> for ExitReason {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Stopped(reason) => Self::Stopped(reason),
            Exit::Failed(reason) => Self::Failed(reason),
        }
    }
}

/// A text that is short enough to travel.
pub(crate) fn short(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Appends a frame whose body `fill` writes; leaves the buffer as it was where that fails or the frame gets too large.
pub(crate) fn put(
    buffer: &mut BytesMut,
    tag: u16,
    fill: impl FnOnce(&mut BytesMut) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let start = buffer.len();
    buffer.put_u32_le(0);
    buffer.put_u16_le(tag);
    let filled = fill(buffer);
    let length = buffer.len() - start - 4;
    let checked = match filled {
        Ok(()) if length > FRAME_BYTES_MAX => Err(CodecError::TooLarge { length, limit: FRAME_BYTES_MAX }),
        other => other,
    };
    match checked {
        Ok(()) => buffer[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes()),
        Err(_) => buffer.truncate(start),
    }
    checked
}

/// Appends a frame whose body is one struct.
pub(crate) fn put_struct<T: Serialize>(buffer: &mut BytesMut, tag: u16, body: &T) -> Result<(), CodecError> {
    put(buffer, tag, |buffer| codec::encode_into(body, buffer))
}

/// Splits a number off the front of a body.
pub(crate) fn split_u32(body: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = body.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// Splits a number off the front of a body.
pub(crate) fn split_u64(body: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = body.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

/// Why a byte stream cannot be cut into frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {length} bytes; at most {FRAME_BYTES_MAX} are allowed")]
    TooLong { length: usize },
    #[error("a frame of {length} bytes, too short for its tag")]
    TooShort { length: usize },
}

/// Cuts a byte stream, which comes in chunks of any size, into frames. Memory grows with what has arrived, never with
/// what a length promises.
#[derive(Debug, Default)]
pub(crate) struct FrameCutter {
    /// The beginning of a frame whose end has not arrived.
    carry: Vec<u8>,
}

impl FrameCutter {
    /// Calls `handle` with tag and body of every frame that `chunk` completes.
    pub(crate) fn feed<E: From<FrameError>>(
        &mut self,
        mut chunk: &[u8],
        mut handle: impl FnMut(u16, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.carry.is_empty() && !chunk.is_empty() {
            chunk = self.complete(chunk, &mut handle)?;
        }
        while let Some((length, rest)) = frame_length(chunk)? {
            let Some((frame, rest)) = rest.split_at_checked(length) else { break };
            handle_frame(frame, &mut handle)?;
            chunk = rest;
        }
        self.carry.extend_from_slice(chunk);
        Ok(())
    }

    /// Moves to `carry` what its frame still lacks, and handles the frame when it is whole.
    fn complete<'a, E: From<FrameError>>(
        &mut self,
        chunk: &'a [u8],
        handle: &mut impl FnMut(u16, &[u8]) -> Result<(), E>,
    ) -> Result<&'a [u8], E> {
        let whole = match frame_length(&self.carry)? {
            Some((length, _)) => 4 + length,
            None => 4,
        };
        let (missing, rest) = chunk.split_at((whole - self.carry.len()).min(chunk.len()));
        self.carry.extend_from_slice(missing);
        if let Some((length, _)) = frame_length(&self.carry)?
            && self.carry.len() == 4 + length
        {
            handle_frame(&self.carry[4..], handle)?;
            self.carry.clear();
        }
        Ok(rest)
    }
}

/// The length at the front, checked, and what follows it; `None` where not even the length has arrived.
fn frame_length(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, FrameError> {
    let Some((length, rest)) = split_u32(bytes) else { return Ok(None) };
    match length as usize {
        length if length > FRAME_BYTES_MAX => Err(FrameError::TooLong { length }),
        length if length < 2 => Err(FrameError::TooShort { length }),
        length => Ok(Some((length, rest))),
    }
}

fn handle_frame<E>(frame: &[u8], handle: &mut impl FnMut(u16, &[u8]) -> Result<(), E>) -> Result<(), E> {
    let tag = u16::from_le_bytes([frame[0], frame[1]]);
    handle(tag, &frame[2..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(stream: &[u8], sizes: &[usize]) -> Result<Vec<(u16, Vec<u8>)>, FrameError> {
        let mut cutter = FrameCutter::default();
        let mut frames = Vec::new();
        let mut rest = stream;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (chunk, left) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            cutter.feed(chunk, |tag, body| {
                frames.push((tag, body.to_vec()));
                Ok::<_, FrameError>(())
            })?;
            rest = left;
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_survive_any_chunking(
            frames in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..100)), 0..20),
            sizes in prop::collection::vec(1usize..50, 1..10),
        ) {
            let mut stream = BytesMut::new();
            for (tag, body) in &frames {
                put(&mut stream, *tag, |buffer| { buffer.put_slice(body); Ok(()) }).unwrap();
            }
            prop_assert_eq!(cut(&stream, &sizes).unwrap(), frames);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            stream in prop::collection::vec(any::<u8>(), 0..400),
            sizes in prop::collection::vec(1usize..50, 1..10),
        ) {
            let _ = cut(&stream, &sizes);
        }
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_their_bytes_arrive() {
        let too_long = (FRAME_BYTES_MAX as u32 + 1).to_le_bytes();
        assert_eq!(cut(&too_long, &[1]), Err(FrameError::TooLong { length: FRAME_BYTES_MAX + 1 }));
        assert_eq!(cut(&u32::MAX.to_le_bytes(), &[4]), Err(FrameError::TooLong { length: u32::MAX as usize }));
        assert_eq!(cut(&1u32.to_le_bytes(), &[4]), Err(FrameError::TooShort { length: 1 }));
    }

    #[test]
    fn a_frame_that_gets_too_large_leaves_no_trace() {
        let mut buffer = BytesMut::from(&b"before"[..]);
        let error = put(&mut buffer, tag::CAST, |buffer| {
            buffer.put_bytes(0, FRAME_BYTES_MAX);
            Ok(())
        });
        assert!(matches!(error, Err(CodecError::TooLarge { .. })));
        assert_eq!(&buffer[..], b"before");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "ä".repeat(TEXT_BYTES_MAX);
        assert_eq!(short(&long).len(), TEXT_BYTES_MAX);
        assert_eq!(short("short"), "short");
        assert_eq!(short(&format!("x{long}")).len(), TEXT_BYTES_MAX - 1);
    }
}
