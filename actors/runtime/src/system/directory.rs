//! Where the actors run that this worker supervises: written by the host, read by whoever looks for one of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use neap_scheduler::model::WorkerId;
use tokio::sync::watch;

use super::children::Exit;
use crate::lock;
use crate::wire::actors::HostReply;

/// How long a question is held before it is answered with [`HostReply::NotYet`] and asked again.
pub(super) const HELD: Duration = Duration::from_secs(10);

/// Actors that have ended and are still known by their exit; older ones are only known to be gone.
const ENDED_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Pending,
    Up(WorkerId, u32),
    Ended(Exit),
}

#[derive(Debug, Default)]
pub(super) struct Directory(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    places: BTreeMap<u64, watch::Sender<Place>>,
    ended: VecDeque<u64>,
}

impl Directory {
    pub(super) fn set(&self, child: u64, place: Place) {
        let mut places = lock(&self.0);
        if matches!(place, Place::Ended(_)) {
            places.ended.push_back(child);
            if places.ended.len() > ENDED_MAX
                && let Some(oldest) = places.ended.pop_front()
            {
                places.places.remove(&oldest);
            }
        }
        places.places.entry(child).or_insert_with(|| watch::Sender::new(Place::Pending)).send_replace(place);
    }

    /// Where a child runs, once it does; or that it has ended.
    pub(super) async fn locate(&self, child: u64) -> HostReply {
        self.wait(child, |place| *place != Place::Pending).await
    }

    /// That a child has ended, once it has.
    pub(super) async fn await_end(&self, child: u64) -> HostReply {
        self.wait(child, |place| matches!(place, Place::Ended(_))).await
    }

    async fn wait(&self, child: u64, until: impl FnMut(&Place) -> bool) -> HostReply {
        let Some(mut place) = lock(&self.0).places.get(&child).map(watch::Sender::subscribe) else {
            return HostReply::Gone(None);
        };
        let waited = tokio::time::timeout(HELD, place.wait_for(until)).await;
        match waited.as_ref().map(|found| found.as_deref()) {
            Ok(Ok(Place::Up(worker, incarnation))) => HostReply::At(*worker, *incarnation),
            Ok(Ok(Place::Ended(Exit::Failed(why)))) => HostReply::Gone(Some(why.clone())),
            Ok(Ok(Place::Ended(_)) | Err(_)) => HostReply::Gone(None),
            Ok(Ok(Place::Pending)) | Err(_) => HostReply::NotYet,
        }
    }
}
