//! Output cut into lines, files that rotate, receivers that are slow, away, or there.

use super::*;
use crate::plan::{LogReceiver, MessageForm, ReceiverAddress};
use std::io::Read;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

fn settings(directory: &Path, max_size: u64, max_files: u32) -> plan::Log {
    let path = directory.join("log");
    plan::Log { path, max_size, max_files, attributes: String::new(), is_compressed: false }
}

fn log(directory: &Path, max_size: u64, max_files: u32) -> Log {
    Log::open(Some(&settings(directory, max_size, max_files)), None).unwrap().unwrap()
}

fn read(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("log")).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A log without a file, for a receiver that gets the bare lines.
fn sending(address: ReceiverAddress, max_queued_bytes: u64) -> Log {
    let form = MessageForm::Journal { fields: vec![] };
    let receiver = LogReceiver { name: "journald".into(), address, form, max_queued_bytes, waits: false };
    Log::open(None, Some(&receiver)).unwrap().unwrap()
}

fn received(socket: &UnixDatagram) -> Vec<String> {
    let (mut all, mut buffer) = (vec![], [0; 65_536]);
    while let Ok(count) = socket.recv(&mut buffer) {
        let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
        all.push(text.split_once("\nMESSAGE=").unwrap().1.trim_end().to_owned());
    }
    all
}

#[test]
fn a_line_that_comes_in_pieces_is_one_entry() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 0, 1);

    log.write(Stream::Stdout, b"one \"li", 0);
    log.write(Stream::Stderr, b"other\n", 0);
    log.write(Stream::Stdout, b"ne\"\ntail", 0);
    log.finish(1_500_000_000);

    assert_eq!(
        read(directory.path()),
        "{\"log\":\"other\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:00.000000000Z\"}\n\
         {\"log\":\"one \\\"line\\\"\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00.000000000Z\"}\n\
         {\"log\":\"tail\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:01.500000000Z\"}\n"
    );
}

#[test]
fn attributes_are_in_every_entry() {
    let directory = tempfile::tempdir().unwrap();
    let attributes = "{\"tag\":\"web\"}".to_owned();
    let mut log =
        Log::open(Some(&plan::Log { attributes, ..settings(directory.path(), 0, 1) }), None).unwrap().unwrap();

    log.write(Stream::Stdout, b"x\n", 0);

    let expected = "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{\"tag\":\"web\"},\"time\":\"1970-";
    assert!(read(directory.path()).starts_with(expected), "{}", read(directory.path()));
}

#[test]
fn a_line_over_16_kib_is_cut_and_no_byte_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 0, 1);

    log.write(Stream::Stdout, &[b'x'; 40_000], 0);
    log.write(Stream::Stdout, b"\n", 0);

    let text = read(directory.path());
    assert_eq!(text.lines().count(), 3);
    assert_eq!(text.bytes().filter(|&byte| byte == b'x').count(), 40_000);
}

#[test]
fn rotation_bounds_size_and_number_of_files_and_keeps_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 1000, 3);

    for number in 0..200 {
        log.write(Stream::Stdout, format!("line {number}\n").as_bytes(), 0);
    }

    assert_eq!(names(directory.path()), ["log", "log.1", "log.2"]);
    for name in names(directory.path()) {
        assert!(directory.path().join(&name).metadata().unwrap().len() <= 1000, "{name}");
    }
    assert!(read(directory.path()).contains("line 199"));
}

#[test]
fn who_reads_a_single_file_has_it_whole_though_it_rotates() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 300, 1);
    log.write(Stream::Stdout, b"first\n", 0);
    let mut reader = std::fs::File::open(directory.path().join("log")).unwrap();

    (0..10).for_each(|_| log.write(Stream::Stdout, b"later\n", 0));

    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.contains("first") && text.contains("later"), "{text}");
    assert!(!read(directory.path()).contains("first"));
    assert_eq!(names(directory.path()), ["log"]);
}

#[test]
fn rotation_waits_while_the_names_are_locked_but_not_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 1000, 3);
    let lock = std::fs::File::open(directory.path()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();

    (0..15).for_each(|_| log.write(Stream::Stdout, b"line\n", 0));
    assert_eq!(names(directory.path()), ["log"]);
    (0..30).for_each(|_| log.write(Stream::Stdout, b"line\n", 0));
    assert_eq!(names(directory.path()), ["log", "log.1"], "twice the size is too much");
    drop(lock);
    (0..20).for_each(|_| log.write(Stream::Stdout, b"line\n", 0));

    assert_eq!(names(directory.path()), ["log", "log.1", "log.2"]);
}

#[test]
fn compressed_files_move_with_the_others_and_are_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let settings = plan::Log { is_compressed: true, ..settings(directory.path(), 200, 3) };
    let mut log = Log::open(Some(&settings), None).unwrap().unwrap();
    let mut write_until_rotated = || {
        while !log.take_rotated() {
            log.write(Stream::Stdout, b"line\n", 0);
        }
    };

    write_until_rotated();
    std::fs::rename(directory.path().join("log.1"), directory.path().join("log.1.gz")).unwrap();
    write_until_rotated();
    assert_eq!(names(directory.path()), ["log", "log.1", "log.2.gz"]);
    write_until_rotated();

    assert_eq!(names(directory.path()), ["log", "log.1", "log.2"]);
}

