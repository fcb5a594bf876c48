//! A registry that a test makes misbehave: it has one image, answers by the rules, and lets the test change each answer on
//! its way out.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

/// Media type of the one manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header fields, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// What it asks for. None: nothing of the image.
    pub part: Option<Part>,
    /// When it was there.
    pub at: Instant,
}

impl Asked {
    /// Where the bytes shall begin that it asks for.
    pub fn from(&self) -> usize {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0)
    }
}

/// A part of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its manifest.
    Manifest,
    /// Its config.
    Config,
    /// Its layer.
    Layer,
}

/// An answer, with what is wrong about it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Header fields. Without a length, that of the body is told.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Ends the connection after so many bytes of head and body.
    pub cut: Option<usize>,
    /// Sends so many bytes of head and body, and from then on nothing.
    pub stall: Option<usize>,
    /// Sends the body so often. More than once: in chunks, so that nobody knows where it ends.
    pub repeat: u64,
}

impl Answer {
    /// An empty one.
    pub fn new(status: u16) -> Self {
        Self { status, headers: vec![], body: vec![], cut: None, stall: None, repeat: 1 }
    }

    /// With a header field.
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// With a body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Its head.
    pub fn head(&self) -> String {
        let mut text = format!("HTTP/1.1 {} Status\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.repeat > 1 {
            text.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text + "\r\n"
    }
}

type Change = dyn Fn(&Asked, Answer) -> Answer + Send + Sync;

/// A registry with the image "team/app:1". It ends with its process.
pub struct FaultyRegistry {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FaultyRegistry {
    /// A registry whose layer is this tar; `change` has the last word about each answer.
    pub fn start(layer: Vec<u8>, change: impl Fn(&Asked, Answer) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (shared, image, change) =
            (asked.clone(), Arc::new(Image::new(layer)), Arc::<Change>::from(Box::new(change) as Box<Change>));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (asked, image, change) = (shared.clone(), image.clone(), change.clone());
                thread::spawn(move || serve(client, &asked, &image, &*change));
            }
        });
        Self { address, asked }
    }

    /// Its name, which is where it listens.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The name of its image.
    pub fn image(&self) -> String {
        format!("{}/team/app:1", self.address)
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often a part was asked for.
    pub fn count(&self, part: Part) -> usize {
        self.asked().iter().filter(|asked| asked.method == "GET" && asked.part == Some(part)).count()
    }
}

/// The digest of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The one image.
struct Image {
    manifest: Content,
    config: Content,
    layer: Content,
}

/// Bytes, and their digest: a large layer is not hashed with each request.
struct Content {
    bytes: Vec<u8>,
    digest: String,
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), bytes }
    }
}

impl Image {
    fn new(layer: Vec<u8>) -> Self {
        let (host, layer) = (strata_types::Platform::host(), Content::from(layer));
        let config = serde_json::json!({
            "architecture": host.architecture, "os": host.os, "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        });
        let config = Content::from(config.to_string().into_bytes());
        let descriptor = |kind: &str, content: &Content| {
            serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": content.digest,
                "size": content.bytes.len()})
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("config.v1+json", &config), "layers": [descriptor("layer.v1.tar", &layer)],
        });
        Self { manifest: manifest.to_string().into_bytes().into(), config, layer }
    }

    fn part(&self, target: &str) -> Option<Part> {
        let path = target.split('?').next().unwrap_or_default();
        match path.strip_prefix("/v2/team/app/")?.split_once('/')? {
            ("manifests", name) if name == "1" || name == self.manifest.digest => Some(Part::Manifest),
            ("blobs", name) if name == self.config.digest => Some(Part::Config),
            ("blobs", name) if name == self.layer.digest => Some(Part::Layer),
            _ => None,
        }
    }

    /// What the rules want.
    fn answer(&self, asked: &Asked) -> Answer {
        let Content { bytes, digest } = match asked.part {
            Some(Part::Manifest) => &self.manifest,
            Some(Part::Config) => &self.config,
            Some(Part::Layer) => &self.layer,
            None if asked.target == "/v2/" => return Answer::new(200),
            None => return Answer::new(404).body(r#"{"errors":[{"code":"NAME_UNKNOWN","message":"not here"}]}"#),
        };
        let kind = if asked.part == Some(Part::Manifest) { MANIFEST } else { "application/octet-stream" };
        let plain = Answer::new(200).header("Content-Type", kind).header("Docker-Content-Digest", digest);
        match asked.from().min(bytes.len()) {
            0 => plain.body(bytes.clone()),
            from => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Answer { status: 206, ..plain }.header("Content-Range", range).body(&bytes[from..])
            }
        }
    }
}

/// Serves one connection until either side ends it.
fn serve(mut client: TcpStream, asked: &Mutex<Vec<Asked>>, image: &Image, change: &Change) -> Option<()> {
    let mut unread = Vec::new();
    loop {
        let request = read(&mut client, &mut unread, image)?;
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let answer = change(&request, image.answer(&request));
        write(&mut client, &answer, request.method == "HEAD")?;
    }
}

/// Reads a request, and past its body.
fn read(client: &mut TcpStream, unread: &mut Vec<u8>, image: &Image) -> Option<Asked> {
    let mut piece = [0; 16 << 10];
    let end = loop {
        if let Some(at) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let count = client.read(&mut piece).ok().filter(|count| *count > 0)?;
        unread.extend_from_slice(&piece[..count]);
    };
    let head = String::from_utf8_lossy(&unread[..end]).into_owned();
    unread.drain(..end);
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let fields = lines.filter_map(|line| line.split_once(':'));
    let headers: BTreeMap<_, _> =
        fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let mut left: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while left > 0 {
        if unread.is_empty() {
            let count = client.read(&mut piece).ok().filter(|count| *count > 0)?;
            unread.extend_from_slice(&piece[..count]);
        }
        let count = left.min(unread.len());
        unread.drain(..count);
        left -= count;
    }
    Some(Asked { part: image.part(&target), method, target, headers, at: Instant::now() })
}

/// Writes an answer; None where the connection is to end.
fn write(client: &mut TcpStream, answer: &Answer, is_head: bool) -> Option<()> {
    let mut bytes = answer.head().into_bytes();
    if is_head {
        return client.write_all(&bytes).ok();
    }
    if answer.repeat > 1 {
        client.write_all(&bytes).ok()?;
        let mut chunk = format!("{:x}\r\n", answer.body.len()).into_bytes();
        chunk.extend_from_slice(&answer.body);
        chunk.extend_from_slice(b"\r\n");
        for _ in 0..answer.repeat {
            client.write_all(&chunk).ok()?;
        }
        return client.write_all(b"0\r\n\r\n").ok();
    }
    bytes.extend_from_slice(&answer.body);
    if let Some(stall) = answer.stall.filter(|stall| *stall < bytes.len()) {
        client.write_all(&bytes[..stall]).ok()?;
        // Until the other side has lost its patience.
        client.set_read_timeout(Some(Duration::from_secs(120))).ok()?;
        let _ = client.read(&mut [0]);
        return None;
    }
    match answer.cut.filter(|cut| *cut < bytes.len()) {
        Some(cut) => {
            client.write_all(&bytes[..cut]).ok()?;
            None
        }
        None => client.write_all(&bytes).ok(),
    }
}
