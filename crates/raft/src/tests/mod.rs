//! Tests that look inside the crate: other logs and disks in place of the real ones.

mod damage;
mod durability;
mod failing;
mod offline;
mod snapshots;
mod suite;
mod support;
