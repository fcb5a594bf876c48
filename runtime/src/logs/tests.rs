use std::{fs, io::Write, path::Path, time::Duration};

use super::*;
use crate::{
    container::Phase,
    record::{Identity, Running, State, tests::record},
    spec::Exit,
};

fn entry(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!("{{\"log\":{text},\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.000000006Z\"}}\n")
}

fn entries(range: std::ops::Range<u32>) -> String {
    range.map(|number| entry(&format!("{number}\n"))).collect()
}

/// An entry that was written in a second of the first hour of 2026.
fn dated(second: u32) -> String {
    entry(&format!("{second}\n")).replace("2026-01-02T03:04:05.000000006", &at(second).to_string().replace('Z', ""))
}

fn at(second: u32) -> Timestamp {
    Timestamp::new(1_767_225_600 + i64::from(second), 0).unwrap()
}

fn last(tail: Option<u64>) -> Wish {
    Wish { tail, ..Wish::default() }
}

async fn collect(path: &Path, tail: Option<u64>) -> Vec<String> {
    wished(path, last(tail)).await
}

async fn wished(path: &Path, wish: Wish) -> Vec<String> {
    let (sender, mut receiver) = mpsc::channel(100_000);
    read(path.to_owned(), wish, None, &sender).await.unwrap();
    drop(sender);
    let mut all = Vec::new();
    while let Some(line) = receiver.recv().await {
        all.push(String::from_utf8(line.unwrap().bytes).unwrap());
    }
    all
}

fn running() -> Arc<Container> {
    let mut running = record(1, "one");
    let identity = Identity { pid: 1, started: 1, boot_id: String::new() };
    running.state = State::Running(Running::new(identity.clone(), identity));
    Container::new(running)
}

fn append(path: &Path, text: &str) {
    fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Ends a container, or lets its restart policy have it.
fn end(container: &Container, state: State) {
    container.change(|record| record.state = state);
    container.set_phase(Phase::Ended(Exit::code(0)));
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("{number}\n")).collect()
}

fn rotated() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.json");
    fs::write(dir.path().join("log.json.2"), entries(0..5)).unwrap();
    fs::write(dir.path().join("log.json.1"), entries(5..10)).unwrap();
    fs::write(&path, entries(10..13)).unwrap();
    (dir, path)
}

#[tokio::test]
async fn all_files_are_read_oldest_first() {
    let (_dir, path) = rotated();
    assert_eq!(collect(&path, None).await, numbers(0..13));
}

#[tokio::test]
async fn tail_reaches_back_over_rotated_files() {
    let (_dir, path) = rotated();
    for (tail, first) in [(0, 13), (1, 12), (3, 10), (4, 9), (9, 4), (13, 0), (100, 0)] {
        assert_eq!(collect(&path, Some(tail)).await, numbers(first..13), "tail {tail}");
    }
}

#[tokio::test]
async fn parts_of_a_long_line_count_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.json");
    fs::write(&path, ["a\n", "b1", "b2", "b3\n", "c"].map(entry).concat()).unwrap();
    assert_eq!(collect(&path, Some(1)).await, ["c"]);
    assert_eq!(collect(&path, Some(2)).await, ["b1", "b2", "b3\n", "c"]);
    assert_eq!(collect(&path, Some(3)).await, ["a\n", "b1", "b2", "b3\n", "c"]);
}

#[tokio::test]
async fn a_missing_log_is_empty_and_a_damaged_line_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.json");
    assert!(collect(&path, None).await.is_empty());
    fs::write(&path, format!("{}garbage\n{}", entry("1\n"), entry("2\n"))).unwrap();
    assert_eq!(collect(&path, None).await, ["1\n", "garbage\n", "2\n"]);
}

#[tokio::test]
async fn stream_and_time_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.json");
    fs::write(&path, entry("x\n").replace("stdout", "stderr")).unwrap();
    let (sender, mut receiver) = mpsc::channel(10);
    read(path, Wish::default(), None, &sender).await.unwrap();
    let line = receiver.recv().await.unwrap().unwrap();
    assert!(line.is_stderr);
    assert_eq!(line.written_at.unwrap().to_string(), "2026-01-02T03:04:05.000000006Z");
}

/// Follows a log; what it returns waits for the next line.
fn follow(path: &Path, wish: Wish, container: &Arc<Container>) -> mpsc::Receiver<Result<Line, Error>> {
    let (sender, receiver) = mpsc::channel(1000);
    let (log, followed) = (path.to_owned(), container.clone());
    tokio::spawn(async move {
        if let Err(error) = read(log, wish, Some(followed), &sender).await {
            sender.send(Err(error)).await.unwrap();
        }
    });
    receiver
}

