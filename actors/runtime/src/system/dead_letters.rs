//! Messages that nobody could handle.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::lock;

/// Dead letters that a worker keeps; older ones make way. All are logged.
pub const DEAD_LETTERS_MAX: usize = 256;

/// A message that failed its actor again and again, and was laid aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The actor's place in the tree.
    pub path: String,
    /// The registered name of its type.
    pub kind: &'static str,
    /// Digest (blake3, hexadecimal) of the encoded message: the same message has the same one.
    pub payload_hash: String,
    /// How large the encoded message was.
    pub bytes: usize,
    /// How often it failed the actor.
    pub crashes: u32,
    /// What happened the last time.
    pub why: String,
}

#[derive(Debug, Default)]
pub(super) struct DeadLetters(Mutex<VecDeque<DeadLetter>>);

impl DeadLetters {
    pub(super) fn add(&self, letter: DeadLetter) {
        tracing::error!(
            actor = letter.path,
            payload = letter.payload_hash,
            bytes = letter.bytes,
            crashes = letter.crashes,
            why = letter.why,
            "a message was laid aside as a dead letter"
        );
        let mut letters = lock(&self.0);
        if letters.len() == DEAD_LETTERS_MAX {
            letters.pop_front();
        }
        letters.push_back(letter);
    }

    pub(super) fn all(&self) -> Vec<DeadLetter> {
        lock(&self.0).iter().cloned().collect()
    }
}
