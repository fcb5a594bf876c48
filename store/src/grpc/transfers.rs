//! TransferService.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use strata_image::Platforms;
use strata_proto::store::v1::{
    PullResolved, ReceiveCompleted, ReceiveImageRequest, ReceiveImageResponse, ReceiveImageStart, ReceiveSpared,
    SendImageRequest, SendImageResponse, SendImageStart, TransferAnswer, TransferArchive, TransferBlob,
    TransferContents, TransferDocument, TransferEnd, TransferHead, TransferImage, TransferLayer, TransferQuestion,
    TransferRecipe, receive_image_request, receive_image_response, send_image_request, send_image_response,
    transfer_answer, transfer_question::About, transfer_service_server::TransferService,
};
use strata_types::Descriptor;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::registry::{message, progress};
use super::{Service, digest, platform, status};
use crate::remote::{Event, Events};
use crate::transfer::{self, Answer, Head, Part, Peer, Question, Receive, Received, Spared};
use crate::{Error, Result, image};

/// Messages on their way to a client: few, as some are chunks.
const BACKLOG: usize = 8;
/// Largest bit set of a question: more contents than the largest recipe has.
const MOST_WANTED: usize = 1 << 20;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl From<Question> for About {
    fn from(question: Question) -> Self {
        match question {
            Question::Image => Self::Image(TransferImage {}),
            Question::Document(digest) => Self::Document(TransferDocument { digest: digest.to_string() }),
            Question::Blob { digest, offset } => {
                Self::Blob(TransferBlob { digest: digest.to_string(), offset_bytes: offset })
            }
            Question::Layer { diff_id, digest } => {
                Self::Layer(TransferLayer { diff_id: diff_id.to_string(), digest: digest.to_string() })
            }
            Question::Recipe(diff_id) => Self::Recipe(TransferRecipe { diff_id: diff_id.to_string() }),
            Question::Contents { diff_id, wanted } => {
                Self::Contents(TransferContents { diff_id: diff_id.to_string(), wanted })
            }
            Question::Archive(diff_id) => Self::Archive(TransferArchive { diff_id: diff_id.to_string() }),
        }
    }
}

impl TryFrom<About> for Question {
    type Error = Error;

    fn try_from(about: About) -> Result<Self> {
        Ok(match about {
            About::Image(_) => Self::Image,
            About::Document(asked) => Self::Document(digest("question.document.digest", &asked.digest)?),
            About::Blob(TransferBlob { digest: text, offset_bytes: offset }) => {
                Self::Blob { digest: digest("question.blob.digest", &text)?, offset }
            }
            About::Layer(asked) => Self::Layer {
                diff_id: digest("question.layer.diff_id", &asked.diff_id)?,
                digest: digest("question.layer.digest", &asked.digest)?,
            },
            About::Recipe(asked) => Self::Recipe(digest("question.recipe.diff_id", &asked.diff_id)?),
            About::Contents(TransferContents { diff_id, wanted }) => {
                if wanted.len() > MOST_WANTED {
                    return Err(Error::invalid("question.contents.wanted", format!("more than {MOST_WANTED} bytes")));
                }
                Self::Contents { diff_id: digest("question.contents.diff_id", &diff_id)?, wanted }
            }
            About::Archive(asked) => Self::Archive(digest("question.archive.diff_id", &asked.diff_id)?),
        })
    }
}

impl From<Answer> for TransferAnswer {
    fn from(Answer { id, part }: Answer) -> Self {
        let part = match part {
            Part::Head(head) => transfer_answer::Part::Head(TransferHead {
                is_absent: head.is_absent,
                store_id: head.store_id,
                descriptor: head.descriptor.as_ref().map(message),
                is_made_here: head.is_made_here,
                source: head.source,
                is_blob_here: head.is_blob_here,
                is_unpacked: head.is_unpacked,
            }),
            Part::Chunk(chunk) => transfer_answer::Part::Chunk(chunk),
            Part::End => transfer_answer::Part::End(TransferEnd {}),
        };
        Self { id, part: Some(part) }
    }
}

impl TryFrom<TransferAnswer> for Answer {
    type Error = Error;

    fn try_from(TransferAnswer { id, part }: TransferAnswer) -> Result<Self> {
        let part = match part {
            Some(transfer_answer::Part::Head(head)) => {
                let descriptor = head.descriptor.map(|found| {
                    let digest = digest("answer.head.descriptor.digest", &found.digest)?;
                    Ok::<_, Error>(Descriptor::new(found.media_type, digest, found.size_bytes))
                });
                Part::Head(Head {
                    is_absent: head.is_absent,
                    store_id: head.store_id,
                    descriptor: descriptor.transpose()?,
                    is_made_here: head.is_made_here,
                    source: source(head.source)?,
                    is_blob_here: head.is_blob_here,
                    is_unpacked: head.is_unpacked,
                })
            }
            Some(transfer_answer::Part::Chunk(chunk)) => Part::Chunk(chunk),
            Some(transfer_answer::Part::End(_)) => Part::End,
            None => return Err(Error::invalid("answer.part", "it is missing")),
        };
        Ok(Self { id, part })
    }
}

