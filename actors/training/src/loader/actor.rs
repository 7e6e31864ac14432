//! The actor `data-loader`: answers workers of the job that cannot read the data themselves.

use std::sync::Arc;

use neap_runtime::Inbound;
use neap_runtime::wire::training::{LoaderProtocol, LoaderReply, LoaderRequest};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::LocalData;

/// Samples in one answer; more cannot fit a message.
const SAMPLES_MAX: usize = 65_536;

/// What is answered until the data is there, or could not be read.
pub(super) const STILL_READING: &str = "the data is still being read";

/// Serves the data that this process has read.
pub struct LoaderActor;

/// Messages to [`LoaderActor`].
pub enum LoaderMsg {
    /// Event: the data was read, or could not be.
    Opened(Result<Arc<LocalData>, String>),
    /// Query from another worker.
    Remote(Inbound<LoaderProtocol>),
}

impl From<Inbound<LoaderProtocol>> for LoaderMsg {
    fn from(inbound: Inbound<LoaderProtocol>) -> Self {
        Self::Remote(inbound)
    }
}

impl Actor for LoaderActor {
    type Msg = LoaderMsg;
    type State = Result<Arc<LocalData>, String>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(Err(STILL_READING.to_owned()))
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: LoaderMsg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LoaderMsg::Opened(data) => *state = data,
            LoaderMsg::Remote(Inbound::Call { request, reply, credit, .. }) => {
                let data = state.clone();
                // Samples may lie on disk, and nothing waits for a disk here. The credit bounds how many are asked for.
                tokio::task::spawn_blocking(move || {
                    reply.send(answer(&data, request));
                    drop(credit);
                });
            }
            LoaderMsg::Remote(Inbound::Cast { .. } | Inbound::Bulk { .. }) => {}
        }
        Ok(())
    }
}

fn answer(data: &Result<Arc<LocalData>, String>, request: LoaderRequest) -> LoaderReply {
    match (data, request) {
        (Err(reason), _) => LoaderReply::Unavailable(reason.clone()),
        (Ok(data), LoaderRequest::Describe) => LoaderReply::Description(data.facts().into()),
        (Ok(data), LoaderRequest::Samples { set, ids }) => {
            let stored = if ids.len() <= SAMPLES_MAX { data.stored(set, &ids) } else { Ok(None) };
            match stored {
                Ok(Some(samples)) => samples,
                Ok(None) => LoaderReply::Unavailable("there are no such samples".to_owned()),
                Err(error) => LoaderReply::Unavailable(error.to_string()),
            }
        }
    }
}
