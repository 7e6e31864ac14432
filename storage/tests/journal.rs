//! The journal: what was appended comes back, and whatever else is in the file is noticed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

use std::fs;
use std::path::Path;

use common::{scratch, write_journal};
use neap_storage::journal::{ANCHOR_EVERY, APPEND_BYTES_MAX, PAYLOAD_BYTES_MAX};
use neap_storage::{Entry, Journal, JournalError, Seq};
use proptest::prelude::*;

const FILE: &str = "journal.neap";
const ANCHOR: &str = "journal.head";

fn damage_of(dir: &Path) -> (Seq, u64, String) {
    match Journal::open(dir) {
        Err(JournalError::Damaged { seq, offset, why, .. }) => (seq, offset, why),
        other => panic!("expected damage, got {other:?}"),
    }
}

/// The length of the file after each append, with the header's first.
fn append_ends(dir: &Path, appends: &[Vec<Vec<u8>>]) -> Vec<usize> {
    let (mut journal, _) = Journal::open(dir).unwrap();
    let mut ends = vec![journal.bytes() as usize];
    for append in appends {
        journal.append(append).unwrap();
        ends.push(journal.bytes() as usize);
    }
    ends
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_appended_comes_back(
        sessions in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6), 0..12),
            1..4,
        ),
    ) {
        let dir = scratch();
        let mut written: Vec<Entry> = Vec::new();
        for appends in sessions {
            let (mut journal, entries) = Journal::open(dir.path()).unwrap();
            prop_assert_eq!(&entries, &written);
            prop_assert!(journal.torn().is_none());
            for payloads in &appends {
                let seq = journal.append(payloads).unwrap();
                prop_assert_eq!(seq, journal.seq());
            }
            written = journal.entries().unwrap();
            let payloads: Vec<&Vec<u8>> = appends.iter().flatten().collect();
            let tail: Vec<&Vec<u8>> = written[entries.len()..].iter().map(|entry| &entry.payload).collect();
            prop_assert_eq!(tail, payloads);
            prop_assert!(written.iter().zip(1..).all(|(entry, seq)| entry.seq == Seq(seq)));
        }
    }
}

/// Twelve records in seven appends; the anchor of the copies below names record 5, the end of the third append.
fn seven_appends() -> Vec<Vec<Vec<u8>>> {
    let sizes: [&[usize]; 7] = [&[3], &[0, 9], &[40, 1], &[7], &[5, 5, 5], &[2], &[8, 30]];
    let payload = |size: &usize| vec![b'a' + *size as u8 % 26; *size];
    sizes.iter().map(|sizes| sizes.iter().map(payload).collect()).collect()
}

struct Sample {
    bytes: Vec<u8>,
    anchor: Vec<u8>,
    entries: Vec<Entry>,
    /// Bytes and records after each append.
    ends: Vec<(usize, usize)>,
}

const ANCHORED: usize = 5;

impl Sample {
    fn make() -> Self {
        let dir = scratch();
        let appends = seven_appends();
        append_ends(dir.path(), &appends[..3]);
        let anchor = fs::read(dir.path().join(ANCHOR)).unwrap();
        let (mut journal, entries) = Journal::open(dir.path()).unwrap();
        assert_eq!(entries.len(), ANCHORED);
        for append in &appends[3..] {
            journal.append(append).unwrap();
        }
        let entries = journal.entries().unwrap();
        drop(journal);
        let bytes = fs::read(dir.path().join(FILE)).unwrap();
        let mut ends = vec![(24, 0)];
        for append in &appends {
            let (offset, records) = ends[ends.len() - 1];
            let length: usize = append.iter().map(|payload| 74 + payload.len()).sum();
            ends.push((offset + length, records + append.len()));
        }
        assert_eq!(ends.last(), Some(&(bytes.len(), entries.len())));
        Self { bytes, anchor, entries, ends }
    }

    fn put(&self, dir: &Path, bytes: &[u8]) {
        fs::write(dir.join(FILE), bytes).unwrap();
        fs::write(dir.join(ANCHOR), &self.anchor).unwrap();
    }

    /// How many records are in whole appends within the first `length` bytes.
    fn whole_within(&self, length: usize) -> usize {
        self.ends.iter().rev().find(|(end, _)| *end <= length).map_or(0, |(_, records)| *records)
    }
}

