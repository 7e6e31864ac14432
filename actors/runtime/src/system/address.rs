//! Where an actor is found, and how a handle inside a message becomes one that can be used.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use neap_scheduler::model::WorkerId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::node::System;
use crate::codec::{self, CodecError, MESSAGE_BYTES_MAX};

/// How large an encoded message, request or answer may be: a frame, less what stands around it.
pub(super) const BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 4096;

/// Names an actor for its whole life: its kind, the worker that supervises it, and its number there. It names no place,
/// because that changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    pub(super) kind: String,
    pub(super) home: WorkerId,
    pub(super) child: u64,
}

impl Address {
    /// The registered name of its type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The worker that supervises it.
    pub fn supervisor(&self) -> WorkerId {
        self.home
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.home, self.child)
    }
}

thread_local! {
    /// The system that the bytes being decoded on this thread arrived at.
    static DECODING: RefCell<Option<System>> = const { RefCell::new(None) };
}

/// Puts the system back that was there before, also where decoding panics.
struct Scope(Option<System>);

impl Drop for Scope {
    fn drop(&mut self) {
        DECODING.set(self.0.take());
    }
}

/// Decodes what arrived at `system`; handles in it are handles there.
pub(super) fn decode_at<T: DeserializeOwned>(system: &System, bytes: &[u8]) -> Result<T, CodecError> {
    let _scope = Scope(DECODING.replace(Some(system.clone())));
    codec::decode::<T, MESSAGE_BYTES_MAX>(bytes)
}

/// The system of the message that is being decoded.
pub(super) fn decoding() -> Option<System> {
    DECODING.with_borrow(Clone::clone)
}

/// Encodes a message, a request, an answer or arguments.
pub(super) fn encode<T: Serialize>(message: &T) -> Result<Bytes, CodecError> {
    codec::encode::<_, BODY_BYTES_MAX>(message).map(Bytes::from)
}