async fn next(receiver: &mut mpsc::Receiver<Result<Line, Error>>) -> Option<String> {
    let line = tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await.expect("no line came");
    line.map(|line| String::from_utf8(line.unwrap().bytes).unwrap())
}

#[tokio::test]
async fn following_goes_on_over_rotations_and_ends_with_the_container() {
    let (dir, path) = rotated();
    let container = running();
    let mut lines = follow(&path, last(Some(1)), &container);

    assert_eq!(next(&mut lines).await.unwrap(), "12\n");
    // Half a line is no line.
    let whole = entry("13\n");
    append(&path, &whole[..10]);
    append(&path, &whole[10..]);
    assert_eq!(next(&mut lines).await.unwrap(), "13\n");
    append(&path, &entry("14\n"));
    // Two rotations at once.
    for (from, to) in [("log.json.1", "log.json.3"), ("log.json", "log.json.2")] {
        fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
    }
    fs::write(dir.path().join("log.json.1"), entries(15..17)).unwrap();
    fs::write(&path, entries(17..18)).unwrap();
    for number in 14..18 {
        assert_eq!(next(&mut lines).await.unwrap(), format!("{number}\n"));
    }
    append(&path, &entry("18\n"));
    end(&container, State::Exited);

    assert_eq!(next(&mut lines).await.unwrap(), "18\n");
    assert_eq!(next(&mut lines).await, None);
}

#[tokio::test]
async fn following_goes_on_while_a_start_is_to_come() {
    let (_dir, path) = rotated();
    let container = running();
    let mut lines = follow(&path, last(Some(1)), &container);
    assert_eq!(next(&mut lines).await.unwrap(), "12\n");

    end(&container, State::Restarting);
    append(&path, &entry("first\n"));
    assert_eq!(next(&mut lines).await.unwrap(), "first\n");
    let starting = container.about_to_start();
    end(&container, State::Exited);
    append(&path, &entry("second\n"));
    assert_eq!(next(&mut lines).await.unwrap(), "second\n");
    drop(starting);

    assert_eq!(next(&mut lines).await, None);
}

#[tokio::test]
async fn following_a_log_that_is_cleared_goes_on_with_what_is_new() {
    let (dir, path) = rotated();
    let container = running();
    let mut lines = follow(&path, last(Some(1)), &container);
    assert_eq!(next(&mut lines).await.unwrap(), "12\n");

    fs::write(dir.path().join("fresh"), entries(20..21)).unwrap();
    for old in ["log.json.1", "log.json.2"] {
        fs::remove_file(dir.path().join(old)).unwrap();
    }
    fs::rename(dir.path().join("fresh"), &path).unwrap();

    assert_eq!(next(&mut lines).await.unwrap(), "20\n");
    end(&container, State::Exited);
    assert_eq!(next(&mut lines).await, None);
}

#[tokio::test]
async fn a_file_that_is_compressed_while_it_is_followed_is_not_read_again() {
    let (dir, path) = rotated();
    let container = running();
    let mut lines = follow(&path, last(Some(1)), &container);
    assert_eq!(next(&mut lines).await.unwrap(), "12\n");

    for (from, to) in [("log.json.2", "log.json.3"), ("log.json.1", "log.json.2"), ("log.json", "log.json.1")] {
        fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
    }
    pack(&path).unwrap();
    append(&path, &entry("13\n"));

    assert_eq!(next(&mut lines).await.unwrap(), "13\n");
    end(&container, State::Exited);
    assert_eq!(next(&mut lines).await, None);
    assert!(dir.path().join("log.json.1.gz").exists() && !dir.path().join("log.json.1").exists());
}

#[tokio::test]
async fn following_ends_at_a_moment_that_comes() {
    let (_dir, path) = rotated();
    let until = Some(Timestamp::now() + Duration::from_millis(300));
    let mut lines = follow(&path, Wish { until, ..last(Some(1)) }, &running());

    assert_eq!(next(&mut lines).await.unwrap(), "12\n");
    assert_eq!(next(&mut lines).await, None);
}

