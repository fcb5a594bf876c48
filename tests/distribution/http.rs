//! A client of HTTP/1.1 that does what a test says and nothing else: no retries, no redirects, no header of its own
//! but Host, Connection and the length of a body.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// No answer takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is sent.
pub struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Body,
}

enum Body {
    None,
    Whole(Vec<u8>),
    /// Sent in pieces, without a length.
    Chunked(Vec<Vec<u8>>),
    /// Announced with this length, then cut off.
    Cut(Vec<u8>, usize),
}

/// What came back.
#[derive(Clone)]
pub struct Answer {
    /// What was asked, for failures.
    pub asked: String,
    /// Status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body; empty after a HEAD.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}\n{}", self.asked, self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        let shown = &self.body[..self.body.len().min(2000)];
        write!(f, "\n{}", String::from_utf8_lossy(shown))
    }
}

impl Request {
    /// A request without a body. `target` begins with "/".
    pub fn new(method: &'static str, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: Body::None }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends bytes with their length.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Whole(bytes.into());
        self
    }

    /// Sends pieces with "Transfer-Encoding: chunked".
    pub fn chunked(mut self, pieces: &[&[u8]]) -> Self {
        self.body = Body::Chunked(pieces.iter().map(|piece| piece.to_vec()).collect());
        self
    }

    /// Announces `length` bytes, sends fewer, and goes away.
    pub fn cut(mut self, bytes: impl Into<Vec<u8>>, length: usize) -> Self {
        self.body = Body::Cut(bytes.into(), length);
        self
    }

    fn head(&self, host: &str) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            Body::None if matches!(self.method, "POST" | "PUT" | "PATCH") => head.push_str("Content-Length: 0\r\n"),
            Body::None => {}
            Body::Whole(bytes) => head.push_str(&format!("Content-Length: {}\r\n", bytes.len())),
            Body::Chunked(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
            Body::Cut(_, length) => head.push_str(&format!("Content-Length: {length}\r\n")),
        }
        head.push_str("\r\n");
        head
    }

    /// Sends it and reads the answer. `None`: the request was cut off.
    fn exchange(&self, address: SocketAddr) -> Option<Answer> {
        let mut stream = TcpStream::connect(address).expect("the registry listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time above zero");
        stream.set_write_timeout(Some(DEADLINE)).expect("a time above zero");
        let mut send = |bytes: &[u8]| stream.write_all(bytes);
        // A registry may answer and close before it has read a body that it refuses.
        let _ = send(self.head(&address.to_string()).as_bytes());
        match &self.body {
            Body::None => {}
            Body::Whole(bytes) => drop(send(bytes)),
            Body::Chunked(pieces) => {
                for piece in pieces {
                    let _ = send(format!("{:x}\r\n", piece.len()).as_bytes());
                    let _ = send(piece);
                    let _ = send(b"\r\n");
                }
                let _ = send(b"0\r\n\r\n");
            }
            Body::Cut(bytes, _) => {
                let _ = send(bytes);
                return None;
            }
        }
        Some(self.read(&mut BufReader::new(stream)))
    }

    fn read(&self, from: &mut impl BufRead) -> Answer {
        let asked = format!("{} {}", self.method, self.target);
        loop {
            let status_line = line(from);
            let status = status_line.split(' ').nth(1).and_then(|text| text.parse().ok());
            let status: u16 = status.unwrap_or_else(|| panic!("{asked}: no status in {status_line:?}"));
            let mut headers = Vec::new();
            loop {
                let text = line(from);
                let Some((name, value)) = text.split_once(':') else { break };
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            // "100 Continue" precedes the answer.
            if status >= 200 {
                let mut answer = Answer { asked, status, headers, body: Vec::new() };
                answer.body = self.read_body(&answer, from);
                return answer;
            }
        }
    }

    fn read_body(&self, answer: &Answer, from: &mut impl BufRead) -> Vec<u8> {
        let mut body = Vec::new();
        if self.method == "HEAD" || matches!(answer.status, 204 | 304) {
            return body;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let length = usize::from_str_radix(&line(from), 16).expect("a chunk begins with its length");
                let start = body.len();
                body.resize(start + length, 0);
                from.read_exact(&mut body[start..]).expect("a chunk is whole");
                line(from);
                if length == 0 {
                    return body;
                }
            }
        }
        match answer.header("content-length").map(|text| text.parse().expect("a number")) {
            Some(length) => {
                body.resize(length, 0);
                from.read_exact(&mut body).unwrap_or_else(|error| panic!("{answer:?}: the body is cut: {error}"));
            }
            None => drop(from.read_to_end(&mut body)),
        }
        body
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut text = String::new();
    from.read_line(&mut text).expect("an answer in time");
    text.trim_end_matches(['\r', '\n']).to_owned()
}

/// Sends a request.
pub fn send(address: SocketAddr, request: &Request) -> Answer {
    request.exchange(address).expect("requests that are cut go through `abandon`")
}

/// Sends a request that is cut off.
pub fn abandon(address: SocketAddr, request: &Request) {
    assert!(request.exchange(address).is_none(), "only requests that are cut are abandoned");
}

impl Answer {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header, also those that share a line.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(found, _)| found == name);
        lines.flat_map(|(_, value)| value.split(',')).map(str::trim).collect()
    }

    /// Insists on a status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Insists on one of these.
    #[track_caller]
    pub fn expect_one_of(self, statuses: &[u16]) -> Self {
        assert!(statuses.contains(&self.status), "none of {statuses:?}: {self:?}");
        self
    }

    /// Insists on a header and returns it.
    #[track_caller]
    pub fn must(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no header {name}: {self:?}"))
    }

    /// Insists on the value of a header.
    #[track_caller]
    pub fn has(self, name: &str, value: &str) -> Self {
        assert_eq!(self.must(name), value, "{name} of {self:?}");
        self
    }

    /// Insists on an error of the specification with this code, in the specification's form.
    #[track_caller]
    pub fn fails_with(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        let codes = answer.codes();
        assert!(codes.iter().any(|found| found == code), "no {code}: {answer:?}");
        answer
    }

    /// The codes of an error body, whose form is checked.
    #[track_caller]
    pub fn codes(&self) -> Vec<String> {
        let json = self.json();
        let errors = json["errors"].as_array().unwrap_or_else(|| panic!("no list of errors: {self:?}"));
        assert!(!errors.is_empty(), "{self:?}");
        let code = |error: &serde_json::Value| {
            let code = error["code"].as_str().unwrap_or_else(|| panic!("an error without a code: {self:?}"));
            assert!(code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{self:?}");
            code.to_owned()
        };
        errors.iter().map(code).collect()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
