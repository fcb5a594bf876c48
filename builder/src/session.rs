//! The conversation with the client of one build: directories, contents and credentials that the builder asks for.
//! What arrives is checked against its digest before anybody sees it; a client can only fail its own build.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, oneshot};

use crate::context::{Blake3, Details, Directory};
use crate::contexts::{Local, Root};
use crate::error::Error;
use crate::peers::Credentials;
use crate::secret::Secret;

mod directories;

pub use directories::DirectoryCache;

use directories::Arrivals;

/// Digests in one question, at most: more than one message can hold may be wanted.
const ASKED_AT_ONCE: usize = 16_384;

/// What the client sends after its start.
#[derive(Debug)]
pub enum FromClient {
    /// Directories that were asked for, as their encodings.
    Directories {
        /// The encodings.
        encodings: Vec<Vec<u8>>,
        /// The last one goes on in the next message.
        continues: bool,
    },
    /// The next part of a content.
    Content(Content),
    /// Details of directories that were asked for.
    Details(Vec<Details>),
    /// The root of the context, which was to follow.
    Root(Blake3),
    /// Credentials that were asked for.
    Credentials {
        /// The registry that was asked about.
        registry: String,
        /// What the client found, or why it could not look.
        found: Result<Credentials, String>,
    },
    /// The answer to a question.
    Answer {
        /// Number of the question.
        number: u32,
        /// What was asked for, if there is such a thing; or why the client could not look.
        answer: Answered,
    },
    /// The build is given up.
    Cancel,
}

/// A part of a content.
#[derive(Debug)]
pub struct Content {
    /// Set in the first part.
    pub blake3: Option<Blake3>,
    /// The bytes.
    pub chunk: bytes::Bytes,
    /// It ends here.
    pub is_last: bool,
}

/// What the client is asked for.
#[derive(Debug)]
pub enum Ask {
    /// Directories by digest.
    Directories(Vec<Blake3>),
    /// Contents by digest.
    Contents(Vec<Blake3>),
    /// Details of directories.
    Details {
        /// Name of the context.
        context: String,
        /// Their paths in it.
        paths: Vec<Vec<u8>>,
    },
    /// Credentials for a registry.
    Credentials(String),
    /// A secret.
    Secret {
        /// Number of the question.
        number: u32,
        /// Id of the secret.
        id: String,
    },
    /// Something of an agent of ssh.
    Agent {
        /// Number of the question.
        number: u32,
        /// Id of the agent.
        id: String,
        /// The message. Empty: is there such an agent?
        message: Vec<u8>,
    },
}

/// What the client can be asked for, besides its context.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offers {
    /// Secrets.
    pub secrets: bool,
    /// Agents of ssh.
    pub agents: bool,
    /// Times and hard links of what is in its contexts.
    pub details: bool,
    /// Not that: the root of its context comes unasked, once.
    pub later_root: bool,
}

/// What a client answers to a question.
type Answered = Result<Option<Secret>, String>;

/// The largest secret, in bytes, as in BuildKit.
const LARGEST_SECRET: usize = 500 << 10;

/// Questions that wait for their answer, by number.
#[derive(Debug, Default)]
struct Questions {
    last: u32,
    open: HashMap<u32, oneshot::Sender<Answered>>,
}

/// One build's conversation.
#[derive(Debug)]
pub struct Session {
    asks: mpsc::Sender<Ask>,
    arrived: Notify,
    directories: Arrivals,
    closed: Mutex<Option<String>>,
    contents: AsyncMutex<mpsc::Receiver<Content>>,
    /// The root that was to follow.
    root: OnceLock<Blake3>,
    credentials: Mutex<HashMap<String, Answer>>,
    offers: Offers,
    questions: Mutex<Questions>,
    /// Details are asked for one after the other.
    details_turn: AsyncMutex<()>,
    details: Mutex<Arriving>,
}

/// Details on their way.
#[derive(Debug, Default)]
struct Arriving {
    wanted: usize,
    come: Vec<Details>,
}

/// Credentials for a registry that were asked for; none until the client answers.
type Answer = Option<Result<Credentials, String>>;

