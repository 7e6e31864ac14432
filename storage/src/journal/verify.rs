//! Reads a journal from its first byte to its last and tells what is there, what was cut short, and what is damaged.
//!
//! How the two are told apart: an append returns only after its sync, so bytes that do not read can be a crash in the
//! middle of an append only if nothing was appended after them and the anchor does not claim them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::anchor::Anchor;
use super::frame::{self, Fault, Frame};
use super::{Entry, JournalError, Seq, TornTail, failed, keep_aside};
use crate::durable;

/// What a journal holds.
pub(super) struct Verified {
    pub(super) entries: Vec<Entry>,
    pub(super) head: Anchor,
    /// The end of the last whole append.
    pub(super) end: u64,
    pub(super) torn: Option<Torn>,
}

/// An append that never finished: everything from `offset` on.
pub(super) struct Torn {
    seq: Seq,
    offset: u64,
    why: &'static str,
}

/// Reads and checks all of `file`; changes nothing.
pub(super) fn verify(path: &Path, file: &File, anchor: Option<Anchor>) -> Result<Verified, JournalError> {
    let mut bytes = Vec::new();
    let mut from_start = file;
    from_start
        .seek(SeekFrom::Start(0))
        .and_then(|_| from_start.read_to_end(&mut bytes))
        .map_err(|source| failed("read", path, source))?;
    let genesis = match frame::check_header(&bytes) {
        Ok(hash) => hash,
        Err(fault) => return Err(fault_at(path, Seq::ZERO, 0, fault)),
    };
    let mut reader = Reader {
        path,
        bytes: &bytes,
        offset: frame::HEADER_BYTES,
        head: Anchor { seq: Seq::ZERO, hash: genesis },
        append: None,
        entries: Vec::new(),
    };
    let fault = reader.read_frames()?;
    reader.check_anchor(anchor)?;
    reader.finish(fault, anchor)
}

/// Where the append that is being read starts.
#[derive(Clone, Copy)]
struct OpenAppend {
    first: Seq,
    last: Seq,
    offset: usize,
    before: Anchor,
}

struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    offset: usize,
    head: Anchor,
    /// Set while some of an append's records were read and some are still to come.
    append: Option<OpenAppend>,
    entries: Vec<Entry>,
}

