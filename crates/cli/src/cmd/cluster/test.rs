//! `muster cluster test`: the leader is killed under load; then everything that may have gone wrong is looked for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use muster_proto::v1::{ListTasksRequest, TaskResult, TaskRow, TaskState};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::home::{Home, Roster};
use super::look::{ask, look};
use super::{kill_member, up};
use crate::args::local_cluster::TestArgs;
use crate::cmd::Context;
use crate::exit_code::{CommandResult, FAILED, Failure, OK};
use crate::limits::{CLUSTER_POLL, CLUSTER_TEST_MAX, CLUSTER_UP_MAX};
use crate::out;
use crate::report::sanitise;

/// How long each command takes, so that some run when the leader dies.
const COMMAND_SECONDS: &str = "0.02";
/// The leader dies when one in so many commands was started.
const KILL_AFTER_PART: u32 = 4;

/// What was looked at, and whether it is as it must be.
#[derive(Debug, Serialize)]
struct Check {
    ok: bool,
    text: String,
}

/// What was seen of the run.
struct Load {
    dir: PathBuf,
    id: String,
    tasks: u32,
}

/// The lines of `muster run --output json` that matter here.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Result {
        name: String,
        result: Option<String>,
    },
    Note {
        kind: String,
        text: String,
    },
    #[serde(other)]
    Other,
}

pub(super) async fn test(context: &Context, home: &Home, args: &TestArgs) -> CommandResult {
    let _lock = home.lock()?;
    let mut roster = home.read()?;
    let seen = look(&roster).await?;
    if !seen.is_whole() || roster.coordinators.len() < 3 || roster.workers.is_empty() {
        return Err(Failure::usage(
            "the test needs at least three coordinators and a worker, all running: see `muster cluster status`",
        ));
    }
    let leader = seen.leader.ok_or_else(|| Failure::cluster("nobody leads at the moment"))?;
    let load = Load::new(home, args.tasks)?;
    let mut run = load.start(&roster)?;
    load.until_started(args.tasks / KILL_AFTER_PART, &mut run).await?;
    let pid = kill_member(&mut roster, &leader).await?;
    let told = load.told()?;
    let mut checks = vec![check(
        told.len() < args.tasks as usize,
        format!(
            "{leader} (process {pid}) led and was killed with SIGKILL after {} of {} results",
            told.len(),
            args.tasks
        ),
    )];
    let ended = tokio::time::timeout(CLUSTER_TEST_MAX, run.wait()).await;
    let code = ended.ok().and_then(Result::ok).and_then(|status| status.code());
    checks.push(check(code == Some(0), format!("the run ended with exit code {code:?}").replace("Some(0)", "0")));
    checks.extend(load.checks(&roster, &told).await?);
    // Whatever was found, the node comes back: the cluster is left as it was.
    checks.extend(again(home, &mut roster, &leader).await?);
    report(context, &load, &checks)
}

fn check(ok: bool, text: String) -> Check {
    Check { ok, text }
}

impl Load {
    /// A directory with a file of commands, each of which leaves evidence of its start.
    fn new(home: &Home, tasks: u32) -> Result<Self, Failure> {
        let id = format!("cluster-test-{}", muster_proto::ids::run_id_from_random(rand::random()));
        let dir = home.test(&id);
        let load = Self { dir, id, tasks };
        let evidence = load.evidence().display().to_string().replace('\'', "'\\''");
        let line = |n| format!("task-{n}\tsh -c 'echo {n} >> \"$0\"; sleep {COMMAND_SECONDS}' '{evidence}'\n");
        let made = fs::create_dir_all(&load.dir);
        let made = made.and_then(|()| fs::write(load.dir.join("commands"), (0..tasks).map(line).collect::<String>()));
        made.and_then(|()| fs::write(load.evidence(), "")).map_err(|error| home.unusable(&error))?;
        Ok(load)
    }

    /// Every command writes its number there when it starts.
    fn evidence(&self) -> PathBuf {
        self.dir.join("started")
    }

    fn output(&self) -> PathBuf {
        self.dir.join("run.ndjson")
    }

