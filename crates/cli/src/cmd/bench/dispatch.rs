//! `muster bench dispatch`: from a submission to the start of its task on an idle worker, and how many tasks that do nothing go
//! through everything in a second: submitted, leased, run in a warm slot, recorded by a majority, told to the client.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_client::{Access, Client};
use muster_proto::v1::{CommandSpec, SealRun, TaskSpec, Verdict};

use super::environment::Environment;
use super::load;
use super::nodes::Nodes;
use super::report::{Figure, Report};
use super::worker::Worker;

/// How long a task may take to end.
const READY_MAX: Duration = Duration::from_secs(60);
/// Share of the latencies that may be above the second limit.
const WORST_SHARE: f64 = 0.99;

/// Arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct DispatchBench {
    /// How many single tasks are submitted, one after the other
    #[arg(long, value_name = "N", default_value = "300", value_parser = clap::value_parser!(u32).range(10..=100_000))]
    tasks: u32,
    /// Tasks that do nothing, in one run
    #[arg(long, value_name = "N", default_value = "20000", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    noops: u32,
    /// How often that run is measured; the median counts
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    trials: u32,
}

impl DispatchBench {
    /// Measures and prints the table; `false` if a limit is not kept.
    pub(super) async fn measure(&self, json: bool) -> anyhow::Result<bool> {
        let dir = tempfile::tempdir()?;
        let nodes = Nodes::start(dir.path(), 3).await?;
        let slots = Environment::observe(dir.path())?.cores();
        let worker = Worker::start(dir.path(), &nodes, "bench", slots, 0)?;
        let client = Client::connect_tcp(&nodes.addresses()[nodes.leader().await?], &Access::default()).await?;
        Worker::known(&client, 1).await?;
        let mut figures = self.latency(dir.path(), &client).await?;
        figures.extend(self.throughput(dir.path(), &nodes)?);
        drop(worker);
        let report = Report { v: 1, bench: "dispatch", environment: Environment::observe(dir.path())?, figures };
        report.print(json)?;
        Ok(report.kept())
    }

    /// A task says that it has started by opening a pipe: in turns through muster, and started by this process itself.
    async fn latency(&self, dir: &Path, client: &Client) -> anyhow::Result<Vec<Figure>> {
        let pipe = dir.join("started");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .context("cannot make a pipe")?;
        let (mut through, mut bare) = (Vec::new(), Vec::new());
        for number in 0..self.tasks {
            let run_id = format!("dispatch-{number}");
            load::open(client, &run_id).await?;
            let started = opened(&pipe);
            let begun = Instant::now();
            client.add(add(&run_id, &pipe)).await?;
            through.push(started.await??.saturating_duration_since(begun).as_secs_f64() * 1e3);
            client.seal(SealRun { run_id: run_id.clone(), tasks: 1, partial: false }).await?;
            ended(client, &run_id).await?;

            let started = opened(&pipe);
            let begun = Instant::now();
            let mut child = Command::new("cp").arg("/dev/null").arg(&pipe).spawn().context("cannot start cp")?;
            bare.push(started.await??.saturating_duration_since(begun).as_secs_f64() * 1e3);
            child.wait()?;
        }
        let worst = |latencies: &[f64]| quantile(latencies, WORST_SHARE);
        let (through99, bare99) = (worst(&through), worst(&bare));
        Ok(vec![
            Figure::of("submitted to started on an idle worker, p50", "ms", through, Some(3.0)),
            Figure::of("the same, p99", "ms", vec![through99], Some(10.0)),
            Figure::of("floor: the same command started directly, p50", "ms", bare, None),
            Figure::of("the same, p99", "ms", vec![bare99], None),
        ])
    }

    /// A whole `muster run` on the cluster, of an adapter whose tests cost nothing, beside its command alone.
    fn throughput(&self, dir: &Path, nodes: &Nodes) -> anyhow::Result<Vec<Figure>> {
        let project = dir.join("project");
        std::fs::create_dir_all(&project)?;
        std::fs::write(project.join("muster.toml"), adapter(self.noops))?;
        let (mut rates, mut walls) = (Vec::new(), Vec::new());
        for _ in 0..self.trials {
            let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
            command.args([
                "run",
                "--framework",
                "noop",
                "--workspace",
                "none",
                "--cluster",
                &nodes.addresses().join(","),
            ]);
            command.current_dir(&project).stdin(Stdio::null());
            let begun = Instant::now();
            let done = command.output().context("cannot start muster run")?;
            let wall = begun.elapsed().as_secs_f64();
            let said = String::from_utf8_lossy(&done.stdout);
            let expected = format!("{0} selected = {0} passed", self.noops);
            ensure!(done.status.success() && said.contains(&expected), "the run did not pass: {said}");
            walls.push(wall);
            rates.push(f64::from(self.noops) / wall);
        }
        let name = format!("muster run of {} tasks that do nothing, whole process", self.noops);
        Ok(vec![
            Figure::of(name, "s", walls, None),
            Figure::rate("tasks end to end in warm slots", "tasks/s", rates, Some(13_300.0)),
        ])
    }
}

/// Lists that many tests; each is passed by being named.
fn adapter(tests: u32) -> String {
    let awk = r#"BEGIN{for(i=1;i<ARGC;i++)print "ok " i " - " ARGV[i]; print "1.." ARGC-1}"#;
    format!(
        "[adapters.noop]\nlist = \"seq -f 'test-%g' {tests}\"\nrun = [\"awk\", '{awk}', \"{{ids}}\"]\nparse = \"tap\"\nbatch = 256\n"
    )
}

fn add(run_id: &str, pipe: &Path) -> muster_proto::v1::AddTasks {
    let argv = ["cp".into(), "/dev/null".into(), pipe.as_os_str().as_encoded_bytes().to_vec().into()];
    let command = CommandSpec { argv: argv.into(), cwd: b"/".to_vec().into(), ..Default::default() };
    let task = TaskSpec { name: "starts".into(), command: Some(command), ..Default::default() };
    muster_proto::v1::AddTasks { run_id: run_id.to_owned(), seq: 0, tasks: vec![task] }
}

/// When somebody opened the pipe for writing.
fn opened(pipe: &Path) -> tokio::task::JoinHandle<std::io::Result<Instant>> {
    let pipe: PathBuf = pipe.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut reader = File::open(pipe)?;
        let at = Instant::now();
        reader.read_to_end(&mut Vec::new())?;
        Ok(at)
    })
}

async fn ended(client: &Client, run_id: &str) -> anyhow::Result<()> {
    let until = Instant::now() + READY_MAX;
    while client.get(run_id).await?.verdict() == Verdict::Unspecified {
        ensure!(Instant::now() < until, "the task of {run_id} does not end");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
