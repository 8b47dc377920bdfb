//! `muster run` and `muster rerun` on the tests of a project that has pytest: finds the interpreter, has the suite
//! loaded and listed, and submits its tests as a run. The process that has loaded the suite stays, where this process
//! hosts, and is what runners are forked from.

mod child;
mod collect;
mod loaded;
mod remote;
mod rerun;
mod run;
mod suite;
mod verdict;

pub(crate) use loaded::Loaded;
pub(crate) use rerun::rerun;
pub(crate) use run::run;