    fn start(&self, roster: &Roster) -> Result<Child, Failure> {
        let failed = |error| Failure::cluster(format!("`muster run` cannot be started: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args([
            "run",
            "--cluster",
            &roster.addresses(),
            "--cmds",
            "commands",
            "--run-id",
            &self.id,
            "--workspace",
            "none",
        ]);
        command.args(["--output", "json"]).current_dir(&self.dir).stdin(Stdio::null()).kill_on_drop(true);
        command.env_remove("MUSTER_CLUSTER").env_remove("MUSTER_DATA_DIR");
        command.stdout(File::create(self.output()).map_err(failed)?);
        command.stderr(File::create(self.dir.join("run.err")).map_err(failed)?);
        command.spawn().map_err(failed)
    }

    fn started(&self) -> Result<BTreeMap<String, u32>, Failure> {
        let mut started = BTreeMap::new();
        for line in read(&self.evidence())?.lines() {
            *started.entry(line.to_owned()).or_insert(0) += 1;
        }
        Ok(started)
    }

    async fn until_started(&self, wanted: u32, run: &mut Child) -> Result<(), Failure> {
        let until = Instant::now() + CLUSTER_TEST_MAX;
        while self.started()?.len() < wanted as usize {
            let ended = run.try_wait().map_err(|error| Failure::cluster(error.to_string()))?;
            if ended.is_some() || Instant::now() >= until {
                let said = read(&self.dir.join("run.err"))?;
                let dir = self.dir.display();
                return Err(Failure::cluster(format!("the run does not run its commands, see {dir}\n{said}")));
            }
            tokio::time::sleep(CLUSTER_POLL).await;
        }
        Ok(())
    }