impl Session {
    /// Starts a conversation whose questions go to `asks`. Contents that come are put into the sender. Whoever waits for
    /// room there must not hold the session meanwhile: nobody takes them any more when a build ends.
    pub fn new(cache: Arc<DirectoryCache>, asks: mpsc::Sender<Ask>, offers: Offers) -> (Self, mpsc::Sender<Content>) {
        let (contents_in, contents) = mpsc::channel(16);
        let session = Self {
            asks,
            arrived: Notify::new(),
            directories: Arrivals::new(cache),
            closed: Mutex::new(None),
            contents: AsyncMutex::new(contents),
            root: OnceLock::new(),
            credentials: Mutex::default(),
            offers,
            questions: Mutex::default(),
            details_turn: AsyncMutex::default(),
            details: Mutex::default(),
        };
        (session, contents_in)
    }

    /// Takes in directories that the client sent, as their encodings. The last one goes on in the next message, if
    /// `continues` says so.
    pub fn take_directories(&self, encodings: Vec<Vec<u8>>, continues: bool) -> Result<(), Error> {
        self.directories.take(encodings, continues)?;
        self.arrived.notify_waiters();
        Ok(())
    }

    /// Takes in the root of the context.
    pub fn take_root(&self, root: Blake3) -> Result<(), Error> {
        if !self.offers.later_root || self.root.set(root).is_err() {
            return Err(Error::Context { problem: "a root came that was not to follow".to_owned() });
        }
        self.arrived.notify_waiters();
        Ok(())
    }

    /// Takes in credentials that the client found.
    pub fn take_credentials(&self, registry: &str, found: Result<Credentials, String>) -> Result<(), Error> {
        match self.credentials.lock().expect("no holder of this lock panics").get_mut(registry) {
            Some(answer) => *answer = Some(found),
            None => return Err(Error::Context { problem: "credentials came that were not asked for".to_owned() }),
        }
        self.arrived.notify_waiters();
        Ok(())
    }

    /// Takes in the answer to a question.
    pub fn take_answer(&self, number: u32, answer: Answered) -> Result<(), Error> {
        let open = self.questions.lock().expect("no holder of this lock panics").open.remove(&number);
        match open {
            // Whoever asked may have been given up meanwhile.
            Some(open) => drop(open.send(answer)),
            None => return Err(Error::Context { problem: "an answer came to nothing that was asked".to_owned() }),
        }
        Ok(())
    }

    /// Takes in details that the client sent.
    pub fn take_details(&self, details: Vec<Details>) -> Result<(), Error> {
        let mut arriving = self.details.lock().expect("no holder of this lock panics");
        if arriving.come.len() + details.len() > arriving.wanted {
            return Err(Error::Context { problem: "details came that were not asked for".to_owned() });
        }
        arriving.come.extend(details);
        drop(arriving);
        self.arrived.notify_waiters();
        Ok(())
    }

    /// Ends every wait: the client is gone or said something wrong.
    pub fn close(&self, why: String) {
        self.closed.lock().expect("no holder of this lock panics").get_or_insert(why);
        self.questions.lock().expect("no holder of this lock panics").open.clear();
        self.arrived.notify_waiters();
    }

    fn check_open(&self) -> Result<(), Error> {
        match &*self.closed.lock().expect("no holder of this lock panics") {
            Some(why) => Err(Error::Context { problem: why.clone() }),
            None => Ok(()),
        }
    }

