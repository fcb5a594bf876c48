//! What a build fetches from elsewhere, each source once: files become contents of the store, trees of git and archives become
//! layers that the cache knows.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use strata_dockerfile::remote::{Checksum, Git, Http, MTime, Remote, Scheme, redact};
use tokio::sync::{Mutex, OnceCell, mpsc};

use crate::agent::Agent;
use crate::context::Blake3;
use crate::error::Error;
use crate::key::Key;
use crate::peers::{ByContent, Entries, Entry, Identity, Placement, Store, Tree};
use crate::progress::Running;
use crate::session::Session;
use crate::source::{Failure, File, Sources, Spooled, WantedFile, WantedTree};
use crate::step::is_archive;

/// Name of the only file of a context that is no archive.
pub const SINGLE: &str = "context";
/// The agent whose keys open repositories, as `--ssh default` gives it.
const AGENT: &str = "default";
/// Largest Dockerfile that is fetched, in bytes.
const LARGEST_DOCKERFILE: u64 = 2 << 20;

/// A tree in the store.
#[derive(Debug, Clone)]
pub struct RemoteTree {
    /// Its layer, which stands on no other.
    pub layer: String,
    /// Equal for equal trees.
    pub key: Blake3,
    /// When it was committed, or changed.
    pub time: Option<Timestamp>,
    /// It is a single file, [`SINGLE`].
    pub is_single: bool,
}

/// Values that are found once, by what they are found by.
type Once<K, V> = Mutex<HashMap<K, Arc<OnceCell<V>>>>;

/// What a build fetches.
#[derive(Debug)]
pub struct Remotes {
    sources: Arc<Sources>,
    store: Store,
    session: Arc<Session>,
    lease: String,
    files: Once<(String, Option<String>), Arc<File>>,
    trees: Once<String, RemoteTree>,
    /// Agents that were started.
    agents: AtomicU32,
}

async fn once<K: Eq + Hash, V: Clone, E>(
    all: &Once<K, V>,
    key: K,
    find: impl Future<Output = Result<V, E>>,
) -> Result<V, E> {
    let cell = all.lock().await.entry(key).or_default().clone();
    cell.get_or_try_init(|| find).await.cloned()
}

impl Remotes {
    /// Fetches for one build.
    pub fn new(sources: Arc<Sources>, store: Store, session: Arc<Session>, lease: String) -> Self {
        Self {
            sources,
            store,
            session,
            lease,
            files: Mutex::default(),
            trees: Mutex::default(),
            agents: AtomicU32::new(0),
        }
    }

    /// What a URL holds now.
    pub async fn file(
        &self,
        http: &Http,
        checksum: Option<&Checksum>,
        running: &Running,
    ) -> Result<Arc<File>, Failure> {
        let key = (http.url.clone(), checksum.map(Checksum::to_string));
        let look = async {
            let authorization = self.web_credentials(http).await?;
            let wanted = WantedFile { http: http.clone(), checksum: checksum.cloned(), authorization };
            let part = || running.part(format!("downloading {}", without_query(&http.url)));
            self.sources.look(&wanted, part).await.map(Arc::new)
        };
        once(&self.files, key, look).await
    }

    /// Brings the content of a file to the store.
    pub async fn deliver(&self, file: &File, running: &Running) -> Result<(), Failure> {
        let part = || running.part(format!("downloading {}", without_query(file.url())));
        self.sources.deliver(file, &self.store, &self.lease, part).await
    }

    /// A tree of a git repository.
    pub async fn tree(&self, git: &Git, running: &Running) -> Result<RemoteTree, Failure> {
        once(&self.trees, format!("{git:?}"), self.find_tree(git, running)).await
    }

    async fn find_tree(&self, git: &Git, running: &Running) -> Result<RemoteTree, Failure> {
        let authorization = self.git_credentials(git).await?;
        let agent = self.agent(git).await?;
        let socket = agent.as_ref().map(|agent| agent.path().to_owned());
        let wanted = WantedTree { git: git.clone(), authorization, agent: socket };
        let found = self.sources.find(&wanted).await?;
        let is_committed = git.mtime == MTime::Commit;
        let key = Key::root("git tree")
            .list(found.identity(&wanted))
            .part(&git.directory)
            .part([wanted.keeps_git_dir(), git.submodules, is_committed].map(u8::from))
            .finish();
        let known = self.known(key).await?;
        if let (Some(layer), Some(time)) = (known, self.sources.commit_time(&found)) {
            return Ok(RemoteTree { time: Some(time), ..tree(layer, key, false) });
        }
        let part = running.part(format!("fetching {} {}", git.name(), found.commit()));
        let checkout = self.sources.check_out(&wanted, &found).await?;
        part.done();
        warn_of_pointers(git, &checkout.tree.pointers, running);
        let modified = is_committed.then_some(checkout.time);
        let part = running.part("storing files");
        let time = checkout.time;
        let files = checkout.tree.store(modified, &self.store, &self.lease).await?;
        let layer = self.write(key, files, &format!("{}#{}", git.remote, found.commit())).await?;
        part.done();
        Ok(RemoteTree { time: Some(time), ..tree(layer, key, false) })
    }

