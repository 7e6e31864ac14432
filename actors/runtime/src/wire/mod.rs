//! Every message that crosses a process boundary, as types of their own.
//!
//! Domain types never go on the wire: each message is spelled out here and converted at the edge, so that a refactor of
//! the core cannot break a peer of another version. Messages are positional ([`crate::codec`]), so an enum only grows
//! at its end and a struct never changes: a new need is a new variant.
//!
//! Six conversations: [`agent`] between control plane and node agent, [`artifact`] between the same two about the programs
//! that jobs bring along, [`worker`] between a node agent and the worker processes it started, [`training`] and
//! [`collective`] between the workers of one training, [`actors`] between those of a job of own actors. [`device`] is a part of
//! the first, and what an agent is told by a child.

pub mod actors;
pub mod agent;
pub mod artifact;
pub mod collective;
pub mod device;
pub mod training;
pub mod worker;
