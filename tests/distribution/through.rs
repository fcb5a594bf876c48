//! Pull-through: ours answers for registries that its configuration lists; the control is such a registry here.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use strata_tests::{Answer, Asked, FaultyRegistry, Part, digest};

use crate::{
    content::{INDEX, Image, index, put_manifest, sha256},
    http::Request,
    subject::{Kind, Registry, over_ours},
};

over_ours!(
    what_another_registry_has_is_pulled_through_and_kept,
    a_tag_is_followed_where_it_moves,
    an_index_is_pulled_through_with_what_is_below_it,
    what_another_registry_has_not_is_not_found,
    a_registry_that_cannot_be_reached_is_told_from_one_that_has_nothing,
    a_registry_that_is_not_listed_is_not_asked,
    an_image_made_here_is_not_replaced,
    what_was_pulled_through_is_pushed_under_another_name,
    clients_read_a_blob_while_it_comes_and_it_comes_once,
    nobody_gets_the_whole_of_a_blob_that_is_wrong,
    a_part_is_served_while_the_rest_comes,
    what_is_not_there_any_more_is_told_before_a_byte,
    credentials_are_those_that_the_configuration_points_at,
);

/// Another registry, and ours that answers for it under the name "hub.example".
fn both() -> (Registry, Registry) {
    let there = Registry::start(Kind::Control);
    let lines = format!(
        "[registries]\nattempts = 1\n[registries.any]\npull_through = true\n[registries.host.\"hub.example\"]\n\
         mirrors = [\"{}\"]\nmirrors_only = true\npull_through = true\n",
        there.address
    );
    (there, Registry::configured(&lines))
}

fn what_another_registry_has_is_pulled_through_and_kept(_: &Registry) {
    let (there, ours) = both();
    let image = Image::new("there");
    image.push(&there, "team/app", "v1");
    let layer = format!("/v2/hub.example/team/app/blobs/{}", sha256(&image.layer));
    let config = format!("/v2/hub.example/team/app/blobs/{}", sha256(&image.config));

    ours.head(layer.clone()).expect(404);
    let answer = ours.get("/v2/hub.example/team/app/manifests/v1").expect(200);
    assert_eq!(answer.body, image.manifest);
    let answer = ours.head(layer.clone()).expect(200);
    assert_eq!(answer.must("content-length"), image.layer.len().to_string());
    assert_eq!(ours.get(layer.clone()).expect(200).body, image.layer);
    ours.get("/v2/hub.example/team/app/tags/list").expect(200);
    ours.get("/v2/team/app/manifests/v1").expect(404);
    assert_eq!(ours.get("/v2/team/app/manifests/v1?ns=hub.example").expect(200).body, image.manifest);
    there.stop();

    for reference in ["v1", &image.digest()] {
        let answer = ours.get(format!("/v2/hub.example/team/app/manifests/{reference}")).expect(200);
        assert_eq!(answer.body, image.manifest);
    }
    assert_eq!(ours.get(layer).expect(200).body, image.layer);
    // Nobody had asked for it while it could be had.
    ours.get(config).expect(502);
    ours.stop();
}

fn a_tag_is_followed_where_it_moves(_: &Registry) {
    let (there, ours) = both();
    let (old, new) = (Image::new("old"), Image::new("new"));
    let asked = || ours.get("/v2/hub.example/app/manifests/latest").expect(200).body;

    old.push(&there, "app", "latest");
    assert_eq!(asked(), old.manifest);
    new.push(&there, "app", "latest");
    assert_eq!(asked(), new.manifest);

    ours.get(format!("/v2/hub.example/app/manifests/{}", old.digest())).expect(200);
    ours.stop();
    there.stop();
}

fn an_index_is_pulled_through_with_what_is_below_it(_: &Registry) {
    let (there, ours) = both();
    let (one, two) = (Image::new("one"), Image::new("two"));
    one.push(&there, "app", &one.digest());
    two.push(&there, "app", &two.digest());
    let both = index(&[&one.manifest, &two.manifest]);
    put_manifest(&there, "app", "both", INDEX, &both).expect(201);

    assert_eq!(ours.get("/v2/hub.example/app/manifests/both").expect(200).has("content-type", INDEX).body, both);
    let manifest = ours.get(format!("/v2/hub.example/app/manifests/{}", two.digest())).expect(200);
    assert_eq!(manifest.body, two.manifest);
    let layer = ours.get(format!("/v2/hub.example/app/blobs/{}", sha256(&two.layer))).expect(200);
    assert_eq!(layer.body, two.layer);

    ours.stop();
    there.stop();
}