    /// The client's keys for a repository behind ssh, if it lends them.
    async fn agent(&self, git: &Git) -> Result<Option<Agent>, Failure> {
        if git.scheme != Scheme::Ssh || self.session.agent(AGENT, Vec::new()).await?.is_none() {
            return Ok(None);
        }
        let name = format!("{}-git-{}", self.lease, self.agents.fetch_add(1, Ordering::Relaxed));
        Ok(Some(Agent::named(self.session.clone(), AGENT, &name, 0o600, (0, 0))?))
    }

    /// A context that a URL names. One that is a file is unpacked if it is an archive and `unpacks`; else it is a file with
    /// the name [`SINGLE`].
    pub async fn context(&self, remote: &Remote, unpacks: bool, running: &Running) -> Result<RemoteTree, Failure> {
        let http = match remote {
            Remote::Git(git) => return self.tree(git, running).await,
            Remote::Http(http) => http,
        };
        let file = self.file(http, None, running).await?;
        self.deliver(&file, running).await?;
        let shown = redact(&http.url);
        let tree = if unpacks && is_archive(&self.store, &file.blake3).await? {
            self.unpacked(file.blake3, &shown).await?
        } else {
            let placement = Placement::File { blake3: file.blake3, size: file.size, same_file: 0 };
            let entry = Entry {
                mode: Some(0o600),
                modified: file.modified.and_then(|at| at.as_nanosecond().try_into().ok()),
                ..Entry::new(format!("/{SINGLE}").into_bytes(), placement)
            };
            let key = Key::root("single file").part(file.blake3).finish();
            self.layer(key, entry, &shown).await.map(|layer| tree(layer, key, true))?
        };
        let time = match file.modified {
            Some(time) => Some(time),
            None if !tree.is_single => self.newest(&tree.layer).await?,
            None => None,
        };
        Ok(RemoteTree { time, ..tree })
    }

    /// A context that is an archive of the client.
    pub async fn archive(&self, blake3: Blake3, size: u64) -> Result<RemoteTree, Error> {
        let key = archive_key(&blake3);
        if let Some(layer) = self.known(key).await? {
            let time = self.newest(&layer).await?;
            return Ok(RemoteTree { time, ..tree(layer, key, false) });
        }
        let missing = self.store.missing(&[blake3], &self.lease).await?;
        if !missing.is_empty() {
            let (sender, receiver) = mpsc::channel(16);
            let put = self.store.put_contents(receiver, HashMap::from([(blake3, size)]), &self.lease);
            let (asked, stored) = tokio::join!(self.session.contents(missing, sender), put);
            asked.and(stored)?;
        }
        if !is_archive(&self.store, &blake3).await? {
            return Err(Error::Context { problem: "it is no archive".to_owned() });
        }
        let found = self.unpacked(blake3, "an archive of the client").await?;
        let time = self.newest(&found.layer).await?;
        Ok(RemoteTree { time, ..found })
    }

    async fn unpacked(&self, blake3: Blake3, shown: &str) -> Result<RemoteTree, Error> {
        let key = archive_key(&blake3);
        let layer = self.layer(key, Entry::new(b"/".to_vec(), Placement::Archive(blake3)), shown).await?;
        Ok(tree(layer, key, false))
    }

    /// A layer with one entry, from the cache or made now.
    async fn layer(&self, key: Blake3, entry: Entry, shown: &str) -> Result<String, Error> {
        match self.known(key).await? {
            Some(layer) => Ok(layer),
            None => self.write(key, vec![entry], shown).await,
        }
    }

    /// The layer that the cache has under a key.
    async fn known(&self, key: Blake3) -> Result<Option<String>, Error> {
        let found = self.store.cached(&identity(key, ""), &[], ByContent::No, &self.lease).await?;
        Ok(found.record.map(|record| record.layer))
    }

    /// Writes a layer that the cache knows.
    async fn write(&self, key: Blake3, entries: Vec<Entry>, shown: &str) -> Result<String, Error> {
        let (tree, entries) = (Tree::default(), Entries::of(entries));
        Ok(self.store.write_tree(tree, entries, &identity(key, shown), &self.lease).await?.layer)
    }

