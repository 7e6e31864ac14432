//! Messages to the [`super::Controller`].

use std::collections::BTreeSet;

use neap_runtime::Role;
use neap_runtime::remote::Inbound;
use neap_runtime::wire::agent::ControlProtocol;
use neap_scheduler::model::{ContentHash, Millis, NodeId};
use neap_scheduler::pricing::budget::Scope;
use ractor::RpcReplyPort;

use crate::handle::{BudgetChange, ControlError, JobFile, Stop, Submission, Which};
use crate::outlook::Outlook;
use crate::provider::ProviderEvent;
use crate::views::{BillView, Explanation, JobView, NodeView, OfferView, OpenBill, ScopeBudgetView, StatusView};

/// An answer to a caller of the API.
pub(crate) type Reply<T> = RpcReplyPort<Result<T, ControlError>>;

/// Commands change intent, queries answer from memory, events report what happened elsewhere.
pub(crate) enum ControllerMsg {
    /// Command: accept a job.
    Submit(Box<Submission>, Reply<JobView>),
    /// Command: end a job.
    StopJob(String, Stop, Reply<JobView>),
    /// Command: have the provider take a spot node back after a notice.
    Preempt(NodeId, Millis, Reply<NodeView>),
    /// Command: save every running job, give every node back, answer when nothing is left.
    EndNodes(Reply<()>),
    /// Command: change what the organisation or a project may spend.
    SetBudget(Scope, BudgetChange, Reply<ScopeBudgetView>),
    /// Query: the part of the bill that is not written down yet.
    OpenBill(Reply<OpenBill>),
    /// Query: what is known about money to come.
    Outlook(Reply<Outlook>),
    /// Query: what could be rented now.
    Offers(Reply<Vec<OfferView>>),
    /// Query: all budgets.
    Budgets(Reply<Vec<ScopeBudgetView>>),
    /// Query: one budget, by scope, or by a job's name or id.
    Budget(String, Reply<ScopeBudgetView>),
    /// Query: jobs.
    Jobs(Which, Reply<Vec<JobView>>),
    /// Query: one job, by name or id.
    Job(String, Reply<JobView>),
    /// Query: a job's file, by the job's name or id.
    JobFile(String, Reply<JobFile>),
    /// Query: nodes.
    Nodes(Which, Reply<Vec<NodeView>>),
    /// Query: why a job or node is as it is.
    Explain(String, Reply<Explanation>),
    /// Query: the bill, of one job or of everything.
    Bill(Option<String>, Reply<BillView>),
    /// Query: the control plane itself, with the number of journal records filled in by the caller.
    Status(Reply<StatusView>),
    /// Query: whether a node has a worker of a job that brings this program along.
    MayFetch(NodeId, ContentHash, RpcReplyPort<bool>),
    /// Query: the programs of jobs that have not ended.
    ArtifactsInUse(Reply<BTreeSet<ContentHash>>),
    /// Event: an agent says something.
    Agent(Inbound<ControlProtocol>),
    /// Event: a connection is gone or silent.
    PeerDown(Role, String),
    /// Event: something happened at the provider.
    Provider(ProviderEvent),
    /// Event: a node presents the hash of a join secret.
    Admit(NodeId, [u8; 32], RpcReplyPort<Result<(), String>>),
    /// Tick: time to look at leases, notices and idle nodes.
    Tick,
}

impl From<Inbound<ControlProtocol>> for ControllerMsg {
    fn from(inbound: Inbound<ControlProtocol>) -> Self {
        Self::Agent(inbound)
    }
}