fn what_another_registry_has_not_is_not_found(_: &Registry) {
    let (there, ours) = both();
    Image::new("there").push(&there, "app", "v1");

    ours.get("/v2/hub.example/app/manifests/v2").fails_with(404, "MANIFEST_UNKNOWN");
    ours.get(format!("/v2/hub.example/app/manifests/{}", sha256(b"x"))).fails_with(404, "MANIFEST_UNKNOWN");
    ours.get(format!("/v2/hub.example/app/blobs/{}", sha256(b"x"))).fails_with(404, "BLOB_UNKNOWN");
    ours.get("/v2/hub.example/nobody/manifests/v1").fails_with(404, "MANIFEST_UNKNOWN");

    ours.stop();
    there.stop();
}

fn a_registry_that_cannot_be_reached_is_told_from_one_that_has_nothing(_: &Registry) {
    let (there, ours) = both();
    there.stop();

    let answer = ours.get("/v2/hub.example/app/manifests/v1").expect(502);

    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(!format!("{answer:?}").contains("127.0.0.1:"), "where it asks is not told: {answer:?}");
    ours.stop();
}

fn a_registry_that_is_not_listed_is_not_asked(_: &Registry) {
    let (there, ours) = both();
    Image::new("there").push(&there, "app", "v1");

    // By the settings for any registry it would be.
    ours.get("/v2/other.example/app/manifests/v1").fails_with(404, "MANIFEST_UNKNOWN");
    ours.get(format!("/v2/app/manifests/v1?ns={}", there.address)).fails_with(404, "MANIFEST_UNKNOWN");

    ours.stop();
    there.stop();
}

fn an_image_made_here_is_not_replaced(_: &Registry) {
    let (there, ours) = both();
    Image::new("there").push(&there, "app", "v1");
    let mine = crate::own::import(&ours, "hub.example/app:v1", "mine");

    let manifest = ours.get("/v2/hub.example/app/manifests/v1").expect(200).json();

    assert_eq!(manifest["config"]["digest"], mine.id);
    ours.stop();
    there.stop();
}

fn what_was_pulled_through_is_pushed_under_another_name(_: &Registry) {
    let (there, ours) = both();
    let image = Image::new("there");
    image.push(&there, "app", "v1");
    ours.get("/v2/hub.example/app/manifests/v1").expect(200);

    // The same repository, whose blobs a HEAD says are there.
    put_manifest(&ours, "hub.example/app", "mine", crate::content::MANIFEST, &image.manifest).expect(201);
    there.stop();

    assert_eq!(ours.get("/v2/hub.example/app/manifests/mine").expect(200).body, image.manifest);
    assert_eq!(ours.get(format!("/v2/hub.example/app/blobs/{}", sha256(&image.layer))).expect(200).body, image.layer);
    ours.stop();
}

/// A layer of a size that no buffer on its way holds.
fn large() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    (0..2 << 20).flat_map(|_| next()).collect()
}

/// Ours, which answers for a registry that a test makes misbehave, and is impatient with it.
fn through(there: &FaultyRegistry, more: &str) -> Registry {
    Registry::configured(&format!(
        "{more}[registries]\nattempts = 9\nbackoff_milliseconds = 1\nidle_seconds = 1\n\
         [registries.host.\"hub.example\"]\nmirrors = [\"{}\"]\nmirrors_only = true\npull_through = true\n",
        there.host()
    ))
}

/// A client in the middle of an answer.
struct Client {
    stream: TcpStream,
    head: String,
    body: Vec<u8>,
}

