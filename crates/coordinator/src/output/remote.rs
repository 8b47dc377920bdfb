//! Output that is on the machine of the worker that ran the attempt: read part by part through its session.

use std::time::Duration;

use muster_proto::v1::OutputPart;
use tokio::time::Instant;
use tonic::Status;

use super::{Cut, Reader};
use crate::limits::{OUTPUT_POLL_MS, OUTPUT_WORKER_MS_MAX};
use crate::output_relay::{NoPart, part};

impl Reader {
    pub(super) async fn read_remote(&mut self) -> Result<(), Cut> {
        loop {
            let was_live = self.file.live;
            let part = self.part().await?;
            if !part.error.is_empty() {
                let (worker, what) = (&self.file.worker, &self.file.what);
                let text = format!("worker {worker} cannot read the output of {what}: {}", part.error);
                return Err(Status::data_loss(text).into());
            }
            if !part.data.is_empty() {
                self.send_bytes(part.data, false).await?;
                continue;
            }
            if was_live && !self.file.live {
                // It ended while it was read: what it wrote last may have come after that.
                continue;
            }
            if !self.goes_on(&part).await? {
                return self.send(Vec::new(), true).await.map_err(Cut::from);
            }
        }
    }

    /// All that there is now was sent. `false`: nothing follows, and nothing is missing.
    async fn goes_on(&mut self, part: &OutputPart) -> Result<bool, Cut> {
        let file = &self.file;
        if file.live && self.request.follow {
            self.pause().await?;
            self.look_again().await?;
            return Ok(true);
        }
        if file.live && !part.found {
            return Err(Status::not_found(format!("{} has not started yet: there is no output", file.what)).into());
        }
        if file.live || file.never_started || file.is_empty() {
            return Ok(false);
        }
        if !part.found {
            return Err(file.lost_at_worker("has no file of it").into());
        }
        if file.incomplete || file.bytes.is_some_and(|bytes| bytes > part.file_bytes) {
            return Err(file.cut_at_worker(part.file_bytes).into());
        }
        Ok(false)
    }

    /// The next part. A worker that is away for a moment, because it or the leader changed its stream, is waited for.
    async fn part(&mut self) -> Result<OutputPart, Cut> {
        let give_up_at = Instant::now() + Duration::from_millis(OUTPUT_WORKER_MS_MAX);
        loop {
            let of = (self.file.task, self.file.attempt);
            let asked = part(&self.shared, &self.file.worker, of, self.offset);
            let answer = tokio::select! {
                answer = asked => answer,
                () = self.feed.gone() => return Err(Cut::Gone),
            };
            let why = match answer {
                Ok(part) => return Ok(part),
                Err(why) => why,
            };
            // While the attempt holds its lease, its worker is expected back.
            let patient = self.file.live && self.request.follow;
            let hopeless = why == NoPart::Gone || Instant::now() >= give_up_at;
            if hopeless && !patient {
                return Err(self.no_part(why));
            }
            tokio::time::sleep(Duration::from_millis(OUTPUT_POLL_MS)).await;
            self.look_again().await?;
        }
    }

    fn no_part(&self, why: NoPart) -> Cut {
        let worker = &self.file.worker;
        match why {
            NoPart::Gone | NoPart::Away if self.file.is_empty() => Cut::Complete,
            NoPart::Gone | NoPart::Away => self.file.lost_at_worker("is not connected").into(),
            NoPart::Busy => {
                Status::resource_exhausted(format!("too many outputs are read from worker {worker}: try again later"))
                    .into()
            }
            NoPart::Late => {
                let what = &self.file.what;
                Status::unavailable(format!("worker {worker} does not answer for the output of {what}: ask again"))
                    .into()
            }
        }
    }
}