    /// The root of a context, when the client knows it.
    pub async fn root(&self, context: &Local) -> Result<Blake3, Error> {
        if let Root::Known(root) = context.root {
            return Ok(root);
        }
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if let Some(root) = self.root.get() {
                return Ok(*root);
            }
            self.check_open()?;
            arrived.await;
        }
    }

    /// The directories with these digests, from earlier builds or from the client, in one round trip.
    pub async fn directories(&self, digests: &[Blake3]) -> Result<Vec<Arc<Directory>>, Error> {
        let (mut wait, new) = self.directories.begin(digests);
        for some in new.chunks(ASKED_AT_ONCE) {
            self.ask(Ask::Directories(some.to_vec())).await?;
        }
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if let Some(found) = self.directories.collect(&mut wait, digests) {
                return Ok(found);
            }
            self.check_open()?;
            arrived.await;
        }
    }

    /// Asks for contents and hands each part to `sink`, which ends with the last part of the last content.
    pub async fn contents(&self, wanted: Vec<Blake3>, sink: mpsc::Sender<Content>) -> Result<(), Error> {
        let mut receiver = self.contents.lock().await;
        let mut left = wanted.len();
        for some in wanted.chunks(ASKED_AT_ONCE) {
            self.ask(Ask::Contents(some.to_vec())).await?;
        }
        while left > 0 {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            // What came before the end still counts.
            let part = match receiver.try_recv() {
                Ok(part) => Some(part),
                Err(_) => {
                    self.check_open()?;
                    tokio::select! {
                        biased;
                        part = receiver.recv() => part,
                        () = arrived => continue,
                    }
                }
            };
            let Some(part) = part else {
                self.check_open()?;
                return Err(Error::Context { problem: "the client is gone".to_owned() });
            };
            left -= usize::from(part.is_last);
            if sink.send(part).await.is_err() {
                // Whoever wanted the contents has failed, and says why.
                return Ok(());
            }
        }
        Ok(())
    }

    /// The details of directories of a context, by their paths, in one round trip.
    /// The client knows times and hard links of what is in its contexts.
    pub fn has_details(&self) -> bool {
        self.offers.details
    }

    pub async fn details(&self, context: &str, paths: Vec<Vec<u8>>) -> Result<Vec<Details>, Error> {
        let wanted = paths.len();
        let turn = self.details_turn.lock().await;
        *self.details.lock().expect("no holder of this lock panics") = Arriving { wanted, come: Vec::new() };
        self.ask(Ask::Details { context: context.to_owned(), paths }).await?;
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            {
                let mut arriving = self.details.lock().expect("no holder of this lock panics");
                if arriving.come.len() == wanted {
                    drop(turn);
                    return Ok(std::mem::take(&mut *arriving).come);
                }
            }
            self.check_open()?;
            arrived.await;
        }
    }

    /// The credentials for a registry, asked for once per build.
    pub async fn credentials(&self, registry: &str) -> Result<Credentials, Error> {
        let is_new = {
            let mut known = self.credentials.lock().expect("no holder of this lock panics");
            let is_new = !known.contains_key(registry);
            known.entry(registry.to_owned()).or_default();
            is_new
        };
        if is_new {
            self.ask(Ask::Credentials(registry.to_owned())).await?;
        }
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let answer = self.credentials.lock().expect("no holder of this lock panics").get(registry).cloned();
            match answer.flatten() {
                Some(Ok(credentials)) => return Ok(credentials),
                Some(Err(problem)) => {
                    return Err(Error::Credentials { registry: registry.to_owned(), problem });
                }
                None => {}
            }
            self.check_open()?;
            arrived.await;
        }
    }

    /// A secret of the client, asked for whenever it is needed and kept nowhere. `None`: it has none of this id.
    pub async fn secret(&self, id: &str) -> Result<Option<Secret>, Error> {
        if !self.offers.secrets {
            return Ok(None);
        }
        let what = format!("secret {id:?}");
        let secret = self.question(&what, |number| Ask::Secret { number, id: id.to_owned() }).await?;
        match secret {
            Some(secret) if secret.bytes().len() > LARGEST_SECRET => {
                Err(Error::Client { what, problem: format!("it is larger than {LARGEST_SECRET} bytes") })
            }
            secret => Ok(secret),
        }
    }

    /// What an agent of ssh answers. `None`: the client has none of this id.
    pub async fn agent(&self, id: &str, message: Vec<u8>) -> Result<Option<Secret>, Error> {
        match self.offers.agents {
            true => {
                let what = format!("the ssh agent {id:?}");
                self.question(&what, |number| Ask::Agent { number, id: id.to_owned(), message }).await
            }
            false => Ok(None),
        }
    }

    async fn question(&self, what: &str, ask: impl FnOnce(u32) -> Ask) -> Result<Option<Secret>, Error> {
        let (sender, answer) = oneshot::channel();
        let number = {
            let mut questions = self.questions.lock().expect("no holder of this lock panics");
            questions.last += 1;
            let number = questions.last;
            questions.open.insert(number, sender);
            number
        };
        self.ask(ask(number)).await?;
        // A session that is closed after this look drops the sender.
        self.check_open()?;
        match answer.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(problem)) => Err(Error::Client { what: what.to_owned(), problem }),
            Err(_) => {
                self.check_open()?;
                Err(Error::Context { problem: "the client is gone".to_owned() })
            }
        }
    }

    async fn ask(&self, ask: Ask) -> Result<(), Error> {
        self.check_open()?;
        self.asks.send(ask).await.map_err(|_| Error::Context { problem: "the client is gone".to_owned() })
    }
}
