//! Registries that cut, stall, lie, flood and redirect, as a person meets them: what can be mended is, and what cannot is
//! one clear error that names registry, repository and thing, in bounded memory, with nothing left behind.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use strata_tests::{Answer, Asked, FaultyRegistry, House, Output, Part, Tar, digest};

/// Tries follow each other at once, and silence is borne for a second.
const IMPATIENT: &str = "[registries]\nattempts = 3\nbackoff_milliseconds = 1\nidle_seconds = 1\n";

/// Growth of the store's memory that is neither of documents that are refused nor of bodies that flow through.
const ROOM: u64 = 48 << 20;

/// A tar with the guest and some noise, which a cut shows in.
fn layer() -> Vec<u8> {
    Tar::of_guest().file("word", 0o644, b"as published").bytes()
}

fn impatient() -> House {
    let house = House::start();
    house.configure(IMPATIENT);
    house
}

/// Insists that a pull failed with these words, and that nothing of the image has a name here.
#[track_caller]
fn refused(house: &House, registry: &FaultyRegistry, words: &[&str]) -> Output {
    let output = house.ctl(&["pull", &registry.image()]).fails();
    let output = output.complains(words).complains(&[&registry.host(), "team/app"]);
    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout, "");
    assert!(!output.both().contains("panicked"), "{output:?}");
    output
}

#[track_caller]
fn runs(house: &House, registry: &FaultyRegistry) {
    let words = ["run", "--rm", "--pull", "never", &registry.image(), "/guest", "read", "/word"];
    assert_eq!(house.ctl(&words).ok().text(), "as published");
    house.verify();
}

#[test]
fn a_cut_at_every_class_of_bytes_is_continued() {
    for part in [Part::Manifest, Part::Config, Part::Layer] {
        let times = Arc::new(AtomicUsize::new(0));
        let counted = times.clone();
        // Nothing, half a status line, half the head, all of the head, one byte more, half, all but one byte.
        let registry = FaultyRegistry::start(layer(), move |asked, answer| {
            if asked.part != Some(part) || asked.method != "GET" {
                return answer;
            }
            let (head, body) = (answer.head().len(), answer.body.len());
            let cuts = [0, 9, head / 2, head, head + 1, head + body / 2, head + body - 1];
            match cuts.get(counted.fetch_add(1, Ordering::SeqCst)) {
                Some(cut) => Answer { cut: Some(*cut), ..answer },
                None => answer,
            }
        });
        let house = House::start();
        house.configure("[registries]\nattempts = 9\nbackoff_milliseconds = 1\n");

        house.ctl(&["pull", &registry.image()]).ok();

        assert!(times.load(Ordering::SeqCst) >= 8, "{part:?}");
        runs(&house, &registry);
        if part == Part::Layer {
            let asked = registry.asked();
            let starts: Vec<_> = asked.iter().filter(|asked| asked.part == Some(part)).map(Asked::from).collect();
            assert!(starts.is_sorted() && *starts.last().unwrap() == layer().len() - 1, "{starts:?}");
        }
    }
}

#[test]
fn a_layer_that_stalls_is_given_up_after_its_patience_and_resumed() {
    let times = AtomicUsize::new(0);
    let half = layer().len() / 2;
    let registry = FaultyRegistry::start(layer(), move |asked, answer| match asked.part {
        Some(Part::Layer) if times.fetch_add(1, Ordering::SeqCst) == 0 => Answer { stall: Some(half), ..answer },
        _ => answer,
    });
    let house = impatient();

    house.ctl(&["pull", &registry.image()]).ok();

    runs(&house, &registry);
    assert_eq!(registry.count(Part::Layer), 2);
    let from = registry.asked().iter().filter(|asked| asked.part == Some(Part::Layer)).map(Asked::from).max();
    assert!(from.is_some_and(|from| from > half / 2 && from < half), "{from:?}: what came is not fetched again");
}

#[test]
fn a_registry_that_is_silent_for_good_is_named_with_the_setting() {
    let registry = FaultyRegistry::start(layer(), |asked, answer| match asked.part {
        Some(Part::Layer) => Answer { stall: Some(answer.head().len()), ..answer },
        _ => answer,
    });
    let house = impatient();

    refused(&house, &registry, &["was silent for 1 s", "registries.idle_seconds", &digest(&layer())]);
}

#[test]
fn a_wait_that_is_asked_for_is_kept_in_seconds_and_as_a_date() {
    let times = AtomicUsize::new(0);
    let registry = FaultyRegistry::start(layer(), move |asked, answer| {
        if asked.part != Some(Part::Manifest) {
            return answer;
        }
        match times.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::new(429).header("Retry-After", 1),
            1 => {
                // A date has whole seconds: two from now are one at least.
                let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
                Answer::new(503).header("Retry-After", date)
            }
            _ => answer,
        }
    });
    let house = impatient();

    house.ctl(&["pull", &registry.image()]).ok();

    let asked = registry.asked();
    let at: Vec<_> = asked.iter().filter(|asked| asked.part == Some(Part::Manifest)).map(|asked| asked.at).collect();
    assert!(at[1] - at[0] >= Duration::from_millis(990), "the seconds were waited for");
    assert!(at[2] - at[1] >= Duration::from_millis(1900), "the date was waited for");
    runs(&house, &registry);
}

