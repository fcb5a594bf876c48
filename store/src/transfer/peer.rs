//! The other store, as the one that receives sees it: questions that go there, and answers that come back in parts, those
//! of several questions mixed. Parts wait in short queues, so a question that nobody listens to holds up all others:
//! whoever asks listens at once, or drops the answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use strata_rpc::chunks::MAX_CHUNK;
use tokio::sync::mpsc;

use super::{Answer, Head, Part, Question};
use crate::{Error, Result};

/// Parts of an answer that wait for who asked.
const DEPTH: usize = 8;

/// The other store.
#[derive(Debug)]
pub struct Peer {
    questions: mpsc::Sender<(u32, Question)>,
    open: Mutex<Open>,
    moved: AtomicU64,
}

/// Questions that are not answered to the end.
#[derive(Debug, Default)]
struct Open {
    next: u32,
    waiting: HashMap<u32, Waiting>,
    is_over: bool,
}

#[derive(Debug)]
struct Waiting {
    parts: mpsc::Sender<Part>,
    has_head: bool,
}

/// An answer that comes.
#[derive(Debug)]
pub(super) struct Reply {
    /// What it is.
    pub head: Head,
    parts: mpsc::Receiver<Part>,
    is_over: bool,
}

/// What the other store does is not what the protocol says.
pub(super) fn wrong(problem: impl Into<String>) -> Error {
    Error::Transfer { problem: problem.into() }
}

impl Peer {
    /// The other store; questions to it go out there.
    pub fn new(questions: mpsc::Sender<(u32, Question)>) -> Self {
        Self { questions, open: Mutex::default(), moved: AtomicU64::new(0) }
    }

    /// Bytes of answers so far.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and waits for the head of the answer.
    pub(super) async fn ask(&self, question: Question) -> Result<Reply> {
        let (sender, mut parts) = mpsc::channel(DEPTH);
        let id = {
            let mut open = self.open();
            if open.is_over {
                return Err(Error::Interrupted);
            }
            let id = open.next;
            open.next = id.checked_add(1).ok_or_else(|| wrong("there were too many questions"))?;
            open.waiting.insert(id, Waiting { parts: sender, has_head: false });
            id
        };
        self.questions.send((id, question)).await.map_err(|_| Error::Interrupted)?;
        match parts.recv().await {
            // The order of parts was looked at when they came.
            Some(Part::Head(head)) => Ok(Reply { is_over: head.is_absent, head, parts }),
            Some(Part::Chunk(_) | Part::End) => Err(wrong("an answer has no head")),
            None => Err(Error::Interrupted),
        }
    }

    /// Hands answers to who asked, until there are no more, or one makes no sense. Returns why.
    pub async fn route(&self, answers: impl Stream<Item = Result<Answer>>) -> Error {
        let mut answers = std::pin::pin!(answers);
        let why = loop {
            match answers.next().await {
                None => break Error::Interrupted,
                Some(Err(error)) => break error,
                Some(Ok(answer)) => {
                    if let Err(error) = self.hand(answer).await {
                        break error;
                    }
                }
            }
        };
        let mut open = self.open();
        open.is_over = true;
        // Who still waits is told by the end of the queue.
        open.waiting.clear();
        why
    }

    async fn hand(&self, Answer { id, part }: Answer) -> Result<()> {
        let is_last = match &part {
            Part::Head(head) => head.is_absent,
            Part::Chunk(chunk) if chunk.is_empty() || chunk.len() > MAX_CHUNK => {
                return Err(wrong(format!("a chunk has {} bytes, not 1 to {MAX_CHUNK}", chunk.len())));
            }
            Part::Chunk(chunk) => {
                self.moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                false
            }
            Part::End => true,
        };
        let parts = {
            let mut open = self.open();
            let waiting = open.waiting.get_mut(&id);
            let waiting = waiting.ok_or_else(|| wrong(format!("there is no open question {id}")))?;
            if matches!(part, Part::Head(_)) == waiting.has_head {
                return Err(wrong("the parts of an answer are in another order than head, chunks, end"));
            }
            waiting.has_head = true;
            let parts = waiting.parts.clone();
            if is_last {
                open.waiting.remove(&id);
            }
            parts
        };
        // Who no longer listens does not need the rest.
        let _ = parts.send(part).await;
        Ok(())
    }
}

