use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex as Blocking;

use strata_dockerfile::remote::{self, Remote};

use super::*;
use crate::progress;

/// A server that answers with what it is told, one request per connection, and notes what it is asked.
struct Server {
    address: String,
    asked: Arc<Blocking<Vec<String>>>,
}

impl Server {
    fn new(answer: impl Fn(&str, &str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it listens").to_string();
        let asked = Arc::new(Blocking::new(Vec::new()));
        let noted = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = String::new();
                let mut lines = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
                while lines.read_line(&mut request).is_ok_and(|count| count > 2) {}
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                noted.lock().expect("nobody panics with it").push(request.clone());
                let _ = stream.write_all(answer(&path, &request).as_bytes());
            }
        });
        Self { address, asked }
    }

    fn wanted(&self, path: &str) -> Wanted {
        wanted(&format!("http://{}{path}", self.address))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

fn ok(headers: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn empty(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n")
}

fn wanted(url: &str) -> Wanted {
    let Ok(Some(Remote::Http(http))) = remote::parse(url) else { panic!("{url}") };
    Wanted { http, checksum: None, authorization: None }
}

fn sources() -> (tempfile::TempDir, Sources) {
    let place = tempfile::tempdir().expect("a directory can be made");
    let sources = Sources::open(place.path());
    (place, sources)
}

fn moving() -> Moving {
    progress::channel().0.running(1, "a step", 1).part("downloading")
}

async fn look(sources: &Sources, wanted: &Wanted) -> Result<File, String> {
    sources.look(wanted, moving).await.map_err(|failure| failure.to_string())
}

#[tokio::test]
async fn a_file_has_the_content_and_the_time_that_the_server_says() {
    let server = Server::new(|_, _| ok("Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n", "hello"));
    let (_place, sources) = sources();

    let file = look(&sources, &server.wanted("/a?b")).await.expect("it is there");

    assert_eq!((file.blake3, file.size), (*blake3::hash(b"hello").as_bytes(), 5));
    assert_eq!(file.modified.map(|at| at.as_second()), Some(1_445_412_480));
    assert!(server.asked()[0].starts_with("GET /a?b HTTP/1.1"), "{:?}", server.asked());
}

#[tokio::test]
async fn what_has_not_changed_does_not_come_again() {
    for (name, asks, headers) in [
        ("a tag", "if-none-match: W/\"x\"", "ETag: W/\"x\"\r\n"),
        ("a time", "if-modified-since: Wed, 21 Oct 2015", "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n"),
    ] {
        let answer = move |_: &str, request: &str| match request.to_lowercase().contains(&asks.to_lowercase()) {
            true => empty("304 Not Modified", ""),
            false => ok(headers, "hello"),
        };
        let server = Server::new(answer);
        let (_place, sources) = sources();

        let first = look(&sources, &server.wanted("/a")).await.expect(name);
        let second = look(&sources, &server.wanted("/a")).await.expect(name);

        assert_eq!((first.blake3, first.modified), (second.blake3, second.modified), "{name}");
        assert!(second.spooled.lock().await.is_none(), "{name}: it came again");
        assert_eq!(server.asked().len(), 2, "{name}");
    }
}

#[tokio::test]
async fn a_time_of_change_in_the_second_of_the_answer_proves_nothing() {
    let now = || httpdate::fmt_http_date(SystemTime::now());
    let server = Server::new(move |_, _| ok(&format!("Last-Modified: {0}\r\nDate: {0}\r\n", now()), "hello"));
    let (_place, sources) = sources();

    for _ in 0..2 {
        look(&sources, &server.wanted("/a")).await.expect("it is there");
    }

    assert!(server.asked().iter().all(|request| !request.to_lowercase().contains("if-modified")));
}

#[tokio::test]
async fn a_checksum_that_differs_is_refused_and_one_that_is_known_needs_no_server() {
    let hello = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let server = Server::new(|_, _| ok("", "hello"));
    let (_place, sources) = sources();
    let with = |text: &str| Wanted { checksum: Checksum::parse(text).ok(), ..server.wanted("/a") };

    let other = format!("sha256:{}", "0".repeat(64));
    let refused = look(&sources, &with(&other)).await.expect_err("it is another");
    assert!(refused.contains(hello) && refused.contains(&other), "{refused}");
    let long = format!("sha512:{}", hex::encode(<sha2::Sha512 as sha2::Digest>::digest(b"hello")));
    look(&sources, &with(&long)).await.expect("it is the file");
    look(&sources, &with(hello)).await.expect("it is the file");
    let asked = server.asked().len();
    look(&sources, &with(hello)).await.expect("it is known");
    look(&sources, &with(&long)).await.expect("it is known");

    assert_eq!(server.asked().len(), asked);
}

#[tokio::test]
async fn other_answers_than_the_file_are_told() {
    let server = Server::new(|path, _| match path {
        "/moved" => empty("302 Found", "Location: /moved\r\n"),
        "/file" => empty("302 Found", "Location: file:///etc/passwd\r\n"),
        "/short" => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhello".to_owned(),
        "/unasked" => empty("304 Not Modified", ""),
        "/huge" => "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nx".to_owned(),
        _ => empty("404 Not Found", ""),
    });
    let (_place, sources) = sources();

    for (path, part) in [
        ("/none", "404 Not Found"),
        ("/moved", "moved too often"),
        ("/file", "only http and https"),
        ("/short", "body"),
        ("/unasked", "304"),
        ("/huge", "the most that a source may have"),
    ] {
        let said = look(&sources, &server.wanted(path)).await.expect_err(path);
        assert!(said.contains(part), "{path}: {said}");
    }
    let said = look(&sources, &wanted("http://127.0.0.1:1/x")).await.expect_err("nobody listens");
    assert!(said.to_lowercase().contains("refused"), "{said}");
}

/// Credentials reach the host that they are for, and no other.
#[tokio::test]
async fn row_120_credentials_do_not_follow_to_another_host() {
    let other = Server::new(|_, _| ok("", "hello"));
    let to = other.address.clone();
    let server = Server::new(move |path, _| match path {
        "/here" => empty("301 Moved Permanently", "Location: /there\r\n"),
        "/there" => ok("", "hello"),
        _ => empty("302 Found", &format!("Location: http://{to}/x\r\n")),
    });
    let (_place, sources) = sources();
    let with = |path: &str| Wanted { authorization: Some("Bearer canary\n".to_owned()), ..server.wanted(path) };

    look(&sources, &with("/here")).await.expect("it is there");
    look(&sources, &with("/away")).await.expect("it is there");
    let url = format!("http://name:canary@{}/away", server.address);
    look(&sources, &wanted(&url)).await.expect("it is there");

    let asked = server.asked();
    assert!(asked.iter().all(|request| request.to_lowercase().contains("authorization: ")), "{asked:?}");
    assert!(asked[0].contains("Bearer canary\r\n"), "{asked:?}");
    assert!(
        other.asked().iter().all(|request| !request.to_lowercase().contains("authorization")),
        "{:?}",
        other.asked()
    );
    assert_eq!(other.asked().len(), 2);
    let broken = Wanted { authorization: Some("Bearer canary\r\nX: y".to_owned()), ..server.wanted("/here") };
    let said = look(&sources, &broken).await.expect_err("a header in the credentials");
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn an_https_source_is_not_continued_in_the_clear() {
    let from = Url::parse("https://host/a").expect("a URL");
    let to = |text: &'static str| follow(&from, &HeaderValue::from_static(text));

    assert_eq!(to("/b?c").expect("the same host").as_str(), "https://host/b?c");
    let said = to("http://n:canary@host/b?token=canary").expect_err("no encryption").to_string();
    assert!(said.contains("without encryption") && !said.contains("canary"), "{said}");
}