#[test]
fn an_hour_to_wait_is_told_instead_of_borne() {
    let registry = FaultyRegistry::start(layer(), |_, _| Answer::new(429).header("Retry-After", 3600));
    let house = impatient();

    refused(&house, &registry, &["accepts no more requests for now (for 3600 s)"]);

    assert_eq!(registry.count(Part::Manifest), 1);
}

#[test]
fn errors_of_a_server_are_tried_again_and_quoted_at_the_end() {
    for (status, words) in [(500, "500"), (502, "502"), (503, "503"), (418, "418")] {
        let registry = FaultyRegistry::start(layer(), move |asked, answer| match asked.part {
            Some(Part::Layer) => {
                let text = r#"{"errors":[{"code":"UNKNOWN","message":"the disk \u001b[31mburns"}]}"#;
                Answer::new(status).body(text)
            }
            _ => answer,
        });
        let house = impatient();

        let output = refused(&house, &registry, &[words, "burns", &digest(&layer())]);

        assert!(!output.stderr.contains('\u{1b}'), "what a registry says reaches no terminal as it is: {output:?}");
        assert_eq!(registry.count(Part::Layer), if status == 418 { 1 } else { 3 }, "{status}");
    }
}

#[test]
fn other_bytes_and_other_lengths_are_refused_by_digest() {
    let expected = digest(&layer());
    type Lie = fn(Answer) -> Answer;
    let lies: [(&str, Lie); 4] = [
        ("instead of", |mut answer| {
            let at = answer.body.len() / 2;
            answer.body[at] ^= 1;
            answer
        }),
        ("bytes instead of", |mut answer| {
            answer.body.push(0);
            answer
        }),
        ("bytes instead of", |mut answer| {
            answer.body.pop();
            answer
        }),
        ("breaks the protocol", |answer| Answer { status: 206, ..answer }),
    ];
    for (words, lie) in lies {
        let registry = FaultyRegistry::start(layer(), move |asked, answer| match asked.part {
            Some(Part::Layer) => lie(answer),
            _ => answer,
        });
        let house = impatient();

        refused(&house, &registry, &[words, &expected]);
    }
}