#[test]
fn a_log_that_is_cleared_is_empty_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 500, 4);
    (0..40).for_each(|_| log.write(Stream::Stdout, b"before\n", 0));

    log.clear().unwrap();

    assert_eq!((names(directory.path()), read(directory.path())), (vec!["log".to_owned()], String::new()));
    log.write(Stream::Stdout, b"after\n", 0);
    assert_eq!(read(directory.path()).lines().count(), 1);
}

#[test]
fn a_torn_last_line_ends_where_the_next_run_begins_and_files_too_many_go() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("log"), "{\"log\":\"hal").unwrap();
    for number in 1..6 {
        std::fs::write(directory.path().join(format!("log.{number}")), "").unwrap();
    }

    log(directory.path(), 0, 3).write(Stream::Stdout, b"whole\n", 0);

    let text = read(directory.path());
    assert!(text.starts_with("{\"log\":\"hal\n{\"log\":\"whole\\n\""), "{text}");
    assert_eq!(names(directory.path()), ["log", "log.1", "log.2"]);
}

#[test]
fn a_receiver_gets_each_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut log = sending(ReceiverAddress::Datagrams { path }, 1 << 20);

    log.write(Stream::Stdout, b"one\ntw", 0);
    log.write(Stream::Stdout, b"o\n", 0);

    assert_eq!(received(&socket), ["one", "two"]);
    assert!(log.is_settled(Instant::now()));
}

#[test]
fn what_a_receiver_does_not_take_is_counted_and_told_when_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let form = MessageForm::Journal { fields: vec![] };
    let address = ReceiverAddress::Datagrams { path };
    let receiver = LogReceiver { name: "journald".into(), address, form, max_queued_bytes: 2000, waits: false };
    let file = settings(directory.path(), 0, 1);
    let mut log = Log::open(Some(&file), Some(&receiver)).unwrap().unwrap();

    (0..2000).for_each(|number| log.write(Stream::Stdout, format!("line {number}\n").as_bytes(), 0));
    assert!(!log.is_behind(), "nobody said that the container waits");
    let mut all = received(&socket);
    while !log.is_settled(Instant::now()) {
        log.tend();
        all.extend(received(&socket));
    }
    log.tend();
    all.extend(received(&socket));

    let sent = all.iter().filter(|line| line.starts_with("line ")).count();
    let report = all.iter().find(|line| line.contains("[strata: ")).expect("it is told");
    let dropped: usize = report.trim_start_matches("[strata: ").split(' ').next().unwrap().parse().unwrap();
    assert_eq!(sent + dropped, 2000, "{report}");
    let text = read(directory.path());
    assert!(text.lines().filter(|line| line.contains("line ")).count() == 2000 && text.contains(report.as_str()));
}

#[test]
fn a_receiver_that_is_away_costs_nothing_but_its_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nobody");
    let receiver = LogReceiver {
        name: "syslog".into(),
        address: ReceiverAddress::Stream { path },
        form: MessageForm::Journal { fields: vec![] },
        max_queued_bytes: 500,
        waits: true,
    };
    let mut log = Log::open(Some(&settings(directory.path(), 0, 1)), Some(&receiver)).unwrap().unwrap();

    (0..100).for_each(|_| log.write(Stream::Stdout, b"line\n", 0));

    assert!(!log.is_behind() && log.is_settled(Instant::now()) && log.timer(None).is_some());
    log.close();
    let text = read(directory.path());
    assert!(text.contains("[strata: 100 messages were not taken by syslog and dropped]"), "{text}");
}

#[test]
fn a_stream_that_was_closed_is_opened_again_before_the_next_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut log = sending(ReceiverAddress::Stream { path }, 1 << 20);
    log.write(Stream::Stdout, b"one\n", 0);
    let (mut first, _) = listener.accept().unwrap();
    let mut buffer = [0; 1000];
    assert!(first.read(&mut buffer).unwrap() > 0);

    drop(first);
    log.write(Stream::Stdout, b"two\n", 0);

    let (mut second, _) = listener.accept().unwrap();
    let count = second.read(&mut buffer).unwrap();
    assert!(buffer[..count].ends_with(b"MESSAGE=two\n"));
}

#[test]
fn the_container_waits_for_a_slow_receiver_only_where_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let receiver = LogReceiver {
        name: "syslog".into(),
        address: ReceiverAddress::Stream { path },
        form: MessageForm::Journal { fields: vec![] },
        max_queued_bytes: 10_000,
        waits: true,
    };
    let mut log = Log::open(None, Some(&receiver)).unwrap().unwrap();

    (0..2000).for_each(|_| log.write(Stream::Stdout, b"a line of some length for a buffer of the kernel\n", 0));

    assert!(log.is_behind() && log.timer(None).is_some_and(|left| left <= Duration::from_secs(1)));
    // One that takes nothing is not waited for for ever.
    while log.is_behind() {
        std::thread::sleep(Duration::from_millis(20));
    }
}
