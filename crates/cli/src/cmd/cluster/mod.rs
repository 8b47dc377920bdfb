//! `muster cluster`: a cluster of real processes on this machine, to try it, to break it, and to see that nothing is lost.

mod home;
mod look;
mod process;
mod status;
mod test;
mod up;

use std::path::PathBuf;

pub(crate) use process::{MEMBER, become_member};

use super::Context;
use crate::args::local_cluster::{ClusterArgs, ClusterCommand};
use crate::exit_code::{CommandResult, Failure, OK};
use crate::out;
use home::{Home, Roster};
use process::Ended;

/// Directory of the cluster below the project's data directory.
const DIR_NAME: &str = "cluster";

pub(crate) async fn cluster(context: &Context, args: &ClusterArgs) -> CommandResult {
    let home = home(context, args);
    match &args.what {
        ClusterCommand::Up(options) => {
            if args.dir.is_none() {
                context.place.create()?;
            }
            up::up(context, &home, options).await
        }
        ClusterCommand::Status => status::status(context, &home).await,
        ClusterCommand::Kill { node } => kill(context, &home, node).await,
        ClusterCommand::Start { node } => start(context, &home, node).await,
        ClusterCommand::Test(options) => test::test(context, &home, options).await,
        ClusterCommand::Down => down(context, &home).await,
        ClusterCommand::Clean => clean(context, &home),
    }
}

fn home(context: &Context, args: &ClusterArgs) -> Home {
    let dir: PathBuf = match &args.dir {
        Some(dir) => context.place.cwd.join(dir),
        None => context.place.data.root().join(DIR_NAME),
    };
    Home::new(dir)
}

/// Says what was done.
fn say(context: &Context, text: &str) -> Result<(), Failure> {
    if context.json() {
        return out::put_json("done", serde_json::json!({ "text": text }));
    }
    out::put(&format!("{text}\n"))
}

async fn kill(context: &Context, home: &Home, name: &str) -> CommandResult {
    let _lock = home.lock()?;
    let mut roster = home.read()?;
    let name = match name {
        "leader" => look::look(&roster).await?.leader.ok_or_else(|| Failure::cluster("nobody leads at the moment"))?,
        name => name.to_owned(),
    };
    let pid = kill_member(&mut roster, &name).await?;
    if context.json() {
        out::put_json("killed", serde_json::json!({ "node": name, "pid": pid }))?;
    } else {
        out::put(&format!("killed {name} (process {pid}); `muster cluster start {name}` starts it again\n"))?;
    }
    Ok(OK)
}

/// Kills a member's process; gives its number.
async fn kill_member(roster: &mut Roster, name: &str) -> Result<u32, Failure> {
    let member = roster.member_mut(name)?;
    let not_running = || Failure::usage(format!("{name} is not running"));
    let process = member.process.as_ref().ok_or_else(not_running)?;
    if !process.kill().await? {
        return Err(not_running());
    }
    Ok(process.pid)
}

async fn start(context: &Context, home: &Home, name: &str) -> CommandResult {
    let _lock = home.lock()?;
    let mut roster = home.read()?;
    let pid = up::start_member(home, &mut roster, name).await?;
    say(context, &format!("{name} runs again (process {pid})"))?;
    Ok(OK)
}

async fn down(context: &Context, home: &Home) -> CommandResult {
    let _lock = home.lock()?;
    let roster = home.read()?;
    let ends = end_all(&roster).await?;
    let killed: Vec<&str> = ends.iter().filter(|(_, end)| *end == Ended::Killed).map(|(name, _)| *name).collect();
    let ended = ends.iter().filter(|(_, end)| *end == Ended::InOrder).count();
    let mut text = format!("{ended} processes ended");
    if !killed.is_empty() {
        text.push_str(&format!("; killed, because they did not end in time: {}", killed.join(", ")));
    }
    text.push_str(&format!("; data and logs stay in {}", home.root().display()));
    say(context, &text)?;
    Ok(OK)
}

/// Workers first, so that they can say what they have; then the coordinators, one after another.
async fn end_all(roster: &Roster) -> Result<Vec<(&str, Ended)>, Failure> {
    let workers = roster.workers.iter().filter_map(|one| Some((one.name.as_str(), one.process.as_ref()?)));
    let workers = workers.map(async |(name, process)| Ok::<_, Failure>((name, process.end().await?)));
    let mut ends: Vec<(&str, Ended)> = futures::future::try_join_all(workers).await?;
    for one in &roster.coordinators {
        if let Some(process) = &one.process {
            ends.push((&one.name, process.end().await?));
        }
    }
    Ok(ends)
}

fn clean(context: &Context, home: &Home) -> CommandResult {
    let lock = home.lock()?;
    // A start that failed early has left a directory without a list.
    let roster = home.find()?.unwrap_or_default();
    for one in roster.members() {
        if let Some(process) = &one.process
            && process.is_alive()?
        {
            let (name, pid) = (&one.name, process.pid);
            return Err(Failure::usage(format!("{name} (process {pid}) lives: `muster cluster down` first")));
        }
    }
    home.remove(lock)?;
    say(context, &format!("{} is removed", home.root().display()))?;
    Ok(OK)
}