#[test]
fn a_cut_at_any_byte_loses_nothing_below_the_anchor_and_nothing_silently() {
    let sample = Sample::make();
    let dir = scratch();
    for length in 0..sample.bytes.len() {
        sample.put(dir.path(), &sample.bytes[..length]);
        let whole = sample.whole_within(length);
        if whole < ANCHORED {
            damage_of(dir.path());
            continue;
        }
        let (journal, entries) = Journal::open(dir.path()).unwrap_or_else(|error| panic!("cut at {length}: {error}"));
        assert_eq!(entries, sample.entries[..whole], "cut at {length}");
        let at_an_end = sample.ends.iter().any(|(end, _)| *end == length);
        match journal.torn() {
            None => assert!(at_an_end, "cut at {length}"),
            Some(torn) => {
                assert_eq!(torn.seq, Seq(whole as u64 + 1));
                assert_eq!(torn.bytes, (length as u64) - torn.offset);
                assert_eq!(fs::read(&torn.kept).unwrap(), sample.bytes[torn.offset as usize..length]);
                assert!(torn.kept.file_name().unwrap().to_str().unwrap().starts_with("journal.torn."));
            }
        }
    }
}

#[test]
fn any_flipped_bit_is_damage_or_in_the_last_append() {
    let sample = Sample::make();
    let dir = scratch();
    let (last_start, last_records) = sample.ends[sample.ends.len() - 2];
    for bit in 0..sample.bytes.len() * 8 {
        let mut bytes = sample.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        sample.put(dir.path(), &bytes);
        if bit / 8 < last_start {
            let (seq, offset, _) = damage_of(dir.path());
            let record = sample.entries.iter().take_while(|entry| entry.seq < seq).count();
            assert!(offset as usize <= bit / 8, "bit {bit}: {seq} at {offset}");
            assert!(record <= sample.whole_within(bit / 8) + 3, "bit {bit}: {seq}");
            assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), bytes, "a damaged journal is left as it is");
        } else {
            let (journal, entries) = Journal::open(dir.path()).unwrap();
            assert_eq!(entries, sample.entries[..last_records], "bit {bit}");
            assert_eq!(journal.torn().unwrap().offset as usize, last_start, "bit {bit}");
        }
    }
}

#[test]
fn the_torn_end_is_kept_once_and_appending_goes_on() {
    let sample = Sample::make();
    let dir = scratch();
    for round in 1..=2 {
        sample.put(dir.path(), &sample.bytes[..sample.bytes.len() - 1]);
        let (mut journal, entries) = Journal::open(dir.path()).unwrap();
        assert_eq!(entries.len(), 10);
        assert_eq!(journal.append(&[b"new".to_vec()]).unwrap(), Seq(11));
        drop(journal);
        let (journal, entries) = Journal::open(dir.path()).unwrap();
        assert!(journal.torn().is_none());
        assert_eq!(entries[10].payload, b"new");
        let kept = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(kept.filter(|name| name.starts_with("journal.torn.11")).count(), round);
    }
}

#[test]
fn an_append_of_many_records_is_all_or_nothing() {
    let dir = scratch();
    let ends = append_ends(dir.path(), &[vec![b"before".to_vec()], vec![b"x".to_vec(); 5]]);
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    let anchor_of_one = {
        let other = scratch();
        fs::write(other.path().join(FILE), &bytes[..ends[1]]).unwrap();
        fs::write(other.path().join(ANCHOR), anchor_at_start(&bytes)).unwrap();
        drop(Journal::open(other.path()).unwrap());
        fs::read(other.path().join(ANCHOR)).unwrap()
    };
    // Two of five records are whole: none of the five was ever acknowledged.
    fs::write(dir.path().join(FILE), &bytes[..ends[1] + 2 * 75]).unwrap();
    fs::write(dir.path().join(ANCHOR), anchor_of_one).unwrap();
    let (journal, entries) = Journal::open(dir.path()).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(journal.torn().unwrap().seq, Seq(2));
    assert_eq!(journal.bytes() as usize, ends[1]);
}

