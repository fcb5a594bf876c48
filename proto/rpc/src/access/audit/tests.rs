use std::fs;

use super::*;

fn subject(method: &str, permission: Permission) -> Subject {
    Subject {
        request: "r-1".to_owned(),
        subject: "spiffe://strata/operator/bob\",\"hash\":\"x".to_owned(),
        role: Some(Role::Operator),
        peer: "192.0.2.1:4711".to_owned(),
        method: method.to_owned(),
        permission,
    }
}

fn lines(root: &std::path::Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(root.join(DIRECTORY).join("audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of(lines: &[serde_json::Value], key: &str) -> Vec<String> {
    lines.iter().map(|line| line[key].as_str().unwrap_or("-").to_owned()).collect()
}

#[test]
fn what_changes_something_is_recorded_before_and_after_and_what_looks_once() {
    let root = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::new("store", root.path()));
    let run = log.entry(subject("/a/Run", Permission::Run));
    run.begun(true).unwrap();
    run.granted(Grant::HostMounts, "/etc of the host", true).unwrap();
    run.granted(Grant::Devices, "/dev/kvm", false).unwrap();
    run.ended(Code::PermissionDenied);
    run.ended(Code::Ok);
    let look = log.entry(subject("/a/List", Permission::View));
    look.begun(true).unwrap();
    assert_eq!(lines(root.path()).len(), 4);
    look.ended(Code::Ok);
    let denied = log.entry(subject("/a/Prune", Permission::Admin));
    denied.begun(false).unwrap();
    drop(denied);
    let gone = log.entry(subject("/a/Wait", Permission::View));
    gone.begun(true).unwrap();
    drop(gone);

    let lines = lines(root.path());

    assert_eq!(of(&lines, "decision"), ["allowed", "granted", "refused", "ended", "allowed", "denied", "allowed"]);
    assert_eq!(of(&lines, "code"), ["-", "-", "-", "PERMISSION_DENIED", "OK", "-", "CANCELLED"]);
    assert_eq!(of(&lines, "what")[1..3], ["/etc of the host", "/dev/kvm"]);
    let found = verify(root.path(), None).unwrap();
    assert_eq!((found.records, found.broken), (7, None));
    assert_eq!(found.head, lines[6]["hash"]);
}

fn written(root: &std::path::Path, full: u64) {
    let log = Arc::new(Log::new("store", root).with_files_of(full));
    for number in 0..10 {
        let entry = log.entry(subject(&format!("/a/{number}"), Permission::Push));
        entry.begun(true).unwrap();
        entry.ended(Code::Ok);
    }
}

#[test]
fn a_log_goes_on_after_a_restart_and_over_files_that_are_full() {
    let root = tempfile::tempdir().unwrap();
    written(root.path(), 1500);
    let first = verify(root.path(), None).unwrap();
    written(root.path(), 1500);

    let found = verify(root.path(), Some(&first.head)).unwrap();

    assert_eq!((first.records, found.records, found.broken), (20, 40, None));
    assert!(fs::read_dir(root.path().join(DIRECTORY)).unwrap().count() > 3);
}

#[test]
fn a_line_that_a_crash_cut_is_taken_away_and_the_chain_goes_on() {
    let root = tempfile::tempdir().unwrap();
    written(root.path(), u64::MAX);
    let path = root.path().join(DIRECTORY).join("audit.log");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 7]).unwrap();
    assert_eq!(verify(root.path(), None).unwrap().records, 19, "a line that is not whole is no record yet");

    written(root.path(), u64::MAX);

    let found = verify(root.path(), None).unwrap();
    assert_eq!((found.records, found.broken), (39, None));
}

#[test]
fn whatever_is_changed_in_the_middle_shows() {
    let root = tempfile::tempdir().unwrap();
    written(root.path(), u64::MAX);
    let path = root.path().join(DIRECTORY).join("audit.log");
    let good = fs::read_to_string(&path).unwrap();
    let head = verify(root.path(), None).unwrap().head;
    let lines: Vec<&str> = good.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let broken_at = |text: &str| {
        fs::write(&path, text).unwrap();
        verify(root.path(), Some(&head)).unwrap().broken.map(|at| at.line)
    };

    assert_eq!(broken_at(&good), None);
    assert_eq!(broken_at(&good.replacen("/a/3", "/a/4", 1)), Some(7), "a changed record");
    assert_eq!(broken_at(&joined(&[&lines[..5], &lines[6..]].concat())), Some(6), "one that was taken out");
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    assert_eq!(broken_at(&joined(&swapped)), Some(4), "two in another order");
    assert_eq!(broken_at(&joined(&lines[1..])), Some(1), "the first taken away");
    assert_eq!(broken_at(&joined(&lines[..12])), Some(0), "the end cut off, for who knows the head");
    assert_eq!(broken_at(&format!("{good}no record\n")), Some(21), "something added");
}

#[test]
fn a_log_that_cannot_be_written_is_told() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(DIRECTORY), "a file in the way").unwrap();
    let log = Arc::new(Log::new("store", root.path()));

    assert!(log.entry(subject("/a/Run", Permission::Run)).begun(true).is_err());
}