impl Reply {
    /// The next bytes; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.is_over {
            return Ok(None);
        }
        match self.parts.recv().await {
            Some(Part::Chunk(chunk)) => Ok(Some(chunk)),
            Some(Part::End) => {
                self.is_over = true;
                Ok(None)
            }
            Some(Part::Head(_)) => Err(wrong("an answer has two heads")),
            None => Err(Error::Interrupted),
        }
    }

    /// All bytes, of which there may be so many.
    pub(super) async fn whole(mut self, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next().await? {
            if bytes.len() as u64 + chunk.len() as u64 > most {
                return Err(wrong(format!("an answer has more than {most} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The bytes as they come.
    pub(super) fn chunks(self) -> BoxStream<'static, Result<Bytes>> {
        let next = |mut reply: Self| async move { Ok(reply.next().await?.map(|chunk| (chunk, reply))) };
        stream::try_unfold(self, next).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future;

    use super::*;

    fn peer() -> (Arc<Peer>, mpsc::Receiver<(u32, Question)>) {
        let (sender, receiver) = mpsc::channel(4);
        (Arc::new(Peer::new(sender)), receiver)
    }

    fn head(id: u32) -> Answer {
        Answer { id, part: Part::Head(Head::default()) }
    }

    fn chunk(id: u32, bytes: &'static [u8]) -> Answer {
        Answer { id, part: Part::Chunk(Bytes::from_static(bytes)) }
    }

    fn end(id: u32) -> Answer {
        Answer { id, part: Part::End }
    }

    /// Asks twice, gives the answers, and says what came of both and of the stream.
    async fn run(answers: Vec<Answer>) -> (Vec<Result<Vec<u8>>>, Error) {
        let (peer, mut questions) = peer();
        let asking = || async {
            let reply = peer.ask(Question::Image).await?;
            reply.whole(10).await
        };
        let both = future::join(asking(), asking());
        let routing = async {
            for _ in 0..2 {
                questions.recv().await.expect("a question");
            }
            peer.route(stream::iter(answers.into_iter().map(Ok))).await
        };
        let ((first, second), why) = future::join(both, routing).await;
        (vec![first, second], why)
    }

    #[tokio::test]
    async fn answers_that_come_mixed_reach_who_asked() {
        let answers = vec![head(1), head(0), chunk(1, b"b1"), chunk(0, b"a"), chunk(1, b"b2"), end(1), end(0)];

        let (replies, why) = run(answers).await;

        assert_eq!(replies[0].as_ref().expect("whole"), b"a");
        assert_eq!(replies[1].as_ref().expect("whole"), b"b1b2");
        assert!(matches!(why, Error::Interrupted), "{why}");
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_off_is_no_whole_one() {
        let (replies, _) = run(vec![head(0), chunk(0, b"a"), head(1)]).await;

        assert!(matches!(replies[0], Err(Error::Interrupted)), "{replies:?}");
        assert!(matches!(replies[1], Err(Error::Interrupted)), "{replies:?}");
    }

    #[tokio::test]
    async fn what_follows_no_protocol_ends_the_stream() {
        for answers in [
            vec![chunk(0, b"a")],
            vec![end(0)],
            vec![head(0), head(0)],
            vec![head(7)],
            vec![head(0), end(0), chunk(0, b"late")],
            vec![head(0), chunk(0, b"")],
            vec![head(0), chunk(0, &[0; MAX_CHUNK + 1])],
        ] {
            let (_, why) = run(answers.clone()).await;
            assert!(matches!(why, Error::Transfer { .. }), "{answers:?}: {why}");
        }
    }

    #[tokio::test]
    async fn an_answer_may_not_be_endless() {
        let (replies, _) = run(vec![head(0), chunk(0, b"1234567890"), chunk(0, b"1"), head(1), end(1)]).await;

        assert!(matches!(&replies[0], Err(Error::Transfer { problem }) if problem.contains("more than 10")));
        assert_eq!(replies[1].as_ref().expect("the other one"), b"");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_store_that_is_gone() {
        let (peer, _questions) = peer();
        peer.route(stream::empty()).await;

        assert!(matches!(peer.ask(Question::Image).await, Err(Error::Interrupted)));
    }
}
