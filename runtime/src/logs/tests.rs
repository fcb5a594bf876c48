use std::{fs, io::Write, time::Duration};

use super::*;
use crate::{
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

async fn collect(path: &Path, tail: Option<u64>) -> Vec<String> {
    let (sender, mut receiver) = mpsc::channel(1000);
    read(path.to_owned(), tail, None, &sender).await.unwrap();
    drop(sender);
    let mut all = Vec::new();
    while let Some(line) = receiver.recv().await {
        all.push(String::from_utf8(line.unwrap().bytes).unwrap());
    }
    all
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
    read(path, None, None, &sender).await.unwrap();
    let line = receiver.recv().await.unwrap().unwrap();
    assert!(line.is_stderr);
    assert_eq!(line.written_at.unwrap().to_string(), "2026-01-02T03:04:05.000000006Z");
}

#[tokio::test]
async fn following_goes_on_over_rotations_and_ends_with_the_container() {
    let (dir, path) = rotated();
    let mut running = record(1, "one");
    let identity = Identity { pid: 1, started: 1, boot_id: String::new() };
    running.state = State::Running(Running { init: identity.clone(), monitor: identity, is_paused: false });
    let container = Container::new(running);
    let (sender, mut receiver) = mpsc::channel(1000);
    let (log, followed) = (path.clone(), container.clone());
    let reading = tokio::spawn(async move { read(log, Some(1), Some(followed), &sender).await });
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await.expect("no line came");
        line.map(|line| String::from_utf8(line.unwrap().bytes).unwrap())
    };

    assert_eq!(next().await.unwrap(), "12\n");
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    // Half a line is no line.
    let whole = entry("13\n");
    file.write_all(&whole.as_bytes()[..10]).unwrap();
    file.write_all(&whole.as_bytes()[10..]).unwrap();
    assert_eq!(next().await.unwrap(), "13\n");
    file.write_all(entry("14\n").as_bytes()).unwrap();
    // Two rotations at once.
    for (from, to) in [("log.json.1", "log.json.3"), ("log.json", "log.json.2")] {
        fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
    }
    fs::write(dir.path().join("log.json.1"), entries(15..17)).unwrap();
    fs::write(&path, entries(17..18)).unwrap();
    for number in 14..18 {
        assert_eq!(next().await.unwrap(), format!("{number}\n"));
    }
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(entry("18\n").as_bytes()).unwrap();
    container.set_phase(Phase::Ended(Exit::code(0)));
    assert_eq!(next().await.unwrap(), "18\n");

    assert_eq!(next().await, None);
    reading.await.unwrap().unwrap();
}
