//! Files of web servers. What came once is asked for again only if it has changed, by the validators that came with it;
//! what a checksum names is not asked for at all where the store has it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use strata_dockerfile::remote::{Algorithm, Checksum, Http, UserInfo, redact};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::spool::{Spool, Spooled};
use super::{Failure, Sources};
use crate::context::Blake3;
use crate::peers::Store;
use crate::progress::Moving;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a server may be silent.
const IDLE: Duration = Duration::from_secs(90);
/// Most bytes of a source.
const LARGEST: u64 = 64 << 30;
/// How often a server may send elsewhere.
const REDIRECTS: usize = 10;
/// A time of change says that nothing has changed if it was this much in the past when the file came: it counts seconds.
const SETTLED: Duration = Duration::from_secs(60);

/// A file, and as whom it is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The URL.
    pub http: Http,
    /// What it must hash to.
    pub checksum: Option<Checksum>,
    /// The header of the credentials for its host.
    pub authorization: Option<String>,
}

/// A file that a server has.
#[derive(Debug)]
pub struct File {
    /// Digest of its content.
    pub blake3: Blake3,
    /// Size in bytes.
    pub size: u64,
    /// When it was changed, as the server says.
    pub modified: Option<Timestamp>,
    wanted: Wanted,
    spooled: Mutex<Option<Spooled>>,
}

/// What is known of a file from earlier.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    blake3: String,
    size: u64,
    modified: Option<i64>,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl File {
    /// Where it was asked for.
    pub fn url(&self) -> &str {
        &self.wanted.http.url
    }
}

impl Known {
    fn file(&self, wanted: &Wanted) -> Option<File> {
        let blake3 = hex::decode(&self.blake3).ok()?.try_into().ok()?;
        let modified = self.modified.and_then(|seconds| Timestamp::from_second(seconds).ok());
        Some(File { blake3, size: self.size, modified, wanted: wanted.clone(), spooled: Mutex::new(None) })
    }
}

impl Sources {
    /// Finds out what a URL holds now. Bytes come only if it is not known already.
    pub async fn look(&self, wanted: &Wanted, progress: impl FnOnce() -> Moving) -> Result<File, Failure> {
        if let Some(checksum) = &wanted.checksum
            && let Some(known) = self.memory.recall::<Known>("checksum", &checksum.to_string())
            && let Some(file) = known.file(wanted)
        {
            return Ok(file);
        }
        let known = self.memory.recall::<Known>("url", &wanted.http.url).filter(|_| wanted.checksum.is_none());
        let response = self.ask(wanted, known.as_ref()).await?;
        if let Some(file) = known.filter(|_| response.status() == StatusCode::NOT_MODIFIED).and_then(|k| k.file(wanted))
        {
            return Ok(file);
        }
        self.receive(wanted, response, progress()).await
    }

    /// Brings the content of a file to the store, if it is not there.
    pub async fn deliver(
        &self,
        file: &File,
        store: &Store,
        lease: &str,
        progress: impl FnOnce() -> Moving,
    ) -> Result<(), Failure> {
        if store.missing(&[file.blake3], lease).await?.is_empty() {
            return Ok(());
        }
        let mut spooled = file.spooled.lock().await;
        if spooled.is_none() {
            let response = self.ask(&file.wanted, None).await?;
            let again = self.receive(&file.wanted, response, progress()).await?;
            if again.blake3 != file.blake3 {
                return Err(Failure::Changed);
            }
            *spooled = again.spooled.into_inner();
        }
        if let Some(Spooled { file, blake3, size, .. }) = spooled.take() {
            store.put_file(file, blake3, size, lease).await?;
        }
        Ok(())
    }

    /// Asks for a file, unless it is still what is known. The answer is that it is there, or that it has not changed.
    async fn ask(&self, wanted: &Wanted, known: Option<&Known>) -> Result<Response, Failure> {
        let client = self.client.get_or_try_init(|| async { client() }).await?;
        let first = Url::parse(&wanted.http.url).map_err(|error| Failure::Network { problem: error.to_string() })?;
        let mut url = first.clone();
        for _ in 0..=REDIRECTS {
            let mut headers = HeaderMap::new();
            if let Some(known) = known {
                validators(known, &mut headers);
            }
            // Credentials are for the host of the URL, and for no other that it sends to.
            if let Some(text) = authorization(wanted).filter(|_| url.origin() == first.origin()) {
                headers.insert(header::AUTHORIZATION, secret(&text)?);
            }
            let request = client.get(url.clone()).headers(headers);
            let answer = timeout(IDLE, request.send()).await.map_err(|_| silent())?.map_err(Failure::network)?;
            let status = answer.status();
            match answer.headers().get(header::LOCATION) {
                Some(to) if status.is_redirection() && status != StatusCode::NOT_MODIFIED => url = follow(&url, to)?,
                _ if status == StatusCode::OK => return Ok(answer),
                _ if status == StatusCode::NOT_MODIFIED && known.is_some() => return Ok(answer),
                _ => return Err(Failure::Status { status: status.to_string() }),
            }
        }
        Err(Failure::Redirect { to: shown(&url), problem: "it was moved too often" })
    }

