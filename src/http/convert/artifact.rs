//! Programs as they are kept, as bodies.

use neap_scheduler::spec::EntryInfo;
use neap_storage::record::ArtifactRecord;

use crate::http::body::{EntryBody, ProgramBody};

impl From<ArtifactRecord> for ProgramBody {
    fn from(record: ArtifactRecord) -> Self {
        let entries = record.entries.iter().map(|entry| EntryBody::from(&EntryInfo::from(entry))).collect();
        // Which version built it is not kept: what counts is the launch that it reads.
        Self { neap: String::new(), launch_version: record.launch_version, entries, mains: record.mains }
    }
}