#[test]
fn redirects_end_somewhere_and_take_no_credentials_along() {
    let elsewhere = FaultyRegistry::start(layer(), |_, answer| answer);
    let (target, name) = (elsewhere.host(), digest(&layer()));
    let registry = FaultyRegistry::start(layer(), move |asked, answer| {
        if !asked.headers.contains_key("authorization") {
            return Answer::new(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        match asked.part {
            Some(Part::Layer) => {
                Answer::new(307).header("Location", format!("http://{target}/v2/team/app/blobs/{name}?signature=1"))
            }
            _ => answer,
        }
    });
    let house = impatient();
    house.ctl_with(&["login", "-u", "me", "--password-stdin", &registry.host()], b"canary-4711").ok();

    house.ctl(&["pull", &registry.image()]).ok();

    runs(&house, &registry);
    assert_eq!(elsewhere.count(Part::Layer), 1);
    assert!(elsewhere.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
    let around = FaultyRegistry::start(layer(), |asked, answer| match asked.part {
        Some(Part::Manifest) => Answer::new(307).header("Location", &asked.target),
        _ => answer,
    });
    refused(&impatient(), &around, &["there is no end of redirects"]);
    assert!(around.count(Part::Manifest) <= 10, "{}", around.count(Part::Manifest));
}

/// Row 120 of the security research.
#[test]
fn credentials_go_to_no_token_server_of_somebody_elses() {
    let thief = FaultyRegistry::start(layer(), |_, _| Answer::new(200).body(r#"{"token":"t"}"#));
    let realm = format!("http://{}/token", thief.host().replace("127.0.0.1", "localhost"));
    let registry = FaultyRegistry::start(layer(), move |asked, answer| {
        match asked.headers.get("authorization").is_some_and(|header| header.starts_with("Basic")) {
            true => answer,
            false if asked.target == "/v2/" => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            false => {
                let text = format!("Bearer realm=\"{realm}\",service=\"x\",scope=\"repository:team/app:pull\"");
                Answer::new(401).header("WWW-Authenticate", text)
            }
        }
    });
    let house = impatient();
    // Of the same machine, but not of the same name.
    house.ctl_with(&["login", "-u", "me", "--password-stdin", &registry.host()], b"canary-4711").ok();
    let before = thief.asked().len();
    let config = fs::read_to_string(house.path("home/.docker/config.json")).unwrap();
    assert!(config.contains(&registry.host()), "{config}");
    house.stop();

    let output = refused(&house, &registry, &["asks to send its credentials to localhost", "token_realms"]);

    for asked in thief.asked().iter().skip(before) {
        let told = format!("{asked:?}");
        assert!(!told.contains("canary") && !told.contains("bWU6Y2FuYXJ5"), "{told}");
    }
    assert!(!output.both().contains("canary"), "{output:?}");
    let log = fs::read_to_string(house.root().join("store/service.log")).unwrap_or_default();
    assert!(!log.contains("canary") && !log.contains("bWU6Y2FuYXJ5"), "{log}");
}

#[test]
fn a_token_that_expires_in_the_middle_of_a_pull_is_replaced() {
    let (number, half) = (Arc::new(AtomicUsize::new(0)), layer().len() / 2);
    let own: Arc<std::sync::OnceLock<String>> = Arc::default();
    let (host, issued) = (own.clone(), number.clone());
    let registry = FaultyRegistry::start(layer(), move |asked, answer| {
        if asked.target.starts_with("/token") {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return Answer::new(200).body(format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        // The first token is good until it got half of the layer.
        let good = if issued.load(Ordering::SeqCst) < 2 { "Bearer t1" } else { "Bearer t2" };
        let is_spent = asked.part == Some(Part::Layer) && asked.from() > 0;
        let header = asked.headers.get("authorization").map(String::as_str);
        if header != Some(good) || (is_spent && good == "Bearer t1") {
            let realm = format!("http://{}/token", host.get().map_or("", String::as_str));
            let text = format!("Bearer realm=\"{realm}\",service=\"x\",scope=\"repository:team/app:pull\"");
            return Answer::new(401).header("WWW-Authenticate", text);
        }
        match asked.part {
            Some(Part::Layer) if asked.from() == 0 => Answer { cut: Some(half), ..answer },
            _ => answer,
        }
    });
    own.set(registry.host()).unwrap();
    let house = impatient();

    house.ctl(&["pull", &registry.image()]).ok();

    assert_eq!(number.load(Ordering::SeqCst), 2);
    runs(&house, &registry);
}

#[test]
fn what_is_no_manifest_is_refused_whatever_it_is_called() {
    let index = "application/vnd.oci.image.index.v1+json";
    let pages: [(&str, &str, &str); 5] = [
        ("text/html", "<html>log in to the hotel's network</html>", "document"),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
            "document",
        ),
        (index, r#"{"schemaVersion":2,"config":{},"layers":[]}"#, "document"),
        ("application/json", "[[[[", "document"),
        (index, r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, "document"),
    ];
    for (kind, page, words) in pages {
        let registry = FaultyRegistry::start(layer(), move |asked, answer| match asked.part {
            Some(Part::Manifest) => Answer::new(200).header("Content-Type", kind).body(page),
            _ => answer,
        });

        refused(&impatient(), &registry, &[words]);
    }
    let plugin = FaultyRegistry::start(layer(), |asked, mut answer| {
        if asked.part == Some(Part::Manifest) {
            let text = String::from_utf8(answer.body).unwrap();
            answer.body = text.replace("image.layer.v1.tar", "wasm.module.v1").into_bytes();
            answer.headers.retain(|(name, _)| name != "Docker-Content-Digest");
        }
        answer
    });
    let output = impatient().ctl(&["pull", &plugin.image()]).fails();
    output.complains(&["application/vnd.oci.wasm.module.v1", "not supported"]);
}

/// The most memory that a process of the house had, and what it has, in bytes.
fn memory(house: &House) -> (u64, u64) {
    let store = house.services().into_iter().find(|trace| trace.program() == "strata-store").expect("it runs");
    let status = fs::read_to_string(format!("/proc/{}/status", store.pid)).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux has it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    };
    (field("VmHWM:"), field("VmRSS:"))
}

/// Row 74 of the security research, and its like: documents of any length, told and not told.
#[test]
fn documents_of_a_hundred_megabytes_are_refused_in_bounded_memory() {
    type Flood = fn(&Asked, Answer) -> Answer;
    let floods: [(&str, Flood); 5] = [
        ("bytes for a document", |asked, answer| match asked.part {
            Some(Part::Manifest) => answer.body(vec![b' '; 100 << 20]),
            _ => answer,
        }),
        ("bytes for a document", |asked, answer| match asked.part {
            Some(Part::Manifest) => Answer { repeat: 1600, ..answer.body(vec![b'['; 64 << 10]) },
            _ => answer,
        }),
        // While nothing of the image is here.
        ("", |asked, answer| match asked.part {
            Some(Part::Config) => Answer { repeat: 1600, ..answer.body(vec![b'{'; 64 << 10]) },
            _ => answer,
        }),
        ("500", |asked, answer| match asked.part {
            Some(Part::Layer) => Answer { repeat: 1600, ..Answer::new(500).body(vec![b'{'; 64 << 10]) },
            _ => answer,
        }),
        ("bytes instead of", |asked, answer| match asked.part {
            Some(Part::Layer) => Answer { repeat: 1600, ..answer.body(vec![0; 64 << 10]) },
            _ => answer,
        }),
    ];
    let house = impatient();
    house.ctl(&["images"]).ok();
    let (_, before) = memory(&house);
    for (words, flood) in floods {
        let registry = FaultyRegistry::start(layer(), flood);

        refused(&house, &registry, &[words]);

        let (most, _) = memory(&house);
        assert!(most < before + ROOM, "{words:?}: {most} bytes, {before} before");
    }
}