    async fn receive(&self, wanted: &Wanted, mut answer: Response, mut moving: Moving) -> Result<File, Failure> {
        let total = answer.content_length().unwrap_or(0);
        let too_large = || Failure::TooLarge { limit: LARGEST };
        if total > LARGEST {
            return Err(too_large());
        }
        let algorithm = wanted.checksum.as_ref().map_or(Algorithm::Sha256, |checksum| checksum.algorithm);
        let mut spool = Spool::new(&self.passing, algorithm)?;
        while let Some(chunk) = timeout(IDLE, answer.chunk()).await.map_err(|_| silent())?.map_err(Failure::network)? {
            spool.write(&chunk)?;
            if spool.size() > LARGEST {
                return Err(too_large());
            }
            moving.at(spool.size(), total);
        }
        let spooled = spool.finish()?;
        moving.done();
        if let Some(checksum) = wanted.checksum.as_ref().filter(|checksum| checksum.hex != spooled.checksum) {
            let found = format!("{}:{}", algorithm.name(), spooled.checksum);
            return Err(Failure::Checksum { expected: checksum.to_string(), found });
        }
        let known = known(answer.headers(), &spooled);
        if known.etag.is_some() || known.last_modified.is_some() {
            self.memory.note("url", &wanted.http.url, &known);
        }
        // What it hashes to is true of it for ever.
        self.memory.note("checksum", &format!("{}:{}", algorithm.name(), spooled.checksum), &known);
        let modified = known.modified.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let (blake3, size) = (spooled.blake3, spooled.size);
        Ok(File { blake3, size, modified, wanted: wanted.clone(), spooled: Mutex::new(Some(spooled)) })
    }
}

fn client() -> Result<Client, Failure> {
    let builder = Client::builder()
        .user_agent(concat!("strata/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_idle_timeout(Duration::from_secs(30));
    builder.build().map_err(|error| match Failure::network(error) {
        Failure::Network { problem } => Failure::Network {
            problem: format!("{problem}; has this machine any certificates (the package ca-certificates)?"),
        },
        other => other,
    })
}

fn silent() -> Failure {
    Failure::Silent { seconds: IDLE.as_secs() }
}

/// Where a server sends to.
fn follow(from: &Url, to: &HeaderValue) -> Result<Url, Failure> {
    let text = String::from_utf8_lossy(to.as_bytes()).into_owned();
    let refused = |to: String, problem| Failure::Redirect { to, problem };
    let to = from.join(&text).map_err(|_| refused(redact(&text), "that is no URL"))?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Err(refused(shown(&to), "an https source is not continued without encryption")),
        (_, "http" | "https") => Ok(to),
        _ => Err(refused(shown(&to), "only http and https are followed")),
    }
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    redact(url.as_str())
}

fn authorization(wanted: &Wanted) -> Option<String> {
    use base64::Engine as _;
    let basic = |UserInfo { name, password }: &UserInfo| {
        let pair = format!("{name}:{}", password.as_deref().unwrap_or_default());
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    wanted.authorization.clone().or_else(|| wanted.http.user.as_ref().map(basic))
}

fn secret(text: &str) -> Result<HeaderValue, Failure> {
    let problem = || "the credentials for its host cannot be sent: they hold a line break or another control character";
    let mut value = HeaderValue::from_str(text.trim_end_matches(['\r', '\n']))
        .map_err(|_| Failure::Network { problem: problem().to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

fn validators(known: &Known, headers: &mut HeaderMap) {
    // A server that knows both goes by the tag.
    for (name, value) in [(header::IF_NONE_MATCH, &known.etag), (header::IF_MODIFIED_SINCE, &known.last_modified)] {
        if let Some(value) = value.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(name, value);
        }
    }
}

fn known(headers: &HeaderMap, spooled: &Spooled) -> Known {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let time = |text: &str| httpdate::parse_http_date(text).ok();
    let last_modified = text(header::LAST_MODIFIED);
    let modified = last_modified.as_deref().and_then(time);
    let now = text(header::DATE).as_deref().and_then(time).unwrap_or_else(SystemTime::now);
    let is_settled = modified.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age >= SETTLED));
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).ok().and_then(|at| i64::try_from(at.as_secs()).ok());
    Known {
        blake3: hex::encode(spooled.blake3),
        size: spooled.size,
        modified: modified.and_then(seconds),
        etag: text(header::ETAG),
        last_modified: last_modified.filter(|_| is_settled),
    }
}

#[cfg(test)]
mod tests;