/// The anchor that was written when the journal with these first bytes was new.
fn anchor_at_start(journal: &[u8]) -> Vec<u8> {
    let mut anchor = b"NEAPHED1".to_vec();
    anchor.extend_from_slice(&[0; 8]);
    anchor.extend_from_slice(blake3::hash(&journal[..24]).as_bytes());
    let crc = crc32c::crc32c(&anchor);
    anchor.extend_from_slice(&crc.to_le_bytes());
    anchor
}

#[test]
fn records_that_were_removed_swapped_or_repeated_are_damage() {
    let sample = Sample::make();
    let dir = scratch();
    let part = |append: usize| &sample.bytes[sample.ends[append].0..sample.ends[append + 1].0];
    let head = &sample.bytes[..sample.ends[3].0];
    // After the anchor: without append 3; with 4 before 3; with 3 twice.
    for order in [&[4, 5, 6][..], &[4, 3, 5, 6], &[3, 3, 4], &[3, 5]] {
        let mut bytes = head.to_vec();
        order.iter().for_each(|&append| bytes.extend_from_slice(part(append)));
        sample.put(dir.path(), &bytes);
        let (_, _, why) = damage_of(dir.path());
        assert!(why.contains("does not follow"), "{order:?}: {why}");
    }
}

#[test]
fn a_journal_of_another_cluster_does_not_fit_the_anchor() {
    let (ours, theirs) = (scratch(), scratch());
    write_journal(ours.path(), &seven_appends());
    std::thread::sleep(std::time::Duration::from_millis(2));
    write_journal(theirs.path(), &seven_appends());
    fs::copy(theirs.path().join(FILE), ours.path().join(FILE)).unwrap();
    assert!(damage_of(ours.path()).2.contains("anchor"));
}

#[test]
fn a_missing_or_damaged_file_is_damage() {
    for (file, contents) in [
        (FILE, None),
        (ANCHOR, None),
        (FILE, Some(&b""[..])),
        (ANCHOR, Some(b"")),
        (ANCHOR, Some(&[0; 52])),
        (FILE, Some(b"something else entirely, long enough")),
    ] {
        let dir = scratch();
        write_journal(dir.path(), &seven_appends());
        let path = dir.path().join(file);
        match contents {
            None => fs::remove_file(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
        damage_of(dir.path());
    }
}

#[test]
fn the_anchor_is_renewed_while_appending() {
    let dir = scratch();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    let anchored = || u64::from_le_bytes(fs::read(dir.path().join(ANCHOR)).unwrap()[8..16].try_into().unwrap());
    assert_eq!(anchored(), 0);
    for _ in 0..ANCHOR_EVERY + 3 {
        journal.append(&[b"x".to_vec()]).unwrap();
    }
    assert_eq!(anchored(), ANCHOR_EVERY);
    journal.close().unwrap();
    assert_eq!(anchored(), ANCHOR_EVERY + 3);
}

#[test]
fn only_one_has_the_journal_open() {
    let dir = scratch();
    let first = Journal::open(dir.path()).unwrap();
    let error = Journal::open(dir.path()).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("neap down"));
    drop(first);
    Journal::open(dir.path()).unwrap();
}

#[test]
fn what_is_too_large_is_refused_and_nothing_of_it_is_written() {
    let dir = scratch();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    let too_large = |result: Result<Seq, JournalError>| assert!(matches!(result, Err(JournalError::TooLarge { .. })));
    too_large(journal.append(&[b"fits".to_vec(), vec![0; PAYLOAD_BYTES_MAX + 1]]));
    too_large(journal.append(&vec![vec![0; PAYLOAD_BYTES_MAX]; APPEND_BYTES_MAX / PAYLOAD_BYTES_MAX + 1]));
    assert_eq!(journal.append(&[]).unwrap(), Seq::ZERO);
    assert_eq!(journal.append(&[vec![0; PAYLOAD_BYTES_MAX]]).unwrap(), Seq(1));
    assert_eq!(journal.entries().unwrap().len(), 1);
}

#[test]
fn a_newer_format_is_named_as_such() {
    let dir = scratch();
    write_journal(dir.path(), &seven_appends());
    let path = dir.path().join(FILE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::TooNew { version: 9, known: 1, .. })));
}