    /// When the newest file of a layer was changed.
    async fn newest(&self, layer: &str) -> Result<Option<Timestamp>, Error> {
        let listed = self.store.list_tree(&[layer.to_owned()], "/", true).await?;
        let newest = listed.iter().filter(|one| one.is_file()).filter_map(|one| one.modified).max();
        Ok(newest.and_then(|at| Timestamp::from_nanosecond(at.into()).ok()))
    }

    /// The newest file of a file that is an archive, as of an archive that is a context.
    pub async fn newest_of(&self, file: &File, running: &Running) -> Result<Option<Timestamp>, Failure> {
        self.deliver(file, running).await?;
        if !is_archive(&self.store, &file.blake3).await? {
            return Ok(None);
        }
        let tree = self.unpacked(file.blake3, &redact(file.url())).await?;
        Ok(self.newest(&tree.layer).await?)
    }

    /// The text of a Dockerfile that a URL holds.
    pub async fn dockerfile(&self, http: &Http, running: &Running) -> Result<Vec<u8>, Failure> {
        let file = self.file(http, None, running).await?;
        if file.size > LARGEST_DOCKERFILE {
            return Err(Failure::TooLarge { limit: LARGEST_DOCKERFILE });
        }
        self.deliver(&file, running).await?;
        Ok(self.store.content(&file.blake3).await?)
    }

    /// A file of a context as a content of the store, with its size, if it is an archive.
    pub async fn archive_in(&self, layers: &[String], path: &[u8]) -> Result<Option<(Blake3, u64)>, Failure> {
        let mut spool = self.sources.spool()?;
        self.store.stream_file(layers, path, |chunk| spool.write(chunk)).await?;
        let Spooled { file, blake3, size, .. } = spool.finish()?;
        if !self.store.missing(&[blake3], &self.lease).await?.is_empty() {
            self.store.put_file(file, blake3, size, &self.lease).await?;
        }
        Ok(is_archive(&self.store, &blake3).await?.then_some((blake3, size)))
    }

    /// A file of a context. `None`: there is none.
    pub async fn read(&self, tree: &RemoteTree, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = format!("/{}", path.trim_start_matches('/'));
        self.store.read_file(std::slice::from_ref(&tree.layer), &path).await
    }

    /// What the client says of a web server: a header, or a token.
    async fn web_credentials(&self, http: &Http) -> Result<Option<String>, Error> {
        if let Some(header) = self.secret(&format!("HTTP_AUTH_HEADER_{}", http.host)).await? {
            return Ok(Some(header));
        }
        let token = self.secret(&format!("HTTP_AUTH_TOKEN_{}", http.host)).await?;
        Ok(token.map(|token| format!("Bearer {token}")))
    }

    /// What the client says of a git server: first of this one, then of any.
    async fn git_credentials(&self, git: &Git) -> Result<Option<String>, Error> {
        if !matches!(git.scheme, Scheme::Http | Scheme::Https) {
            return Ok(None);
        }
        for end in [format!(".{}", git.host), String::new()] {
            if let Some(header) = self.secret(&format!("GIT_AUTH_HEADER{end}")).await? {
                return Ok(Some(header));
            }
            if let Some(token) = self.secret(&format!("GIT_AUTH_TOKEN{end}")).await? {
                use base64::Engine as _;
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
                return Ok(Some(format!("basic {pair}")));
            }
        }
        Ok(None)
    }

    /// A secret that is text, without the line break at its end.
    async fn secret(&self, id: &str) -> Result<Option<String>, Error> {
        let Some(secret) = self.session.secret(id).await? else { return Ok(None) };
        let not_text = |_| Error::Client { what: format!("secret {id:?}"), problem: "it is no text".to_owned() };
        let text = std::str::from_utf8(secret.bytes()).map_err(not_text)?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|text| !text.is_empty()))
    }
}

fn tree(layer: String, key: Blake3, is_single: bool) -> RemoteTree {
    RemoteTree { layer, key, time: None, is_single }
}

fn archive_key(blake3: &Blake3) -> Blake3 {
    Key::root("unpacked archive").part(blake3).finish()
}

/// A remote source as the cache knows it: it has no other versions.
fn identity(key: Blake3, shown: &str) -> Identity {
    Identity { key, operation: key, family: key, description: shown.to_owned() }
}

/// What may be secret in a query is not for eyes.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// Git LFS is not there: what it keeps elsewhere is a pointer.
fn warn_of_pointers(git: &Git, pointers: &[String], running: &Running) {
    let Some(first) = pointers.first() else { return };
    let others = match pointers.len() {
        1 => String::new(),
        count => format!(" and {} others", count - 1),
    };
    let text = format!(
        "/{first}{others} of {} are pointers of Git LFS: what they point to is not fetched, since LFS is not available yet",
        git.remote
    );
    running.warn(text);
}
