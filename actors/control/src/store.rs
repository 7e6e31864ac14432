//! The journal and its projection, behind one blocking object that is used from one place.

use std::sync::{Arc, Mutex, PoisonError};

use neap_scheduler::model::JobId;
use neap_scheduler::pricing::LedgerLine;
use neap_scheduler::pricing::attribution::AttributedLine;
use neap_storage::journal::{Journal, JournalError};
use neap_storage::projection::{Projection, ProjectionError};
use neap_storage::record::{Record, RecordError};

use crate::home::Home;

/// Why the past cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The journal.
    #[error("failed to open the journal")]
    Journal(#[from] JournalError),
    /// A record of it.
    #[error("failed to read record {seq} of the journal")]
    Record {
        /// Its number.
        seq: u64,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// Its projection.
    #[error("failed to open the projection of the journal")]
    Projection(#[from] ProjectionError),
}

struct Files {
    journal: Journal,
    projection: Projection,
}

/// The truth on disk. Cheap to clone; calls from several tasks take turns.
#[derive(Clone)]
pub(crate) struct Store(Arc<Mutex<Files>>);

impl Store {
    /// Opens both files; returns what happened so far.
    pub(crate) fn open(home: &Home) -> Result<(Self, Vec<Record>), StoreError> {
        let (journal, entries) = Journal::open(&home.journal())?;
        let decode = |entry: &neap_storage::journal::Entry| {
            Record::decode(&entry.payload).map_err(|source| StoreError::Record { seq: entry.seq.0, source })
        };
        let records = entries.iter().map(decode).collect::<Result<_, _>>()?;
        let projection = Projection::open(&home.projection(), &entries)?;
        Ok((Self(Arc::new(Mutex::new(Files { journal, projection }))), records))
    }

    /// Appends the records in one go. When this returns they are on disk; on an error none of them is.
    pub(crate) async fn append(&self, records: &[Record]) -> Result<(), JournalError> {
        let payloads: Vec<_> = records.iter().map(Record::encode).collect();
        self.with_files(move |files| {
            let entries = files.journal.append_entries(&payloads)?;
            for entry in &entries {
                if let Err(error) = files.projection.apply(entry) {
                    // The journal has it; the projection is rebuilt at the next start.
                    tracing::warn!(%error, seq = entry.seq.0, "projection not updated");
                }
            }
            Ok(())
        })
        .await
    }

    /// The lines of a bill that are written down: of one job, or all.
    pub(crate) async fn lines(&self, job: Option<JobId>) -> Result<Vec<LedgerLine>, ProjectionError> {
        self.with_files(move |files| match job {
            Some(job) => files.projection.ledger_lines(job),
            None => files.projection.lines_all(),
        })
        .await
    }

    /// All lines of the bill that are written down, with the actors that used the time.
    pub(crate) async fn attributed_lines(&self) -> Result<Vec<AttributedLine>, ProjectionError> {
        self.with_files(|files| files.projection.attributed_lines()).await
    }

    /// How many records there are.
    pub(crate) async fn records(&self) -> u64 {
        self.with_files(|files| files.journal.seq().0).await
    }

    async fn with_files<T: Send + 'static>(&self, work: impl FnOnce(&mut Files) -> T + Send + 'static) -> T {
        let files = self.0.clone();
        let task = tokio::task::spawn_blocking(move || work(&mut files.lock().unwrap_or_else(PoisonError::into_inner)));
        task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}
