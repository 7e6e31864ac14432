//! A program's own actors in one process, without a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use neap_scheduler::model::{JobId, MembershipEpoch, NodeId, WorkerId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::actor::Fault;
use super::node::System;
use super::program::Program;
use super::snapshot::MemorySnapshots;
use crate::identity::{CertificateAuthority, Role};
use crate::node::{Node, NodeConfig};
use crate::wire::worker::{Member, Membership, WorkerNode};

impl Program {
    /// Runs a main function in this process: one worker, no control plane, states in memory only. For tests of actors, and to
    /// try them out; handed in as a job, the same program runs over many nodes.
    ///
    /// ```
    /// use neap_runtime::system::{Context, Fault, Program};
    ///
    /// async fn double(_: Context, number: u64) -> Result<u64, Fault> {
    ///     Ok(2 * number)
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Fault> {
    /// let answer: u64 = Program::default().main("double", double).run_alone("double", 21).await?;
    /// assert_eq!(answer, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The main function's own, that there is none of this name, and where parameters or answer do not fit it.
    pub async fn run_alone<R: DeserializeOwned>(&self, main: &str, params: impl Serialize) -> Result<R, Fault> {
        let params = serde_json::to_value(params)?;
        let (job, worker) = (JobId::new(1), WorkerId::new(1));
        let identity = CertificateAuthority::in_memory()?.issue(Role::Worker { job, worker })?;
        let node = Node::start(&identity, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), NodeConfig::default())?;
        let store = Arc::new(MemorySnapshots::default());
        let system = System::start(job, worker, node.clone(), self.clone(), store).await?;
        system.learn(&[WorkerNode { worker, node: NodeId::new(1), leaves_in_ms: None }]);
        system.adopt(&Membership {
            epoch: MembershipEpoch(1),
            members: vec![Member { worker, addr: node.local_addr(), shard_start: 0, shard_end: 1 }],
            server: worker,
            servers: vec![worker],
            replicas: Vec::new(),
            restore: None,
            losses_per_1000_h: 0,
        });
        let ended = system.run_main(main, params).await;
        system.shut();
        node.shutdown().await;
        Ok(serde_json::from_str(&ended?)?)
    }
}