impl Client {
    /// Asks for a blob, and reads the head of the answer.
    fn ask(ours: &Registry, digest: &str) -> Self {
        let mut stream = TcpStream::connect(ours.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let request = format!(
            "GET /v2/hub.example/team/app/blobs/{digest} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            ours.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut client = Self { stream, head: String::new(), body: Vec::new() };
        while !client.body.windows(4).any(|four| four == b"\r\n\r\n") {
            assert!(client.more(), "no head: {}", String::from_utf8_lossy(&client.body));
        }
        let end = client.body.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        client.head = String::from_utf8(client.body.drain(..end).collect()).unwrap();
        client
    }

    /// Reads something; false at the end.
    fn more(&mut self) -> bool {
        let mut piece = vec![0; 64 << 10];
        let count = self.stream.read(&mut piece).unwrap_or(0);
        self.body.extend_from_slice(&piece[..count]);
        count > 0
    }

    fn until(mut self, length: usize) -> Self {
        while self.body.len() < length && self.more() {}
        assert!(self.body.len() >= length, "{} of {length}", self.body.len());
        self
    }

    fn rest(mut self) -> Vec<u8> {
        while self.more() {}
        self.body
    }
}

fn clients_read_a_blob_while_it_comes_and_it_comes_once(_: &Registry) {
    let (layer, gate) = (large(), Arc::new((Mutex::new(false), Condvar::new())));
    let (half, open) = (layer.len() / 2, gate.clone());
    // The first answer stops at the half; the rest comes when the test has seen what there is.
    let there = FaultyRegistry::start(layer.clone(), move |asked, answer| match asked.part {
        Some(Part::Layer) if asked.from() == 0 => Answer { stall: Some(half), ..answer },
        Some(Part::Layer) => {
            let _open = open.1.wait_while(open.0.lock().unwrap(), |is_open| !*is_open).unwrap();
            answer
        }
        _ => answer,
    });
    let ours = through(&there, "");
    ours.get("/v2/hub.example/team/app/manifests/1").expect(200);
    let digest = digest(&layer);

    let enough = half - (512 << 10);
    let first = Client::ask(&ours, &digest).until(enough);
    let second = Client::ask(&ours, &digest).until(enough);

    assert!(
        first.head.starts_with("HTTP/1.1 200") && first.head.contains(&format!("{}", layer.len())),
        "{}",
        first.head
    );
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for client in [first, second] {
        assert!(client.rest() == layer);
    }
    let starts: Vec<_> =
        there.asked().iter().filter(|asked| asked.part == Some(Part::Layer)).map(Asked::from).collect();
    assert_eq!(starts.iter().filter(|from| **from == 0).count(), 1, "{starts:?}");
    assert_eq!(ours.get(format!("/v2/hub.example/team/app/blobs/{digest}")).expect(200).body, layer);
    ours.stop();
}

fn nobody_gets_the_whole_of_a_blob_that_is_wrong(_: &Registry) {
    let layer = large();
    let there = FaultyRegistry::start(layer.clone(), |asked, mut answer| {
        if asked.part == Some(Part::Layer) {
            let last = answer.body.len() - 1;
            answer.body[last] ^= 1;
        }
        answer
    });
    let ours = through(&there, "");
    ours.get("/v2/hub.example/team/app/manifests/1").expect(200);

    let got = Client::ask(&ours, &digest(&layer)).rest();

    assert!(got.len() < layer.len() && layer.starts_with(&got), "{} of {}", got.len(), layer.len());
    ours.stop();
}

fn a_part_is_served_while_the_rest_comes(_: &Registry) {
    let layer = large();
    let there = FaultyRegistry::start(layer.clone(), |_, answer| answer);
    let ours = through(&there, "");
    ours.get("/v2/hub.example/team/app/manifests/1").expect(200);
    let target = format!("/v2/hub.example/team/app/blobs/{}", digest(&layer));

    let part = ours.send(Request::new("GET", target.as_str()).header("range", "bytes=1000000-1999999")).expect(206);

    assert!(part.body == layer[1_000_000..2_000_000]);
    assert_eq!(part.must("content-range"), format!("bytes 1000000-1999999/{}", layer.len()));
    ours.send(Request::new("GET", target).header("range", "bytes=99999999-")).expect(416);
    ours.stop();
}

fn what_is_not_there_any_more_is_told_before_a_byte(_: &Registry) {
    let there = FaultyRegistry::start(large(), |asked, answer| match asked.part {
        Some(Part::Layer) => Answer::new(404),
        Some(Part::Config) => Answer::new(503),
        _ => answer,
    });
    let ours = through(&there, "");
    let manifest = ours.get("/v2/hub.example/team/app/manifests/1").expect(200).json();
    let blob = |digest: &serde_json::Value| format!("/v2/hub.example/team/app/blobs/{}", digest.as_str().unwrap());

    ours.get(blob(&manifest["layers"][0]["digest"])).fails_with(404, "BLOB_UNKNOWN");
    ours.get(blob(&manifest["config"]["digest"])).expect(502);
    ours.stop();
}

fn credentials_are_those_that_the_configuration_points_at(_: &Registry) {
    let layer = large();
    let there = FaultyRegistry::start(layer.clone(), |asked, answer| {
        // "me:canary-4711"
        match asked.headers.get("authorization").map(String::as_str) {
            Some("Basic bWU6Y2FuYXJ5LTQ3MTE=") => answer,
            _ => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        }
    });
    let files = tempfile::tempdir().unwrap();
    let password = files.path().join("password");
    std::fs::write(&password, "wrong\n").unwrap();
    let entry = format!(
        "[[registry.upstream]]\nhost = \"{}\"\nusername = \"me\"\npassword_file = {password:?}\n",
        there.host()
    );
    let ours = through(&there, &entry);

    ours.get("/v2/hub.example/team/app/manifests/1").fails_with(403, "DENIED");
    std::fs::write(&password, "canary-4711\n").unwrap();
    ours.get("/v2/hub.example/team/app/manifests/1").expect(200);
    let got = ours.get(format!("/v2/hub.example/team/app/blobs/{}", digest(&layer))).expect(200);

    assert!(got.body == layer && !format!("{got:?}").contains("canary"));
    let anonymous = through(&there, "");
    anonymous.get("/v2/hub.example/team/app/manifests/1").fails_with(403, "DENIED");
    anonymous.stop();
    let said = ours.said();
    assert!(!said.contains("canary") && !said.contains("bWU6Y2FuYXJ5"), "{said}");
    ours.stop();
}
