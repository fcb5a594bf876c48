//! Against a systemd that the test plays: it answers each call as told, and says what it was asked.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    thread::{self, JoinHandle},
};

use super::*;

/// How the next call is answered.
enum Answer {
    /// With a job, which ends like this: at once, or before the answer.
    Job(&'static str),
    JobFirst(&'static str),
    /// With a text in a variant.
    Variant(&'static str),
    Nothing,
    Refusal(&'static str, &'static str),
    /// With these bytes instead of a message.
    Bytes(&'static [u8]),
    HangUp,
}

fn bytes(values: &[Value]) -> Vec<u8> {
    let mut writer = Writer::default();
    for value in values {
        writer.value(value);
    }
    writer.into_bytes()
}

fn job_removed(path: &str, result: &str) -> Vec<u8> {
    let body = bytes(&[Value::U32(7), text(path), text("x.scope"), text(result)]);
    let fields = [(1, "/org/freedesktop/systemd1"), (2, "org.freedesktop.systemd1.Manager"), (3, "JobRemoved")];
    wire::answer(4, &fields, 0, "uoss", &body)
}

/// A manager, and what it was asked: the names of calls, and their arguments.
struct Fake {
    manager: Option<Manager>,
    played: JoinHandle<Vec<(String, Vec<u8>)>>,
}

impl Fake {
    fn new(is_direct: bool, script: Vec<Answer>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let played = thread::spawn(move || play(theirs, script));
        Self { manager: Some(Manager { bus: Bus::begin(ours, is_direct).unwrap() }), played }
    }

    fn manager(&mut self) -> &mut Manager {
        self.manager.as_mut().unwrap()
    }

    fn asked(mut self) -> Vec<(String, Vec<u8>)> {
        drop(self.manager.take());
        self.played.join().unwrap()
    }

    fn names(self) -> Vec<String> {
        self.asked().into_iter().map(|(name, _)| name).collect()
    }
}

fn play(mut stream: UnixStream, script: Vec<Answer>) -> Vec<(String, Vec<u8>)> {
    let mut greeting = [0; 29];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
    // In pieces, with a signal for others right behind.
    stream.write_all(b"DATA\r").unwrap();
    stream.write_all(b"\nOK 0123456789abcdef\r\n").unwrap();
    stream.write_all(&job_removed("/other", "failed")).unwrap();
    let (mut asked, mut have) = (Vec::new(), Vec::new());
    for answer in script {
        let Some(call) = receive(&mut stream, &mut have) else { return asked };
        let serial = u32::from_ne_bytes(call[8..12].try_into().unwrap());
        let message = wire::decode(&call).unwrap();
        asked.push((message.name, message.body));
        let reply = |signature, body: &[Value]| wire::answer(2, &[], serial, signature, &bytes(body));
        let parts = match answer {
            Answer::Job(result) => vec![reply("o", &[text("/job/7")]), job_removed("/job/7", result)],
            Answer::JobFirst(result) => vec![job_removed("/job/7", result), reply("o", &[text("/job/7")])],
            Answer::Variant(value) => {
                let body = [b"\x01s\0\0".as_slice(), &bytes(&[text(value)])].concat();
                vec![wire::answer(2, &[], serial, "v", &body)]
            }
            Answer::Nothing => vec![reply("", &[])],
            Answer::Refusal(name, words) => vec![wire::answer(3, &[(4, name)], serial, "s", &bytes(&[text(words)]))],
            Answer::Bytes(bytes) => vec![bytes.to_vec()],
            Answer::HangUp => return asked,
        };
        for part in parts {
            stream.write_all(&part).unwrap();
        }
    }
    assert_eq!(receive(&mut stream, &mut have), None, "more calls than expected");
    asked
}

/// Returns the next whole message, until the other side hangs up.
fn receive(stream: &mut UnixStream, have: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(length) = wire::length(have).unwrap().filter(|length| *length <= have.len()) {
            return Some(have.drain(..length).collect());
        }
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer).unwrap() {
            0 => return None,
            count => have.extend_from_slice(&buffer[..count]),
        }
    }
}

#[test]
fn a_unit_is_started_with_its_properties_and_waited_for() {
    for answer in [Answer::Job("done"), Answer::JobFirst("done")] {
        let mut fake = Fake::new(true, vec![answer]);
        let properties = [
            Property::required("Delegate", Value::Bool(true)),
            Property::required("PIDs", Value::List("u".to_owned(), vec![Value::U32(42)])),
        ];

        fake.manager().start("a.scope", &properties).unwrap();

        let asked = fake.asked();
        assert_eq!(asked[0].0, "StartTransientUnit");
        let mut expected = Writer::default();
        expected.value(&text("a.scope")).value(&text("fail"));
        expected.named(properties.iter().map(|one| (one.name.as_str(), &one.value)));
        expected.value(&Value::List("(sa(sv))".to_owned(), Vec::new()));
        assert_eq!(asked[0].1, expected.into_bytes());
    }
}

#[test]
fn a_bus_is_greeted_and_told_what_to_pass_on() {
    let script = vec![Answer::Nothing, Answer::Nothing, Answer::Nothing, Answer::Job("done"), Answer::Nothing];
    let mut fake = Fake::new(false, script);

    fake.manager().stop("a.scope").unwrap();

    assert_eq!(fake.names(), ["Hello", "AddMatch", "Subscribe", "StopUnit", "ResetFailedUnit"]);
}

#[test]
fn a_job_that_fails_is_an_error_with_its_result() {
    for result in ["failed", "timeout", "canceled"] {
        let mut fake = Fake::new(true, vec![Answer::Job(result)]);

        let error = fake.manager().start("a.scope", &[]).unwrap_err().to_string();

        assert_eq!(error, format!("systemd could not start a.scope: the job is {result}"));
    }
}

#[test]
fn a_unit_that_failed_before_is_forgotten_and_one_that_runs_is_an_error() {
    let exists = || Answer::Refusal("org.freedesktop.systemd1.UnitExists", "Unit a.scope already exists.");
    let mut fake = Fake::new(true, vec![exists(), Answer::Nothing, Answer::Job("done")]);
    fake.manager().start("a.scope", &[]).unwrap();
    assert_eq!(fake.names(), ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);

    let mut fake = Fake::new(true, vec![exists(), Answer::Nothing, exists()]);
    let error = fake.manager().start("a.scope", &[]).unwrap_err().to_string();
    assert!(error.starts_with("systemd refuses StartTransientUnit: Unit a.scope already exists."), "{error}");
}

#[test]
fn what_an_old_systemd_does_not_know_is_left_out_only_if_it_can_be() {
    let unknown = |name: &str| {
        Answer::Refusal(
            "org.freedesktop.DBus.Error.PropertyReadOnly",
            match name {
                "AllowedCPUs" => "Cannot set property AllowedCPUs, or unknown property.",
                _ => "Cannot set property Nonsense, or unknown property.",
            },
        )
    };
    let number = || Value::U64(1);
    let properties = [Property::optional("AllowedCPUs", number()), Property::required("Nonsense", number())];

    let mut fake = Fake::new(true, vec![unknown("AllowedCPUs"), Answer::Nothing]);
    fake.manager().set("a.scope", &properties).unwrap();
    let asked = fake.asked();
    let mut expected = Writer::default();
    expected.value(&text("a.scope")).value(&Value::Bool(true)).named([("Nonsense", &number())].into_iter());
    assert_eq!(asked[1].1, expected.into_bytes());

    let mut fake = Fake::new(true, vec![unknown("AllowedCPUs"), unknown("Nonsense")]);
    let error = fake.manager().set("a.scope", &properties).unwrap_err().to_string();
    assert!(error.contains("Cannot set property Nonsense"), "{error}");
}

#[test]
fn a_unit_that_is_gone_is_stopped_and_one_that_was_there_is_forgotten() {
    let gone = Answer::Refusal("org.freedesktop.systemd1.NoSuchUnit", "Unit a.scope not loaded.");
    let mut fake = Fake::new(true, vec![gone]);
    fake.manager().stop("a.scope").unwrap();
    assert_eq!(fake.names(), ["StopUnit"]);

    let not_failed = Answer::Refusal("org.freedesktop.systemd1.NoSuchUnit", "Unit a.scope not loaded.");
    let mut fake = Fake::new(true, vec![Answer::Job("done"), not_failed]);
    fake.manager().stop("a.scope").unwrap();
    assert_eq!(fake.names(), ["StopUnit", "ResetFailedUnit"]);
}

#[test]
fn the_cgroup_of_a_systemd_is_a_property_and_the_root_is_nothing() {
    for (answer, expected) in [("", ""), ("/", ""), ("/user.slice/user@7.service", "/user.slice/user@7.service")] {
        let mut fake = Fake::new(true, vec![Answer::Variant(answer)]);
        assert_eq!(fake.manager().control_group().unwrap(), expected);
    }
    let mut fake = Fake::new(true, vec![Answer::Nothing]);
    assert!(fake.manager().control_group().is_err());
}

#[test]
fn a_systemd_that_hangs_up_or_talks_nonsense_is_an_error() {
    let mut fake = Fake::new(true, vec![Answer::HangUp]);
    assert!(matches!(fake.manager().start("a.scope", &[]), Err(Error::Io { action: "hear from", .. })));
    for nonsense in [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), &[0xaa; 32]] {
        let mut fake = Fake::new(true, vec![Answer::Bytes(nonsense)]);
        assert!(matches!(fake.manager().attach("a.scope", 1), Err(Error::Protocol { .. })));
    }
}

#[test]
fn one_who_does_not_take_this_user_is_an_error() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"REJECTED EXTERNAL\r\n").unwrap();

    assert!(matches!(Bus::begin(ours, true), Err(Error::Protocol { reason: "it does not take this user" })));
}

#[test]
fn what_is_missing_is_in_the_error() {
    let error = Error::Unreachable { owner: Owner::User, tried: "/run/user/7/bus: connection refused".to_owned() };

    let text = error.to_string();

    assert!(text.starts_with("--systemd-cgroup: the user's systemd cannot be reached (/run/user/7/bus: "), "{text}");
    assert!(text.contains("loginctl enable-linger") && text.contains("XDG_RUNTIME_DIR"), "{text}");
}
