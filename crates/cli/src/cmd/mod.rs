//! One file for each verb. Each gets the context and its arguments, and returns an exit code or why there is none.

mod attach;
pub(crate) mod bench;
mod cancel;
mod certs;
mod cluster;
mod completions;
mod coordinator;
mod drain;
mod follow;
mod framework;
mod gc;
mod logs;
mod man;
mod nodes;
mod outputs;
mod programs;
mod pytest;
mod quarantine;
mod reporting;
mod rerun;
mod resolve;
mod run;
mod runs;
mod selection;
mod status;
mod submit;
mod tasks;
mod tenants;
mod test_rules;
mod token;
mod why;
mod worker;
mod workers;

pub(crate) use cluster::MEMBER;
pub(crate) use cluster::become_member;
pub(crate) use programs::{CAPTURE, CAPTURE_GO};

use crate::args::{Cli, Command, Global, OutputForm};
use crate::exit_code::CommandResult;
use crate::host::Place;
use crate::host::access::access;
use crate::host::cluster::Endpoints;
use crate::report::hints::Hints;
use crate::style::Screen;

/// What every command works with.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) place: Place,
    pub(crate) screen: Screen,
}

impl Context {
    /// Commands about a run, as the user would have to write them.
    pub(crate) fn hints(&self, run_id: &str) -> Hints {
        let hints = Hints::new(run_id, self.global.data_dir.as_deref(), self.global.cluster.as_deref());
        if self.global.cluster.is_some() { hints.with_access(&self.global.access) } else { hints }
    }

    /// Whether `--output json` was asked for.
    pub(crate) fn json(&self) -> bool {
        self.global.output == OutputForm::Json
    }
}

/// Runs the command.
pub(crate) async fn run(cli: Cli) -> CommandResult {
    if cli.global.cluster.is_none() && matches!(cli.command, Command::Run(_) | Command::Attach(_) | Command::Rerun(_)) {
        // A third of the start goes into tables that consensus needs: they are made beside everything else.
        std::thread::spawn(muster_raft::warm_up);
    }
    let mut place = Place::find(cli.global.data_dir.as_deref())?;
    if let Some(cluster) = &cli.global.cluster {
        place.cluster = Some(Endpoints::parse("--cluster", cluster, access(&cli.global.access)?)?);
    }
    let screen = Screen::of_stdout(cli.global.color);
    let context = Context { global: cli.global, place, screen };
    match cli.command {
        Command::Run(args) => Box::pin(run::run(&context, *args)).await,
        Command::Attach(args) => attach::attach(&context, &args).await,
        Command::Rerun(args) => Box::pin(rerun::rerun(&context, &args)).await,
        Command::Cancel(args) => cancel::cancel(&context, &args).await,
        Command::Runs(args) => runs::runs(&context, &args).await,
        Command::Tasks(args) => tasks::tasks(&context, args).await,
        Command::Logs(args) => logs::logs(&context, &args).await,
        Command::Why(args) => why::why(&context, &args).await,
        Command::Bench(args) => Box::pin(bench::main(&args, context.json())).await,
        Command::Coordinator(args) => Box::pin(coordinator::coordinator(&context, &args)).await,
        Command::Worker(args) => Box::pin(worker::worker(&context, &args)).await,
        Command::Gc(args) => gc::gc(&context, &args).await,
        Command::Cluster(args) => Box::pin(cluster::cluster(&context, &args)).await,
        Command::Nodes(args) => nodes::nodes(&context, &args).await,
        Command::Admin(args) => nodes::admin(&context, args).await,
        Command::Certs(args) => certs::certs(&context, args),
        Command::Token(args) => token::token(&context, args),
        Command::Workers(_) => workers::workers(&context).await,
        Command::Drain(args) => drain::drain(&context, &args.worker, true).await,
        Command::Undrain(args) => drain::drain(&context, &args.worker, false).await,
        Command::Quarantine(args) => quarantine::quarantine(&context, &args.worker, args.reason.as_deref()).await,
        Command::Tenants(args) => tenants::tenants(&context, &args).await,
        Command::Release(args) => quarantine::release(&context, &args.worker).await,
        Command::Status(_) => status::status(&context).await,
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => man::man(&args),
    }
}
