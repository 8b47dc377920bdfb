//! The keeper's one loop: wait, reap, listen, enforce, collect, record, start, tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use muster_proto::v1::{KeeperExited, KeeperStarted, Start, StopCause, keeper_event};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::attempt::{Attempt, Due, not_started, spawn_failed};
use super::circumstances::Circumstances;
use super::launch::Launched;
use super::link::Link;
use super::orphans::{Orphans, signal_all, signal_tree};
use super::output::Scratch;
use super::runner::{Next, Runner, Runners, Template};
use super::spawn::{Context, failed};
use super::sys::{child_signals, keep_descriptors_to_ourselves, reap};
use super::{Options, complain};
use crate::cgroup;
use crate::clock;
use crate::limits::{DELIVER_QUEUE_PER_SLOT_MIN, DELIVER_WAIT_MS, WATCH_MS};
use crate::procfs;
use crate::spool::{Header, SpoolWriter};

/// Room for one attempt at a time.
pub(super) struct Slot {
    pub(super) scratch: Scratch,
    pub(super) attempt: Option<Attempt>,
    /// The process of the attempt, if it was started here.
    pub(super) launched: Option<Launched>,
    /// Whose process the attempt is, or will be.
    pub(super) runner: Option<Runner>,
}

/// The time of one turn of the loop.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) monotonic_us: u64,
    pub(super) monotonic_ms: u64,
    pub(super) boottime_ms: u64,
}

impl Now {
    fn read() -> Self {
        let monotonic_us = clock::monotonic_us();
        Self { monotonic_us, monotonic_ms: monotonic_us / 1_000, boottime_ms: clock::boottime_ms() }
    }
}

/// Everything the keeper knows.
pub(super) struct Keeper {
    pub(super) options: Options,
    pub(super) link: Link,
    signals: OwnedFd,
    pub(super) null: File,
    pub(super) spool: SpoolWriter,
    /// By key of the run; `None` for one that cannot be used.
    pub(super) contexts: BTreeMap<u64, Option<Context>>,
    pub(super) queue: VecDeque<Start>,
    pub(super) slots: Vec<Slot>,
    pub(super) orphans: Orphans,
    /// Until when the leases hold, on the clock that counts suspended time.
    pub(super) until_ms: u64,
    pub(super) next_order: u64,
    /// Exit when nothing is left to do.
    pub(super) finishing: bool,
    /// The worker is gone.
    pub(super) abandoned: bool,
    /// Ended, and neither in the spool nor sent.
    pub(super) ended: Vec<KeeperExited>,
    watch_at_ms: u64,
    /// Ended, known to the worker, and not in the spool, which could not be written. Until they are durable elsewhere
    /// nothing new is started: it would have to run again if muster died now.
    pub(super) unspooled: BTreeSet<u64>,
    /// When the worker is told of what has ended, if nothing is a reason to tell it before.
    deliver_at_ms: Option<u64>,
    pub(super) runners: Runners,
    pub(super) circumstances: Circumstances,
}

impl Keeper {
    pub(super) fn new(options: Options) -> io::Result<Self> {
        // Fails if this process leads its group already, which serves as well: a terminal's signals do not come here.
        let _ = rustix::process::setsid();
        let signals = child_signals()?;
        if let Err(error) = keep_descriptors_to_ourselves() {
            complain(&format!(
                "descriptors that muster inherited are open in tests too: {error} (Linux 5.11 is needed)"
            ));
        }
        let link = Link::new()?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let pid = std::process::id();
        let stat = procfs::stat(pid as i32)?.ok_or_else(|| io::Error::other("this process is not in /proc"))?;
        let header = Header { pid, start_ticks: stat.start_ticks, cookie: options.cookie };
        let spool = SpoolWriter::open(&options.spool, header).map_err(io::Error::other)?;
        // Without one, what is started is found by its marks.
        let _ = cgroup::enter(&options.spool, options.cookie);
        let slot =
            |slot| Slot { scratch: Scratch::new(&options.spool, slot), attempt: None, launched: None, runner: None };
        Ok(Self {
            link,
            signals,
            null: File::open("/dev/null")?,
            spool,
            contexts: BTreeMap::new(),
            queue: VecDeque::new(),
            slots: (0..options.slots as usize).map(slot).collect(),
            orphans: Orphans::new(options.cookie, options.session)?,
            until_ms: 0,
            next_order: 1,
            finishing: false,
            abandoned: false,
            ended: Vec::new(),
            watch_at_ms: 0,
            unspooled: BTreeSet::new(),
            deliver_at_ms: None,
            runners: Runners::default(),
            circumstances: Circumstances::new(&options.spool),
            options,
        })
    }