/// A repository, as the catalog has it, or nothing.
fn source(text: String) -> Result<String> {
    if !text.is_empty() {
        strata_types::Reference::parse(&text).map_err(Error::field("answer.head.source"))?;
    }
    Ok(text)
}

fn start(start: ReceiveImageStart) -> Result<Receive> {
    let platforms = match (start.platform, start.all_platforms) {
        (None, true) => Platforms::All,
        (None, false) => Platforms::Host,
        (Some(one), false) => Platforms::Only(platform("platform", one)?),
        (Some(_), true) => return Err(Error::invalid("platform", "it cannot be set together with all_platforms")),
    };
    let name = image::tag_name("name", &start.name)?;
    Ok(Receive { name, platforms, keep_compressed: start.keep_compressed })
}

fn left(source: Status) -> Error {
    Error::StreamEnded { source: Box::new(source) }
}

/// What the receiver has to say.
fn said(event: receive_image_response::Event) -> ReceiveImageResponse {
    ReceiveImageResponse { event: Some(event) }
}

fn told(event: &Event) -> Option<ReceiveImageResponse> {
    let event = match event {
        Event::Resolved { target, layers } => receive_image_response::Event::Resolved(PullResolved {
            target: Some(message(target)),
            layers: layers.iter().map(message).collect(),
        }),
        // Nobody runs what a copy brings before it has ended.
        Event::Usable => return None,
        Event::Transfer { .. } => receive_image_response::Event::Progress(progress(event)?),
    };
    Some(said(event))
}

fn spared(spared: &Spared) -> ReceiveImageResponse {
    said(receive_image_response::Event::Spared(ReceiveSpared {
        digest: spared.digest.to_string(),
        spared_bytes: spared.spared,
        missing_bytes: spared.missing,
    }))
}

fn completed(name: String, received: &Received) -> ReceiveImageResponse {
    said(receive_image_response::Event::Completed(ReceiveCompleted {
        target: Some(message(&received.target)),
        name,
        image_id: received.image.map(|id| id.to_string()).unwrap_or_default(),
        moved_bytes: received.moved,
        spared_bytes: received.spared,
    }))
}

fn asked(id: u32, question: Question) -> ReceiveImageResponse {
    let question = TransferQuestion { id, about: Some(question.into()) };
    said(receive_image_response::Event::Question(question))
}