#[tokio::test]
async fn compressed_files_are_read_as_the_others() {
    let (dir, path) = rotated();

    pack(&path).unwrap();

    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["log.json", "log.json.1.gz", "log.json.2.gz"]);
    assert_eq!(collect(&path, None).await, numbers(0..13));
    assert_eq!(collect(&path, Some(5)).await, numbers(8..13));
    pack(&path).unwrap();
    clear(&path).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn borders_in_time_are_part_of_what_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.json");
    let log = |range: std::ops::Range<u32>| -> String { range.map(|second| dated(second * 10)).collect() };
    fs::write(dir.path().join("log.json.2"), log(0..10)).unwrap();
    fs::write(dir.path().join("log.json.1"), log(10..20)).unwrap();
    fs::write(&path, log(20..30)).unwrap();
    let all: Vec<u32> = (0..30).map(|second| second * 10).collect();

    for (since, until) in [
        (None, None),
        (Some(0), None),
        (Some(100), None),
        (Some(101), None),
        (Some(290), None),
        (Some(291), None),
        (None, Some(0)),
        (None, Some(99)),
        (None, Some(100)),
        (None, Some(195)),
        (Some(50), Some(250)),
        (Some(120), Some(120)),
        (Some(121), Some(129)),
        (Some(250), Some(50)),
    ] {
        for tail in [None, Some(0), Some(1), Some(12), Some(1000)] {
            let is_meant = |second: &&u32| {
                since.is_none_or(|since| **second >= since) && until.is_none_or(|until| **second <= until)
            };
            let meant: Vec<String> = all.iter().filter(is_meant).map(|second| format!("{second}\n")).collect();
            let first = tail.map_or(0, |tail: u64| meant.len().saturating_sub(tail as usize));
            let wish = Wish { tail, since: since.map(at), until: until.map(at), joins_lines: false };

            let found = wished(&path, wish).await;

            assert_eq!(found, meant[first..], "since {since:?} until {until:?} tail {tail:?}");
        }
    }
}

#[tokio::test]
async fn a_long_log_is_searched_in_right_places() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.json");
    // Lines of all lengths, so that borders of blocks fall everywhere.
    let long =
        |second: u32| dated(second).replace("\\n\"", &format!("{}\\n\"", "x".repeat(second as usize * 37 % 5000)));
    fs::write(&path, (0..2000).map(long).collect::<String>()).unwrap();
    let number = |line: &String| line.trim_end_matches('\n').trim_end_matches('x').parse::<u32>().unwrap();

    for border in [0, 1, 7, 500, 998, 1999] {
        let wish = Wish { since: Some(at(border)), ..Wish::default() };
        let found: Vec<u32> = wished(&path, wish).await.iter().map(number).collect();
        assert_eq!(found, (border..2000).collect::<Vec<_>>(), "since {border}");
        let found: Vec<u32> = collect(&path, Some(u64::from(border))).await.iter().map(number).collect();
        assert_eq!(found, (2000 - border..2000).collect::<Vec<_>>(), "tail {border}");
    }
}

#[tokio::test]
async fn a_torn_end_is_not_shown_and_holes_of_a_crash_are_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.json");
    let torn = &entry("torn\n")[..20];
    let hole = "\0".repeat(100);
    fs::write(&path, format!("{}{hole}\n{hole}{}{torn}", dated(1), dated(2))).unwrap();

    assert_eq!(collect(&path, None).await, ["1\n", "2\n"]);
    assert_eq!(collect(&path, Some(1)).await, ["2\n"]);
    assert_eq!(wished(&path, Wish { since: Some(at(2)), ..Wish::default() }).await, ["2\n"]);
    assert_eq!(wished(&path, Wish { until: Some(at(1)), ..Wish::default() }).await, ["1\n"]);
}

#[tokio::test]
async fn lines_of_one_stream_are_joined_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.json");
    let error = entry("error\n").replace("stdout", "stderr");
    fs::write(&path, format!("{}{error}{}", entries(0..3), entries(3..5))).unwrap();

    let joined = wished(&path, Wish { joins_lines: true, ..Wish::default() }).await;

    assert_eq!(joined, ["0\n1\n2\n", "error\n", "3\n4\n"]);
}

#[tokio::test]
async fn attributes_are_read_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.json");
    fs::write(&path, entry("x\n").replace("\"time\"", "\"attrs\":{\"tag\":\"web\"},\"time\"")).unwrap();
    let (sender, mut receiver) = mpsc::channel(10);

    read(path, Wish::default(), None, &sender).await.unwrap();

    let line = receiver.recv().await.unwrap().unwrap();
    assert_eq!((line.bytes.as_slice(), line.attributes["tag"].as_str()), (&b"x\n"[..], "web"));
}
