//! Coordinators and workers on machines of their own, between which connections break, and on which processes stop.
//!
//! Needs root and nftables: it says so loudly where they are missing.

#[path = "faults/disks.rs"]
mod disks;
#[path = "faults/lab.rs"]
mod lab;
#[path = "faults/minorities.rs"]
mod minorities;
#[path = "faults/net.rs"]
mod net;
#[path = "faults/partitions.rs"]
mod partitions;
#[path = "faults/strangers.rs"]
mod strangers;
mod support;
#[path = "faults/workers.rs"]
mod workers;

/// Tasks of a run, and the first of those that wait.
const TASKS: usize = 40;
const HELD: usize = 12;