impl Service {
    /// Does work while its client listens; its error is the last thing that is said. Whoever leaves stops it.
    fn converse<T, F>(&self, work: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F + Send + 'static) -> Answers<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (answers, receiver) = mpsc::channel(BACKLOG);
        let (drain, busy) = (self.store.drain.clone(), self.store.idle.busy());
        self.store.drain.spawn(async move {
            let result = tokio::select! {
                result = work(answers.clone()) => result,
                () = answers.closed() => Err(Error::Interrupted),
                () = drain.cancelled() => Err(Error::Interrupted),
            };
            if let Err(error) = result {
                // A client that is gone needs no answer.
                let _ = answers.send(Err(status(error))).await;
            }
            drop(busy);
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

/// Sends what comes out of a channel, as messages.
async fn forward<T, M>(
    mut from: mpsc::Receiver<T>,
    to: &mpsc::Sender<Result<M, Status>>,
    read: impl Fn(T) -> Option<M>,
) -> Result<()> {
    while let Some(item) = from.recv().await {
        if let Some(message) = read(item) {
            to.send(Ok(message)).await.map_err(|_| Error::Interrupted)?;
        }
    }
    Ok(())
}

fn questions(messages: Streaming<SendImageRequest>) -> impl Stream<Item = Result<(u32, Question)>> {
    messages.map(|message| match message.map_err(left)?.event {
        Some(send_image_request::Event::Question(TransferQuestion { id, about: Some(about) })) => {
            Ok((id, about.try_into()?))
        }
        Some(send_image_request::Event::Question(_)) => Err(Error::invalid("question.about", "it is missing")),
        Some(send_image_request::Event::Start(_)) | None => {
            Err(Error::invalid("event", "only questions follow the start"))
        }
    })
}

fn answers(messages: Streaming<ReceiveImageRequest>) -> impl Stream<Item = Result<Answer>> {
    messages.map(|message| match message.map_err(left)?.event {
        Some(receive_image_request::Event::Answer(answer)) => answer.try_into(),
        Some(receive_image_request::Event::Start(_)) | None => {
            Err(Error::invalid("event", "only answers follow the start"))
        }
    })
}

async fn receive(
    store: &Arc<crate::Store>,
    what: Receive,
    messages: Streaming<ReceiveImageRequest>,
    to: mpsc::Sender<Result<ReceiveImageResponse, Status>>,
) -> Result<()> {
    let name = what.name.to_string();
    let (questions, asking) = mpsc::channel(BACKLOG);
    let (events, happened) = Events::channel();
    let (spare, sparing) = mpsc::channel(1024);
    let peer = Arc::new(Peer::new(questions));
    let working = async {
        let (peer, events, spare) = (peer, events, spare);
        let work = transfer::receive(store, what, &peer, &events, spare);
        tokio::select! {
            biased;
            received = work => received,
            why = peer.route(answers(messages)) => Err(why),
        }
    };
    let (received, asked, happened, sparing) = tokio::join!(
        working,
        forward(asking, &to, |(id, question)| Some(asked(id, question))),
        forward(happened, &to, |event| told(&event)),
        forward(sparing, &to, |event| Some(spared(&event))),
    );
    let received = received?;
    asked.and(happened).and(sparing)?;
    to.send(Ok(completed(name, &received))).await.map_err(|_| Error::Interrupted)
}

#[tonic::async_trait]
impl TransferService for Service {
    type SendImageStream = Answers<SendImageResponse>;
    type ReceiveImageStream = Answers<ReceiveImageResponse>;

    async fn send_image(
        &self,
        request: Request<Streaming<SendImageRequest>>,
    ) -> Result<Response<Self::SendImageStream>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.event);
        let Some(send_image_request::Event::Start(SendImageStart { reference })) = first else {
            return Err(status(Error::invalid("start", "it must be the first message")));
        };
        let store = self.store.clone();
        let work = |to: mpsc::Sender<Result<SendImageResponse, Status>>| async move {
            let (sender, receiver) = mpsc::channel(1);
            let sending = transfer::send(&store, &reference, questions(messages), sender);
            let answer = |answer: Answer| {
                Some(SendImageResponse { event: Some(send_image_response::Event::Answer(answer.into())) })
            };
            tokio::try_join!(sending, forward(receiver, &to, answer)).map(drop)
        };
        Ok(Response::new(self.converse(work)))
    }

    async fn receive_image(
        &self,
        request: Request<Streaming<ReceiveImageRequest>>,
    ) -> Result<Response<Self::ReceiveImageStream>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.event);
        let Some(receive_image_request::Event::Start(first)) = first else {
            return Err(status(Error::invalid("start", "it must be the first message")));
        };
        let what = start(first).map_err(status)?;
        let store = self.store.clone();
        let work = |to| async move { receive(&store, what, messages, to).await };
        Ok(Response::new(self.converse(work)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn digest_of(text: &str) -> strata_types::Digest {
        crate::blob::digest(text.as_bytes())
    }

    #[test]
    fn questions_and_answers_travel_as_they_are() {
        let (one, two) = (digest_of("1"), digest_of("2"));
        for question in [
            Question::Image,
            Question::Document(one),
            Question::Blob { digest: one, offset: 7 },
            Question::Layer { diff_id: one, digest: two },
            Question::Recipe(one),
            Question::Contents { diff_id: one, wanted: Bytes::from_static(&[5, 0]) },
            Question::Archive(two),
        ] {
            let about = About::from(question.clone());
            assert_eq!(Question::try_from(about).unwrap(), question);
        }
        let head = Head {
            is_absent: true,
            store_id: "s".into(),
            descriptor: Some(Descriptor::new("x/y", one, 3)),
            is_made_here: true,
            source: "docker.io/library/debian".into(),
            is_blob_here: true,
            is_unpacked: true,
        };
        for part in [Part::Head(head), Part::Chunk(Bytes::from_static(b"1")), Part::End] {
            let answer = Answer { id: 9, part };
            assert_eq!(Answer::try_from(TransferAnswer::from(answer.clone())).unwrap(), answer);
        }
    }

    #[test]
    fn what_another_store_names_must_be_a_repository() {
        let head = TransferHead { source: "../../x y".into(), ..Default::default() };

        let answer = TransferAnswer { id: 0, part: Some(transfer_answer::Part::Head(head)) };

        let error = Answer::try_from(answer).unwrap_err();
        assert!(matches!(error, Error::Invalid { field: "answer.head.source", .. }), "{error}");
    }
}
