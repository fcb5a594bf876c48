//! The steps of a build that happen on this side: what is read here, and what of the context goes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strata_proto::builder::v1 as pb;

use crate::render::progress::{Own, OwnPart, Progress};

/// Number of the step that reads the Dockerfile.
pub const DEFINITION: u32 = 1;
/// Number of the step that reads the ignore file.
pub const IGNORE: u32 = 2;
/// Number of the step that looks at the context and sends it.
pub const CONTEXT: u32 = 3;
/// Its name.
pub const CONTEXT_NAME: &str = "[internal] load build context";
/// The part that counts bytes.
const TRANSFER: &str = "transferring context:";

/// Counts contents on their way out.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicU64,
    contents: AtomicU64,
}

impl Meter {
    /// A message goes out.
    pub fn count(&self, request: &pb::BuildRequest) {
        if let Some(pb::build_request::Event::Content(content)) = &request.event {
            self.bytes.fetch_add(content.chunk.len() as u64, Ordering::Relaxed);
            self.contents.fetch_add(u64::from(content.last), Ordering::Relaxed);
        }
    }
}

/// What of the context was asked for, and how far that is.
#[derive(Debug)]
pub struct Sending {
    meter: Arc<Meter>,
    asked: u64,
    own: Option<(Own, OwnPart)>,
}

impl Sending {
    /// Nothing was asked for yet.
    pub fn new(meter: Arc<Meter>) -> Self {
        Self { meter, asked: 0, own: None }
    }

    /// The builder asks for contents.
    pub fn asked(&mut self, contents: usize, progress: &mut Progress) {
        self.asked += contents as u64;
        if self.own.is_none() {
            let own = Own::start(CONTEXT, CONTEXT_NAME);
            progress.step(own.running());
            let part = own.begin(TRANSFER);
            self.own = Some((own, part));
        }
    }

    /// Shows what went out so far.
    pub fn show(&mut self, progress: &mut Progress) {
        let Some((own, part)) = self.own.take() else { return };
        let is_over = self.meter.contents.load(Ordering::Relaxed) >= self.asked;
        progress.part(part.at(self.meter.bytes.load(Ordering::Relaxed), 0, is_over));
        match is_over {
            true => progress.step(own.end(pb::StepState::Done)),
            false => self.own = Some((own, part)),
        }
    }
}
