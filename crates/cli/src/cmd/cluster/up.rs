//! `muster cluster up` and `start`: processes are started, and it is seen that they do their work.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};

use rand::RngExt;
use tokio::time::Instant;

use super::home::{Home, Member, Roster};
use super::look::{Seen, look};
use super::process::{Process, ephemeral_ports};
use super::{end_all, say, status};
use crate::args::local_cluster::UpArgs;
use crate::cmd::Context;
use crate::exit_code::{CommandResult, Failure, OK};
use crate::limits::{CLUSTER_POLL, CLUSTER_PORT_TRIES_MAX, CLUSTER_UP_MAX};

/// Ports below are for the services that every machine has.
const PORT_MIN: u16 = 10_000;

pub(super) async fn up(context: &Context, home: &Home, args: &UpArgs) -> CommandResult {
    home.create()?;
    let _lock = home.lock()?;
    let mut roster = match home.find()? {
        Some(known) => known_again(home, known, args)?,
        None => new_roster(args)?,
    };
    // Written before anything is started, and after each start: whatever happens, `down` finds what runs.
    home.write(&roster)?;
    if let Err(failure) = start_all(home, &mut roster).await {
        // What was to be said is why it failed; what still lives then is in the list.
        let ended = end_all(&roster).await;
        let after = ended.map_or_else(|left| format!("\n{left}"), |_| "everything that was started is ended".into());
        return Err(Failure { message: format!("{}{after}", failure.message), ..failure });
    }
    let seen = look(&roster).await?;
    status::show(context, &roster.addresses(), &seen)?;
    if !context.json() {
        let addresses = roster.addresses();
        say(context, &format!("\nuse it with --cluster {addresses}, for example\n  muster run --cluster {addresses}"))?;
    }
    Ok(OK)
}

/// The cluster that is in the directory already, if it is down and as it is asked for.
fn known_again(home: &Home, roster: Roster, args: &UpArgs) -> Result<Roster, Failure> {
    for one in roster.members() {
        if let Some(process) = &one.process
            && process.is_alive()?
        {
            return Err(Failure::usage(format!(
                "a cluster runs in {}: `muster cluster status` shows it, `muster cluster down` ends it",
                home.root().display()
            )));
        }
    }
    let differs = |wanted: Option<u32>, has: usize| wanted.is_some_and(|wanted| wanted as usize != has);
    let slots = |wanted: u32| roster.workers.iter().any(|one| one.slots != wanted);
    let port =
        |wanted: u16| roster.coordinators.first().is_some_and(|one| !one.address.ends_with(&format!(":{wanted}")));
    if differs(args.coordinators, roster.coordinators.len())
        || differs(args.workers, roster.workers.len())
        || args.slots.is_some_and(slots)
        || args.base_port.is_some_and(port)
    {
        return Err(Failure::usage(format!(
            "the cluster in {} has {} coordinators and {} workers, not what is asked for: start it again without \
             options, or remove it with `muster cluster clean`",
            home.root().display(),
            roster.coordinators.len(),
            roster.workers.len(),
        )));
    }
    Ok(roster)
}

fn new_roster(args: &UpArgs) -> Result<Roster, Failure> {
    let coordinators = args.coordinators.unwrap_or(3);
    if coordinators.is_multiple_of(2) {
        return Err(Failure::usage(format!(
            "--coordinators {coordinators}: an even number survives no more losses than one less; say 1, 3, 5 or 7"
        )));
    }
    let workers = args.workers.unwrap_or(4);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = u32::try_from(processors).unwrap_or(u32::MAX) / workers.max(1);
    let slots = args.slots.unwrap_or_else(|| share.max(1));
    let ports = ports(coordinators, args.base_port)?;
    let nodes = ports.iter().zip(1..).map(|(port, number): (&u16, u32)| Member {
        name: format!("node-{number}"),
        address: format!("{}:{port}", Ipv4Addr::LOCALHOST),
        ..Member::default()
    });
    let workers = (1..=workers).map(|number| Member { name: format!("w{number}"), slots, ..Member::default() });
    Ok(Roster::new(nodes.collect(), workers.collect()))
}

/// Ports on which nothing listens, outside of those that connections are given when they leave.
fn ports(count: u32, base: Option<u16>) -> Result<Vec<u16>, Failure> {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    if let Some(base) = base {
        let last = u32::from(base) + count - 1;
        let last = u16::try_from(last).map_err(|_| Failure::usage(format!("--base-port {base} is too high")))?;
        for port in base..=last {
            free(port).map_err(|error| Failure::usage(format!("port {port} cannot be had: {error}")))?;
        }
        return Ok((base..=last).collect());
    }
    let (taken, mut held) = (ephemeral_ports(), Vec::new());
    for _ in 0..CLUSTER_PORT_TRIES_MAX {
        let port = rand::rng().random_range(PORT_MIN..=u16::MAX);
        if let (false, Ok(listener)) = (taken.contains(&port), free(port)) {
            // Held until all are found, so that none is found twice.
            held.push((port, listener));
        }
        if held.len() == count as usize {
            return Ok(held.iter().map(|(port, _)| *port).collect());
        }
    }
    Err(Failure::cluster(format!("no {count} free ports were found: say --base-port PORT")))
}