impl Reader<'_> {
    /// Reads frames up to the end, or up to the first that does not read.
    fn read_frames(&mut self) -> Result<Option<&'static str>, JournalError> {
        while self.offset < self.bytes.len() {
            let (frame, hash, length) = match Frame::decode(&self.bytes[self.offset..]) {
                Ok(decoded) => decoded,
                Err(Fault::Broken(why)) => return Ok(Some(why)),
                Err(fault) => return Err(fault_at(self.path, self.head.seq.next(), self.offset, fault)),
            };
            self.check_place(&frame)?;
            let append = self.append.unwrap_or(OpenAppend {
                first: frame.append.0,
                last: frame.append.1,
                offset: self.offset,
                before: self.head,
            });
            self.append = (frame.seq < append.last).then_some(append);
            self.entries.push(Entry { seq: frame.seq, at: frame.at, hash, payload: frame.payload.to_vec() });
            self.head = Anchor { seq: frame.seq, hash };
            self.offset += length;
        }
        Ok(None)
    }

    /// A frame that is whole must also be the next one; a crash cannot make it another.
    fn check_place(&self, frame: &Frame<'_>) -> Result<(), JournalError> {
        let append_fits = match self.append {
            Some(append) => frame.append == (append.first, append.last),
            None => frame.append.0 == frame.seq && frame.append.1 >= frame.seq,
        };
        if frame.seq == self.head.seq.next() && frame.prev == self.head.hash && append_fits {
            return Ok(());
        }
        let why = format!("a record {} is here that does not follow record {}", frame.seq, self.head.seq);
        Err(damaged(self.path, self.head.seq.next(), self.offset, why))
    }

    fn check_anchor(&self, anchor: Option<Anchor>) -> Result<(), JournalError> {
        let Some(anchor) = anchor else {
            if self.entries.is_empty() {
                return Ok(());
            }
            let why = "the anchor `journal.head` beside it is missing".to_owned();
            return Err(damaged(self.path, Seq(1), frame::HEADER_BYTES, why));
        };
        if anchor.seq > self.head.seq {
            let why = format!("it ends after record {}, but the anchor says it reached {}", self.head.seq, anchor.seq);
            return Err(damaged(self.path, self.head.seq.next(), self.offset, why));
        }
        let found = match anchor.seq.0.checked_sub(1) {
            Some(index) => self.entries.get(index as usize).map(|entry| entry.hash),
            None => self.genesis(),
        };
        if found != Some(anchor.hash) {
            let why = format!("record {} is not the one that the anchor names", anchor.seq);
            return Err(damaged(self.path, anchor.seq, frame::HEADER_BYTES, why));
        }
        Ok(())
    }

    fn genesis(&self) -> Option<super::ChainHash> {
        frame::check_header(&self.bytes[..frame::HEADER_BYTES]).ok()
    }

    /// Decides whether what does not read is an append cut short, and if so goes back to where it started.
    fn finish(mut self, fault: Option<&'static str>, anchor: Option<Anchor>) -> Result<Verified, JournalError> {
        let Some(why) = fault.or(self.append.map(|_| "an append is not there to its end")) else {
            return Ok(self.verified(None));
        };
        let start = self.append.unwrap_or(OpenAppend {
            first: self.head.seq.next(),
            last: self.head.seq.next(),
            offset: self.offset,
            before: self.head,
        });
        if anchor.is_some_and(|anchor| anchor.seq >= start.first) {
            let why = format!("{why}, and the anchor says that it had been");
            return Err(damaged(self.path, self.head.seq.next(), self.offset, why));
        }
        if let Some(later) = self.later_append(start.first) {
            let why = format!("{why}, and record {later} was appended after it");
            return Err(damaged(self.path, self.head.seq.next(), self.offset, why));
        }
        self.entries.truncate(start.before.seq.0 as usize);
        self.head = start.before;
        self.offset = start.offset;
        Ok(self.verified(Some(Torn { seq: start.first, offset: start.offset as u64, why })))
    }

    /// Looks behind the bytes that do not read for a record of a later append: its being there proves that the append
    /// at `torn` had been synced.
    fn later_append(&self, torn: Seq) -> Option<Seq> {
        let rest = &self.bytes[self.offset..];
        let records_max = (rest.len() / frame::FRAME_BYTES) as u64;
        (1..rest.len()).find_map(|at| {
            let (frame, ..) = Frame::decode(&rest[at..]).ok()?;
            let plausible = frame.seq.0 <= self.head.seq.0 + 1 + records_max;
            (plausible && frame.append.0 > torn && frame.append.0 <= frame.seq).then_some(frame.seq)
        })
    }

    fn verified(self, torn: Option<Torn>) -> Verified {
        Verified { entries: self.entries, head: self.head, end: self.offset as u64, torn }
    }
}

/// Keeps the torn bytes in a file of their own, then cuts them off.
pub(super) fn set_aside(dir: &Path, path: &Path, file: &File, torn: Torn) -> Result<TornTail, JournalError> {
    let mut bytes = Vec::new();
    let mut from_cut = file;
    from_cut
        .seek(SeekFrom::Start(torn.offset))
        .and_then(|_| from_cut.read_to_end(&mut bytes))
        .map_err(|source| failed("read", path, source))?;
    let kept = keep_aside(dir, torn.seq, &bytes)?;
    cut(file, torn.offset).map_err(|source| failed("cut the torn end off", path, source))?;
    durable::sync_dir(dir).map_err(|source| failed("sync", dir, source))?;
    Ok(TornTail { seq: torn.seq, offset: torn.offset, bytes: bytes.len() as u64, why: torn.why.to_owned(), kept })
}

fn cut(file: &File, at: u64) -> io::Result<()> {
    file.set_len(at)?;
    file.sync_all()
}

fn fault_at(path: &Path, seq: Seq, offset: usize, fault: Fault) -> JournalError {
    match fault {
        Fault::Broken(why) => damaged(path, seq, offset, why.to_owned()),
        Fault::TooNew(version) => JournalError::TooNew { path: path.to_owned(), version, known: frame::VERSION },
    }
}

fn damaged(path: &Path, seq: Seq, offset: usize, why: String) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), seq, offset: offset as u64, why }
}
