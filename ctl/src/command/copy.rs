//! `ctl image cp`: an image from one store to another. The stores talk to each other through this process, which keeps
//! nothing of what passes but a few messages.

mod place;

use futures_util::future;
use strata_proto::store::v1 as pb;
use strata_types::Reference;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::args::ImageCopy;
use crate::contexts::Contexts;
use crate::error::{Error, Result};
use crate::platform::{Choice, Platform};
use crate::render::transfer::{To, Transfer};
use crate::render::{self, size};
use crate::{input, registries};
use place::Place;

/// Messages that wait for a store: the chunks among them are all of an image that is ever here.
const BACKLOG: usize = 2;

/// Copies the image and says how much that took.
pub async fn run(choice: &Choice, args: &ImageCopy) -> Result<u8> {
    if choice.host.is_some() {
        let error = Error::usage("--host names no context, and an image is copied between contexts");
        return Err(error.hint("`ctl context create --host` gives the host a name"));
    }
    let contexts = Contexts::load()?;
    let current = choice.context.as_deref().unwrap_or(&contexts.current);
    let source = Place::source(&args.source, current, &contexts)?;
    let target = Place::target(&args.target, current, &contexts, &source)?;
    let name = registries::reference(&target.image)?;
    if name.digest().is_some() {
        return Err(Error::usage(format!("{:?} is a digest: the copy needs a name with a tag", target.image)));
    }
    // The platform may come from the environment: the flag for all of them counts.
    let platform = args.platform.as_deref().filter(|_| !args.all_platforms);
    let start = pb::ReceiveImageStart {
        name: name.to_string(),
        platform: platform.map(input::platform).transpose()?,
        all_platforms: args.all_platforms,
        keep_compressed: args.keep_compressed,
    };
    let mut shown = Transfer::new(To::Stdout, args.quiet);
    shown.title(format!("{}: Copying to {}:{}", args.source, target.context, name.familiar()));
    let copied = Relay::open(&source, &target, start).await?.run(&mut shown).await;
    shown.finish();
    told(&target, &name, &copied?, args.quiet)
}

fn told(target: &Place, name: &Reference, copied: &pb::ReceiveCompleted, is_quiet: bool) -> Result<u8> {
    if !is_quiet {
        if let Some(target) = &copied.target {
            render::line(format!("Digest: {}", target.digest))?;
        }
        let (moved, spared) = (size::human(copied.moved_bytes), size::human(copied.spared_bytes));
        render::line(format!("Moved {moved}, spared {spared} that were there"))?;
    }
    render::line(format!("{}:{}", target.context, name.familiar()))?;
    Ok(0)
}

/// The streams of both stores.
struct Relay<'a> {
    source: &'a Place,
    target: &'a Place,
    questions: mpsc::Sender<pb::SendImageRequest>,
    answers: mpsc::Sender<pb::ReceiveImageRequest>,
    answered: Streaming<pb::SendImageResponse>,
    said: Streaming<pb::ReceiveImageResponse>,
}

impl<'a> Relay<'a> {
    async fn open(source: &'a Place, target: &'a Place, start: pb::ReceiveImageStart) -> Result<Self> {
        let mut from = Platform::open(Some(&source.context))?.transfers().await?;
        let mut to = Platform::open(Some(&target.context))?.transfers().await?;
        let (questions, asking) = mpsc::channel(BACKLOG);
        let (answers, answering) = mpsc::channel(BACKLOG);
        let which = pb::SendImageStart { reference: source.image.clone() };
        let start = (pb::send_image_request::Event::Start(which), pb::receive_image_request::Event::Start(start));
        // There is room for the first message of each.
        let _ = questions.send(pb::SendImageRequest { event: Some(start.0) }).await;
        let _ = answers.send(pb::ReceiveImageRequest { event: Some(start.1) }).await;
        let answered = from.send_image(ReceiverStream::new(asking)).await;
        let answered = answered.map_err(|status| source.failed(status.into()))?.into_inner();
        let said = to.receive_image(ReceiverStream::new(answering)).await;
        let said = said.map_err(|status| target.failed(status.into()))?.into_inner();
        Ok(Self { source, target, questions, answers, answered, said })
    }

    /// Hands questions there and answers back, each way in its own time, until the target has the image.
    async fn run(self, shown: &mut Transfer) -> Result<pb::ReceiveCompleted> {
        let Self { source, target, questions, answers, answered, said } = self;
        tokio::select! {
            copied = listen(said, questions, shown) => copied.map_err(|error| target.failed(error)),
            error = answer(answered, answers) => Err(source.failed(error)),
        }
    }
}

/// Hands the target's questions on and shows what else it says.
async fn listen(
    mut said: Streaming<pb::ReceiveImageResponse>,
    questions: mpsc::Sender<pb::SendImageRequest>,
    shown: &mut Transfer,
) -> Result<pb::ReceiveCompleted> {
    use pb::receive_image_response::Event;
    while let Some(message) = said.message().await? {
        match message.event {
            Some(Event::Question(question)) => {
                let event = Some(pb::send_image_request::Event::Question(question));
                // A source that is gone says why itself.
                let _ = questions.send(pb::SendImageRequest { event }).await;
            }
            Some(Event::Resolved(resolved)) => {
                shown.expect(resolved.layers.iter().map(|layer| (layer.digest.as_str(), layer.size_bytes)));
            }
            Some(Event::Progress(progress)) => shown.copied(&progress),
            Some(Event::Spared(spared)) => shown.spared(&spared),
            Some(Event::Completed(completed)) => return Ok(completed),
            None => {}
        }
    }
    Err(Error::new("the store ended the stream before the image was there"))
}

/// Hands the source's answers on; returns why there are no more.
async fn answer(
    mut answered: Streaming<pb::SendImageResponse>,
    answers: mpsc::Sender<pb::ReceiveImageRequest>,
) -> Error {
    loop {
        match answered.message().await {
            Ok(Some(message)) => {
                let Some(pb::send_image_response::Event::Answer(answer)) = message.event else { continue };
                let event = Some(pb::receive_image_request::Event::Answer(answer));
                if answers.send(pb::ReceiveImageRequest { event }).await.is_err() {
                    // The target says why itself.
                    return future::pending().await;
                }
            }
            Ok(None) => return Error::new("the store ended the stream before the image was sent"),
            Err(status) => return status.into(),
        }
    }
}