    /// Runs until the worker says so, or is gone, and nothing is left.
    pub(super) fn run(&mut self) -> io::Result<()> {
        self.turns().or_else(|error| {
            // Not without having killed everything.
            complain(&error.to_string());
            self.link.close();
            self.turns()
        })
    }

    fn turns(&mut self) -> io::Result<()> {
        while !self.is_done() {
            let (heard, child_ended) = self.wait()?;
            let now = Now::read();
            if child_ended {
                self.reap_all(now)?;
            }
            if heard {
                for request in self.link.receive()? {
                    self.request(now, request)?;
                }
            }
            self.receive_from_runners(now)?;
            self.enforce(now)?;
            self.collect(now)?;
            self.record()?;
            self.start_queued(now)?;
            self.record()?;
            self.tell(now)?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let idle = self.queue.is_empty() && self.attempts().next().is_none() && self.orphans.is_empty();
        // That nobody listens any more may have shown while something was told: nothing else would wake this loop.
        let alone = self.abandoned || !self.link.is_open();
        idle && (alone || (self.finishing && !self.link.wants_to_write()))
    }

    pub(super) fn attempts(&self) -> impl Iterator<Item = &Attempt> + Clone {
        attempts(&self.slots, &self.runners)
    }

    fn attempts_mut(&mut self) -> impl Iterator<Item = &mut Attempt> {
        let templates = self.runners.templates_mut().filter_map(|template| template.process.as_mut());
        self.slots.iter_mut().filter_map(|slot| slot.attempt.as_mut()).chain(templates)
    }

    /// Waits for something to do. Returns whether the worker has spoken and whether a child has ended.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let timeout = self.wait_ms(Now::read()).map(|ms| Timespec {
            tv_sec: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
            tv_nsec: ((ms % 1_000) * 1_000_000) as _,
        });
        let blocked = self.deliver_at_ms.is_none() && self.link.wants_to_write();
        let interest = if blocked { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if self.link.is_open() {
            fds.push(PollFd::from_borrowed_fd(self.link.fd(), interest));
        }
        let link = if self.link.is_open() { fds.len() - 1 } else { usize::MAX };
        for (fd, writes) in self.runners.fds() {
            let interest = if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            fds.push(PollFd::from_borrowed_fd(fd, interest));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((false, false)),
            Err(error) => return Err(error.into()),
        }
        let spoke = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let heard = fds.get(link).is_some_and(|link| link.revents().intersects(spoke));
        Ok((heard, fds[0].revents().contains(PollFlags::IN)))
    }

    /// Milliseconds until something is due; `None` if nothing is.
    fn wait_ms(&self, now: Now) -> Option<u64> {
        let in_monotonic = |at: u64| at.saturating_sub(now.monotonic_ms);
        let attempts = self.attempts().filter_map(Attempt::next_ms).map(in_monotonic);
        let busy = self.attempts().next().is_some() || !self.queue.is_empty();
        let watch = (busy || !self.orphans.is_empty()).then(|| in_monotonic(self.watch_at_ms));
        let fence = (busy && self.until_ms > now.boottime_ms).then(|| self.until_ms - now.boottime_ms);
        let deliver = self.deliver_at_ms.map(in_monotonic);
        let runners = self.runners_due_ms().map(in_monotonic);
        attempts.chain(watch).chain(fence).chain(deliver).chain(runners).min()
    }

    fn reap_all(&mut self, now: Now) -> io::Result<()> {
        // One read takes every pending signal of this number; how many children it stands for is not said.
        let mut info = [0; 128 * 4];
        match rustix::io::read(&self.signals, &mut info) {
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut any = false;
        while let Some(reaped) = reap()? {
            any = true;
            let is_it = |attempt: &&mut Attempt| attempt.pid == reaped.pid && attempt.root_is_alive();
            let ended = self.attempts_mut().find(is_it);
            ended.into_iter().for_each(|attempt| attempt.root_ended(reaped, now.monotonic_us));
            self.launch_ended(reaped.pid)?;
        }
        if any { self.look_for_orphans(now) } else { Ok(()) }
    }

    fn look_for_orphans(&mut self, now: Now) -> io::Result<()> {
        self.orphans.refresh(attempts(&self.slots, &self.runners))?;
        if self.orphans.is_empty() {
            return Ok(());
        }
        let templates = self.runners.templates_mut().filter_map(|template| template.process.as_mut());
        for attempt in self.slots.iter_mut().filter_map(|slot| slot.attempt.as_mut()).chain(templates) {
            if !attempt.root_is_alive() && self.orphans.of(attempt.token).next().is_some() {
                attempt.has_survivors(now.monotonic_ms);
            }
        }
        signal_all(&self.orphans.ended(), Signal::KILL);
        Ok(())
    }

    /// Kills what must not run any longer.
    fn enforce(&mut self, now: Now) -> io::Result<()> {
        if !self.link.is_open() && !self.abandoned {
            self.abandon(now);
        }
        if now.boottime_ms >= self.until_ms {
            self.fence(now)?;
        }
        if self.watch_at_ms <= now.monotonic_ms {
            self.watch_at_ms = now.monotonic_ms + WATCH_MS;
            self.watch(now)?;
        }
        self.enforce_runners(now)?;
        let templates = self.runners.templates_mut().filter_map(|template| template.process.as_mut());
        for attempt in self.slots.iter_mut().filter_map(|slot| slot.attempt.as_mut()).chain(templates) {
            while let Some(due) = attempt.due(now.monotonic_ms) {
                let orphans: Vec<i32> = self.orphans.of(attempt.token).collect();
                let signal = if due == Due::Kill { Signal::KILL } else { Signal::TERM };
                let count = signal_tree(attempt, &orphans, signal);
                attempt.count_survivors_killed(count);
            }
        }
        Ok(())
    }

    /// The worker is gone: nobody renews the leases, nobody is told.
    fn abandon(&mut self, now: Now) {
        self.abandoned = true;
        self.queue.clear();
        self.attempts_mut().for_each(|attempt| attempt.forsake(now.monotonic_ms));
    }

    /// The leases have not been renewed in time.
    fn fence(&mut self, now: Now) -> io::Result<()> {
        // A suite may be loaded before the first lease: nothing has run out then.
        if self.until_ms > 0 {
            self.attempts_mut().for_each(|attempt| attempt.kill(StopCause::Fenced, now.monotonic_ms));
        }
        while let Some(start) = self.queue.pop_front() {
            self.link.push(keeper_event::Kind::Exited(not_started(&start)))?;
        }
        Ok(())
    }

    /// What no event tells of: outputs grow, and an orphan shows a mark that it did not show before.
    fn watch(&mut self, now: Now) -> io::Result<()> {
        for slot in &mut self.slots {
            let Some(attempt) = &mut slot.attempt else { continue };
            if slot.runner.as_ref().is_some_and(|runner| runner.printed_bytes() > self.options.output_bytes_max) {
                attempt.kill(StopCause::OutputLimit, now.monotonic_ms);
            }
            match slot.scratch.bytes() {
                Ok(bytes) if bytes > self.options.output_bytes_max => {
                    attempt.kill(StopCause::OutputLimit, now.monotonic_ms);
                }
                // An output that cannot be looked at or moved now is reported at the end, when it is tried again.
                _ => drop(slot.scratch.place(&attempt.output_path)),
            }
        }
        if self.orphans.is_empty() { Ok(()) } else { self.look_for_orphans(now) }
    }

    /// Takes out the attempts of which nothing is left.
    fn collect(&mut self, now: Now) -> io::Result<()> {
        let before = self.attempts().count();
        let reusable = !self.orphans.any_unknown();
        for slot in &mut self.slots {
            let over = |attempt: &mut Attempt| !attempt.root_is_alive() && self.orphans.none_of(attempt);
            if slot.runner.is_some() {
                continue;
            }
            let Some(attempt) = slot.attempt.take_if(over) else { continue };
            if attempt.is_forsaken() {
                slot.scratch.discard();
                continue;
            }
            let output = slot.scratch.finish(&attempt.output_path, reusable);
            let mut exited = attempt.exited(output);
            self.circumstances.look(&mut exited);
            self.ended.push(exited);
        }
        self.collect_runners(now)?;
        // With it gone, it may have become clear that an orphan without a mark is of an attempt that is over.
        if reusable || self.attempts().count() == before { Ok(()) } else { self.look_for_orphans(now) }
    }

    fn start_queued(&mut self, now: Now) -> io::Result<()> {
        if !self.unspooled.is_empty() || now.boottime_ms >= self.until_ms {
            return Ok(());
        }
        self.feed_runners(now);
        while !self.queue.is_empty() {
            let is_free = |slot: &Slot| slot.attempt.is_none() && slot.runner.is_none();
            let Some(slot) = self.slots.iter().position(is_free) else {
                self.make_room(now);
                return Ok(());
            };
            match self.next_for_free_slot(now)? {
                Next::Command(at) => self.start_command(slot, at)?,
                Next::Runner(at, alone) => self.make_runner(slot, at, alone, now)?,
                Next::Nothing => return Ok(()),
            }
        }
        Ok(())
    }

    fn start_command(&mut self, slot: usize, at: usize) -> io::Result<()> {
        let Some(start) = self.queue.remove(at) else { return Ok(()) };
        fail::fail_point!("keeper_before_spawn");
        self.launch(slot, start, false)
    }

    fn launch(&mut self, slot: usize, start: Start, again: bool) -> io::Result<()> {
        let (began_us, wall_ms) = (clock::monotonic_us(), clock::wall_ms());
        match self.spawn(slot, &start, again) {
            Ok(launched) => {
                let pid = launched.pid;
                let started = KeeperStarted { token: start.token, pid: pid.unsigned_abs(), slot: slot as u32 };
                self.slots[slot].attempt = Some(Attempt::new(start, pid, self.next_order, began_us, wall_ms));
                self.slots[slot].launched = Some(launched);
                self.next_order += 1;
                self.link.push(keeper_event::Kind::Started(started))?;
            }
            Err(failure) => self.ended.push(spawn_failed(&start, wall_ms, failure)),
        }
        Ok(())
    }

    /// The process has ended. If it never came to execute its program, the program is looked for once more, and then
    /// the attempt could not be started.
    fn launch_ended(&mut self, pid: i32) -> io::Result<()> {
        let is_it = |launched: &mut Launched| launched.pid == pid;
        let mut slots = self.slots.iter_mut().enumerate();
        let found = slots.find_map(|(at, slot)| Some((at, slot.launched.take_if(is_it)?)));
        let Some((slot, launched)) = found else { return Ok(()) };
        let again = launched.again;
        let Some(error) = launched.ended() else { return Ok(()) };
        let Some(attempt) = self.slots[slot].attempt.take() else { return Ok(()) };
        if attempt.is_forsaken() {
            return Ok(());
        }
        let (start, wall_ms, stopped) = attempt.into_start();
        if again || stopped {
            let run = start.task.unwrap_or_default().run;
            let failure = failed(self.contexts.get(&run).and_then(Option::as_ref), &start, error);
            self.ended.push(spawn_failed(&start, wall_ms, failure));
            return Ok(());
        }
        self.launch(slot, start, true)
    }

    /// First the spool, then the worker: what the worker knows of, a successor can find.
    fn record(&mut self) -> io::Result<()> {
        if !self.ended.is_empty() {
            fail::fail_point!("keeper_before_spool");
            if let Err(error) = self.spool.append(&self.ended) {
                complain(&format!("cannot write the spool: {error}; nothing is started until what ended is recorded"));
                self.unspooled.extend(self.ended.iter().map(|exited| exited.token));
            }
            fail::fail_point!("keeper_after_spool");
            for exited in self.ended.drain(..) {
                self.link.push(keeper_event::Kind::Exited(exited))?;
            }
        }
        Ok(())
    }

    /// Tells the worker, or waits a little for company while there is enough to do without it.
    fn tell(&mut self, now: Now) -> io::Result<()> {
        let busy = self.unspooled.is_empty() && self.queue.len() >= self.slots.len() * DELIVER_QUEUE_PER_SLOT_MIN;
        if busy && self.link.wants_to_write() {
            let at = *self.deliver_at_ms.get_or_insert(now.monotonic_ms + DELIVER_WAIT_MS);
            if now.monotonic_ms < at {
                return Ok(());
            }
        }
        self.deliver_at_ms = None;
        self.link.flush()
    }
}

/// Everything that has a process: what runs in the slots, and the templates.
fn attempts<'a>(slots: &'a [Slot], runners: &'a Runners) -> impl Iterator<Item = &'a Attempt> + Clone {
    let templates = runners.templates().filter_map(|template: &Template| template.process.as_ref());
    slots.iter().filter_map(|slot| slot.attempt.as_ref()).chain(templates)
}
