//! The product, whole: real control plane, real nodes, real training on the digits in `examples/data`, and real faults.
//!
//! Every test has a cluster of its own in a temporary home and ends what it started. None asserts how fast something
//! is; where one waits, it is for something to happen, with a limit far above what it takes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the command line, which use other parts")]
mod support;

#[path = "../../storage/tests/common/moto.rs"]
#[allow(dead_code, reason = "shared with the tests of the storage, which use other parts")]
mod moto;

mod bad_input;
mod checkpoints;
mod cluster;
mod elastic;
mod market;
mod money;
mod pauses;
mod reasons;
mod recovery;
mod stores;
mod uneven;