    fn lines(&self) -> Result<Vec<Line>, Failure> {
        // The last line may be in the middle of being written.
        Ok(read(&self.output())?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Results that the client was told, by the name of their task; each of them is acknowledged.
    fn told(&self) -> Result<Vec<(String, String)>, Failure> {
        let results = self.lines()?.into_iter().filter_map(|line| match line {
            Line::Result { name, result } => Some((name, result.unwrap_or_default())),
            Line::Note { .. } | Line::Other => None,
        });
        Ok(results.collect())
    }

    async fn checks(&self, roster: &Roster, before: &[(String, String)]) -> Result<Vec<Check>, Failure> {
        let (all, stored) = (self.told()?, self.stored(roster).await?);
        let names: BTreeMap<&str, &str> = all.iter().map(|(name, result)| (name.as_str(), result.as_str())).collect();
        let once = names.len() == all.len() && all.len() == self.tasks as usize;
        let passed = stored.iter().filter(|row| is_done_once(row)).count();
        let kept = before.iter().filter(|(name, _)| stored.iter().any(|row| row.name == *name && is_done_once(row)));
        let kept = kept.count();
        let started = self.started()?;
        let repeated: Vec<&str> = started.iter().filter(|(_, times)| **times != 1).map(|(n, _)| n.as_str()).collect();
        let election = self.lines()?.into_iter().find_map(|line| match line {
            Line::Note { kind, text } if kind == "leader_changed" => Some(text),
            Line::Note { .. } | Line::Result { .. } | Line::Other => None,
        });
        let tasks = self.tasks as usize;
        Ok(vec![
            check(
                kept == before.len(),
                format!("{kept} of {} results acknowledged before the kill are kept", before.len()),
            ),
            check(
                once,
                format!("{} results for {tasks} tasks were told to the client, {} different", all.len(), names.len()),
            ),
            check(
                stored.len() == tasks && passed == tasks,
                format!("{passed} of {} tasks passed in their only attempt", stored.len()),
            ),
            check(
                started.len() == tasks && repeated.is_empty(),
                format!(
                    "{} of {tasks} commands were started, {} more than once {repeated:?}",
                    started.len(),
                    repeated.len()
                )
                .replace(" []", ""),
            ),
            check(election.is_some(), election.unwrap_or_else(|| "the run said nothing of a change of leaders".into())),
        ])
    }

    /// What the cluster holds, asked of every coordinator until one answers.
    async fn stored(&self, roster: &Roster) -> Result<Vec<TaskRow>, Failure> {
        for one in &roster.coordinators {
            let asked = ask(&one.address, async |client| {
                let mut rows = Vec::new();
                let mut request = ListTasksRequest { run_id: self.id.clone(), ..ListTasksRequest::default() };
                loop {
                    let page = client.tasks(request.clone()).await?;
                    rows.extend(page.rows);
                    if page.next_index == 0 {
                        return Ok(rows);
                    }
                    request.from_index = page.next_index;
                }
            });
            if let Some(rows) = asked.await {
                return Ok(rows);
            }
        }
        Err(Failure::cluster("no coordinator says what became of the tasks"))
    }
}

fn is_done_once(row: &TaskRow) -> bool {
    row.state() == TaskState::Ended && row.result() == TaskResult::Passed && row.attempts.len() == 1
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::cluster(format!("{}: {error}", path.display())))
}

/// Starts the node that was killed, and waits until all nodes agree.
async fn again(home: &Home, roster: &mut Roster, name: &str) -> Result<Vec<Check>, Failure> {
    let leader = look(roster).await?;
    let goal = leader.leading().and_then(|one| one.said.as_ref()).map_or(0, |said| said.applied_index);
    let pid = up::start_member(home, roster, name).await?;
    let until = Instant::now() + CLUSTER_UP_MAX;
    let applied = loop {
        let applied =
            look(roster).await?.node(name).and_then(|one| one.said.as_ref()).map_or(0, |said| said.applied_index);
        if applied >= goal || Instant::now() >= until {
            break applied;
        }
        tokio::time::sleep(CLUSTER_POLL).await;
    };
    let caught_up = format!("{name} (process {pid}) runs again and has applied entry {applied}; the leader had {goal}");
    Ok(vec![check(applied >= goal && goal > 0, caught_up), agreement(roster).await])
}

/// All nodes have the same state. Compared at one index: they are asked until none has moved between two answers.
async fn agreement(roster: &Roster) -> Check {
    let until = Instant::now() + CLUSTER_UP_MAX;
    loop {
        let asked = roster.coordinators.iter().map(|one| ask(&one.address, async |client| client.checksum().await));
        let answers: Vec<_> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        let all = answers.len() == roster.coordinators.len();
        let one_index = answers.windows(2).all(|pair| pair[0].applied_index == pair[1].applied_index);
        if let (true, true, Some(first)) = (all, one_index, answers.first()) {
            let agree = answers.iter().all(|answer| answer.checksum == first.checksum);
            let (count, index) = (answers.len(), first.applied_index);
            let text = match agree {
                true => format!("{count} nodes have the state {} at entry {index}", first.checksum),
                false => {
                    let each = answers.iter().map(|one| format!("{}: {}", one.node, one.checksum)).collect::<Vec<_>>();
                    format!("the states differ at entry {index}: {}", each.join(", "))
                }
            };
            return check(agree, text);
        }
        if Instant::now() >= until {
            let each = answers.iter().map(|one| format!("{}: {}", one.node, one.applied_index)).collect::<Vec<_>>();
            return check(false, format!("the nodes do not come to the same entry: {}", each.join(", ")));
        }
        tokio::time::sleep(CLUSTER_POLL).await;
    }
}

fn report(context: &Context, load: &Load, checks: &[Check]) -> CommandResult {
    let all = checks.iter().all(|check| check.ok);
    if context.json() {
        let body = serde_json::json!({ "passed": all, "run": load.id, "evidence": load.dir, "checks": checks });
        out::put_json("cluster_test", body)?;
    } else {
        for check in checks {
            let word = if check.ok { "ok    " } else { "FAILED" };
            out::put(&format!("{word}  {}\n", sanitise::line(&check.text)))?;
        }
        let verdict = if all { "everything held" } else { "something did NOT hold" };
        out::put(&format!("{verdict}; evidence in {}\n", load.dir.display()))?;
    }
    Ok(if all { OK } else { FAILED })
}