async fn start_all(home: &Home, roster: &mut Roster) -> Result<(), Failure> {
    for name in roster.members().map(|one| one.name.clone()).collect::<Vec<_>>() {
        spawn(home, roster, &name)?;
    }
    wait(home, roster, |seen| seen.is_whole(), "the cluster is not whole").await
}

/// Starts the process of a member and writes down which it is.
fn spawn(home: &Home, roster: &mut Roster, name: &str) -> Result<u32, Failure> {
    let args = arguments(home, roster, name)?;
    let process = Process::start(args, home.root(), &home.log(name))?;
    let pid = process.pid;
    roster.member_mut(name)?.process = Some(process);
    home.write(roster)?;
    Ok(pid)
}

fn arguments(home: &Home, roster: &mut Roster, name: &str) -> Result<Vec<OsString>, Failure> {
    let everybody = roster.addresses();
    let others: Vec<&Member> = roster.coordinators.iter().filter(|one| one.name != name).collect();
    let others = others.iter().map(|one| format!("{}={}", one.name, one.address)).collect::<Vec<_>>().join(",");
    let member = roster.member_mut(name)?;
    let mut args: Vec<OsString> = match member.address.is_empty() {
        true => ["worker", "--coordinator", &everybody, "--name", name, "--slots", &member.slots.to_string()]
            .map(OsString::from)
            .into(),
        false => ["coordinator", "--node-id", name, "--listen", &member.address].map(OsString::from).into(),
    };
    if !member.address.is_empty() && !others.is_empty() {
        args.extend(["--enable-redundancy", "--peers", &others].map(OsString::from));
    }
    args.push("--data-dir".into());
    args.push(home.data(name).into());
    Ok(args)
}

/// Starts a member again, and waits until it does its work; gives the number of its process.
pub(super) async fn start_member(home: &Home, roster: &mut Roster, name: &str) -> Result<u32, Failure> {
    if let Some(process) = &roster.member_mut(name)?.process
        && process.is_alive()?
    {
        return Err(Failure::usage(format!("{name} runs already (process {})", process.pid)));
    }
    let before = look(roster).await?;
    let session = |seen: &Seen| {
        let worker = seen.workers.iter().find(|one| one.name == name);
        worker.and_then(|one| one.row.as_ref()).map(|row| row.session)
    };
    let old = session(&before);
    let pid = spawn(home, roster, name)?;
    let works = |seen: &Seen| match seen.node(name) {
        Some(node) => node.said.as_ref().is_some_and(|said| said.waiting.is_empty() && !said.leader.is_empty()),
        // The session of before its end may be remembered still.
        None => session(seen).is_some_and(|session| Some(session) != old),
    };
    let mut roster = roster.clone();
    // Others may be down: that is what this command is for.
    let own = |one: &Member| one.name == name || !one.address.is_empty();
    roster.workers.retain(own);
    wait_for(home, &roster, name, works).await?;
    Ok(pid)
}

async fn wait_for(home: &Home, roster: &Roster, name: &str, works: impl Fn(&Seen) -> bool) -> Result<(), Failure> {
    let until = Instant::now() + CLUSTER_UP_MAX;
    loop {
        let seen = look(roster).await?;
        if works(&seen) {
            return Ok(());
        }
        let lives = seen
            .nodes
            .iter()
            .map(|one| (&one.name, one.pid))
            .chain(seen.workers.iter().map(|one| (&one.name, one.pid)));
        let lives = lives.filter(|(one, _)| *one == name).any(|(_, pid)| pid.is_some());
        if !lives || Instant::now() >= until {
            let what = if lives { "is not in the cluster in time" } else { "ended" };
            return Err(Failure::cluster(format!("{name} {what}: {}", home.last_words(name))));
        }
        tokio::time::sleep(CLUSTER_POLL).await;
    }
}

/// Waits for all of it. Whoever ends meanwhile is the reason why it does not come.
async fn wait(home: &Home, roster: &Roster, done: impl Fn(&Seen) -> bool, what: &str) -> Result<(), Failure> {
    let until = Instant::now() + CLUSTER_UP_MAX;
    loop {
        let seen = look(roster).await?;
        if done(&seen) {
            return Ok(());
        }
        let nodes = seen.nodes.iter().map(|one| (&one.name, one.pid));
        let ended = nodes.chain(seen.workers.iter().map(|one| (&one.name, one.pid))).find(|(_, pid)| pid.is_none());
        if let Some((name, _)) = ended {
            return Err(Failure::cluster(format!("{name} ended: {}", home.last_words(name))));
        }
        if Instant::now() >= until {
            let missing = missing(&seen);
            let words = missing.first().map(|name| format!(": {}", home.last_words(name))).unwrap_or_default();
            let (missing, seconds) = (missing.join(", "), CLUSTER_UP_MAX.as_secs());
            return Err(Failure::cluster(format!("{what} after {seconds} s, missing are {missing}{words}")));
        }
        tokio::time::sleep(CLUSTER_POLL).await;
    }
}

/// Who does not do its work yet.
fn missing(seen: &Seen) -> Vec<String> {
    let nodes = seen.nodes.iter().filter(|one| one.said.as_ref().is_none_or(|said| said.leader.is_empty()));
    let workers = seen.workers.iter().filter(|one| one.row.is_none());
    nodes.map(|one| one.name.clone()).chain(workers.map(|one| one.name.clone())).collect()
}
