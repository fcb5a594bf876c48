//! An HTTP/1.1 server that does exactly what a test says, wrong things too.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// False where the server stopped reading in the middle: no answer is sent then.
    pub(crate) is_whole: bool,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// A parameter of the query, decoded.
    pub(crate) fn parameters(&self, name: &str) -> Vec<String> {
        let url: reqwest::Url = format!("http://x{}", self.target).parse().unwrap();
        url.query_pairs().filter(|(known, _)| known == name).map(|(_, value)| value.into_owned()).collect()
    }
}

/// An answer, with what is wrong about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Close the connection after so many bytes, the head's included.
    pub(crate) cut: Option<usize>,
    /// Send so many bytes, and then nothing, for ever.
    pub(crate) stall: Option<usize>,
    /// Send the body again and again, without an end.
    pub(crate) is_endless: bool,
    /// Send the body in chunks, without saying its length.
    pub(crate) is_chunked: bool,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} Status\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if self.is_chunked || self.is_endless {
            text.push_str("transfer-encoding: chunked\r\n");
        } else if !has_length && self.status != 204 {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

#[derive(Default)]
struct Record {
    seen: Mutex<Vec<Seen>>,
    /// For the next bodies of requests: how many bytes of each are read before the connection is closed.
    cuts: Mutex<VecDeque<usize>>,
    written: AtomicUsize,
}

/// A server; it ends with its value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_tls(handler, None).await
    }

    pub(crate) async fn start_tls(
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::<Record>::default();
        let shared = record.clone();
        let handler: Arc<Handler> = Arc::new(handler);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (record, handler, tls) = (shared.clone(), handler.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &record, &*handler).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &record, &*handler).await,
                            // The client did not like the certificate, or the server that of the client.
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { address, record, task }
    }

    /// "127.0.0.1:port".
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.record.seen.lock().unwrap().clone()
    }

    /// How many requests began so: "GET /v2/a/b/blobs".
    pub(crate) fn count(&self, start: &str) -> usize {
        self.seen().iter().filter(|seen| format!("{} {}", seen.method, seen.target).starts_with(start)).count()
    }

    /// Bytes of bodies that were written.
    pub(crate) fn written(&self) -> usize {
        self.record.written.load(Ordering::Relaxed)
    }

    /// Makes the server close the connection after so many bytes of the next body that it gets.
    pub(crate) fn cut_next_body(&self, after: usize) {
        self.record.cuts.lock().unwrap().push_back(after);
    }
}

/// Serves one connection; None when it ended.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, record: &Record, handler: &Handler) -> Option<()> {
    loop {
        let (mut seen, start) = read_head(&mut stream).await?;
        read_body(&mut stream, &mut seen, start, record).await?;
        let reply = handler(&seen);
        let is_whole = seen.is_whole;
        let is_head = seen.method == "HEAD";
        record.seen.lock().unwrap().push(seen);
        if !is_whole {
            return None;
        }
        write(&mut stream, &reply, is_head, record).await?;
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<(Seen, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        assert!(bytes.len() < 64 * 1024, "a head without an end");
        // 22 begins a greeting of TLS, to a server that speaks none.
        if stream.read_buf(&mut bytes).await.ok()? == 0 || bytes[0] == 22 {
            return None;
        }
    };
    let rest = bytes.split_off(end + 4);
    let text = String::from_utf8(bytes).unwrap();
    let mut lines = text.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let pair =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let headers = lines.filter_map(pair).collect();
    Some((Seen { method, target, headers, body: Vec::new(), is_whole: true }, rest))
}

async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    seen: &mut Seen,
    start: Vec<u8>,
    record: &Record,
) -> Option<()> {
    if seen.header("transfer-encoding") == Some("chunked") {
        return read_chunks(stream, seen, start, record).await;
    }
    let length: usize = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
    let most = if length > 0 { record.cuts.lock().unwrap().pop_front() } else { None };
    seen.is_whole = most.is_none();
    let wanted = most.unwrap_or(length).min(length);
    seen.body = start;
    while seen.body.len() < wanted {
        if stream.read_buf(&mut seen.body).await.ok()? == 0 {
            return None;
        }
    }
    seen.body.truncate(wanted);
    Some(())
}

/// A body without a length (RFC 9112, section 7.1).
async fn read_chunks(
    stream: &mut (impl AsyncRead + Unpin),
    seen: &mut Seen,
    mut bytes: Vec<u8>,
    record: &Record,
) -> Option<()> {
    let most = record.cuts.lock().unwrap().pop_front();
    seen.is_whole = most.is_none();
    loop {
        let line = loop {
            if let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
                break end;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        while bytes.len() < line + 2 + size + 2 {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        seen.body.extend_from_slice(&bytes[line + 2..][..size]);
        bytes.drain(..line + 2 + size + 2);
        if let Some(most) = most.filter(|most| seen.body.len() >= *most) {
            seen.body.truncate(most);
            return Some(());
        }
        if size == 0 {
            return Some(());
        }
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), reply: &Reply, is_head: bool, record: &Record) -> Option<()> {
    let mut bytes = reply.head();
    let head = bytes.len();
    let chunk = |body: &[u8]| [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat();
    if reply.is_endless {
        stream.write_all(&bytes).await.ok()?;
        loop {
            stream.write_all(&chunk(&reply.body)).await.ok()?;
            record.written.fetch_add(reply.body.len(), Ordering::Relaxed);
        }
    }
    if !is_head {
        match reply.is_chunked {
            true => bytes.extend([chunk(&reply.body), b"0\r\n\r\n".to_vec()].concat()),
            false => bytes.extend(&reply.body),
        }
    }
    let end = reply.cut.or(reply.stall).unwrap_or(bytes.len()).min(bytes.len());
    stream.write_all(&bytes[..end]).await.ok()?;
    record.written.fetch_add(end.saturating_sub(head), Ordering::Relaxed);
    stream.flush().await.ok()?;
    if reply.stall.is_some() {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    if reply.cut.is_some() {
        // An orderly end, so that what was written arrives.
        stream.shutdown().await.ok()?;
        return None;
    }
    Some(())
}
