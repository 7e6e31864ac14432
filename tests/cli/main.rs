//! The real binary, in folders of its own and on ports that are free: what it prints, what it exits with, and who it
//! lets in.
//!
//! `offline`, `checkpoints`, `report` and `recorded` need no control plane, `lifecycle` starts and ends them, `api` speaks raw HTTP to one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

mod offline;

mod report;

mod recorded;

mod schema;

mod checkpoints;

mod lifecycle;

mod api;

mod money;
