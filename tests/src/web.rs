//! A web server on loopback, with files, validators, credentials and a memory of what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file that the server has.
#[derive(Debug, Clone, Default)]
struct Page {
    body: Vec<u8>,
    /// More lines of the head.
    headers: String,
    etag: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<String, Page>,
    /// Where other paths are looked for.
    directory: Option<PathBuf>,
    /// The `Authorization` without which it gives nothing.
    wanted: Option<String>,
    requests: Vec<String>,
}

/// A web server. It ends with the test.
#[derive(Debug)]
pub struct Web {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Web {
    /// A server without files.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it listens").to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its address.
    pub fn host(&self) -> &str {
        &self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on there is a file, with these lines in the head of its answer.
    pub fn put(&self, path: &str, body: impl AsRef<[u8]>, headers: &[&str]) {
        let headers = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let page = Page { body: body.as_ref().to_vec(), headers, etag: None };
        self.state().pages.insert(path.to_owned(), page);
    }

    /// From now on there is a file, with a tag of its content.
    pub fn put_tagged(&self, path: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref().to_vec();
        let etag = Some(format!("\"{}\"", crate::digest(&body)));
        self.state().pages.insert(path.to_owned(), Page { body, headers: String::new(), etag });
    }

    /// Looks for other paths in a directory.
    pub fn serve_directory(&self, directory: impl Into<PathBuf>) {
        self.state().directory = Some(directory.into());
    }

    /// Gives nothing to whoever does not send this `Authorization`.
    pub fn want(&self, authorization: &str) {
        self.state().wanted = Some(authorization.to_owned());
    }

    /// What it was asked since the last time: "GET /path" and the lines of the head.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream);
    let mut request = String::new();
    while lines.read_line(&mut request).is_ok_and(|count| count > 2) {}
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.requests.push(request.clone());
    let header = |name: &str| {
        let line = request.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        line.map(|(_, value)| value.trim().to_owned())
    };
    let page = state.pages.get(&path).cloned().or_else(|| {
        let file = path.split('?').next()?.trim_start_matches('/');
        let body = std::fs::read(state.directory.as_ref()?.join(file)).ok()?;
        Some(Page { body, ..Page::default() })
    });
    let (status, page) = match page {
        _ if state.wanted.is_some() && header("authorization") != state.wanted => {
            ("401 Unauthorized", Page { headers: "WWW-Authenticate: Basic\r\n".to_owned(), ..Page::default() })
        }
        None => ("404 Not Found", Page::default()),
        Some(page) if page.headers.contains("Location: ") => ("302 Found", page),
        Some(page) if page.etag.is_some() && header("if-none-match") == page.etag => {
            ("304 Not Modified", Page { body: Vec::new(), ..page })
        }
        Some(page) => ("200 OK", page),
    };
    drop(state);
    let etag = page.etag.map_or(String::new(), |etag| format!("ETag: {etag}\r\n"));
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", page.body.len());
    let mut stream = stream;
    let _ = stream.write_all(format!("{head}{etag}{}\r\n", page.headers).as_bytes());
    let _ = stream.write_all(&page.body);
}
