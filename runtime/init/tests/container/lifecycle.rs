//! From plan to exit record: statuses, failures, the runtime's death, exec.

use crate::harness::*;
use strata_init::plan::Waker;
use strata_init::wire::Frame;

#[test]
fn the_exit_status_is_the_programs() {
    let bench = Bench::new();

    assert_eq!(bench.run_shell("exit 7"), (7, String::new()));

    let record = std::fs::read_to_string(bench.path("exit.json")).unwrap();
    assert!(record.contains("\"code\":7,\"signal\":0,\"oom_killed\":false"), "{record}");
    assert!(record.contains("\"failure\":null"), "{record}");
    assert!(!bench.path("control.sock").exists());
}

#[test]
fn a_signal_is_128_and_its_number() {
    let bench = Bench::new();
    let mut monitor = bench.start(&bench.plan(&["sleep", "100"]));
    monitor.ready();
    let (mut client, _) = Client::attach(&bench.path("control.sock"), false, false);
    monitor.go();

    client.send(&Frame::Signal { signal: 9 });

    assert_eq!(monitor.finish(), 137);
    assert_eq!(client.read(|_| false).1, Some(137));
}

#[test]
fn what_cannot_be_executed_is_126_and_what_is_absent_127() {
    let case = |args: &[&str], code: i32| {
        let bench = Bench::new();
        std::fs::write(bench.path("lower/tmp/plain"), "text").unwrap();
        std::fs::write(bench.path("lower/tmp/script"), "#!/absent\n").unwrap();
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bench.path("lower/tmp/script"), mode).unwrap();
        assert_eq!(bench.run(&bench.plan(args)).0, code, "{args:?}");
    };

    case(&["absent"], 127);
    case(&["/absent"], 127);
    case(&["/tmp/script"], 127);
    case(&["/tmp/plain"], 126);
    case(&["/tmp"], 126);
    case(&[], 125);
}

#[test]
fn a_failure_names_the_step_and_its_errno() {
    let bench = Bench::new();
    let mut plan = bench.shell("true");
    plan.steps.push(bind("/absent-on-the-host", "/mnt", 0));

    let mut monitor = bench.start(&plan);

    match monitor.receive() {
        Frame::Failed { step, errno, code, .. } => {
            assert_eq!((step.as_str(), errno, code), ("open /absent-on-the-host for /mnt", libc::ENOENT, 125));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_that_are_no_plan_are_refused() {
    let mut monitor = Monitor::spawn("monitor");

    monitor.send(&Frame::Plan { bytes: vec![9; 100] });

    assert!(matches!(monitor.receive(), Frame::Failed { code: 125, .. }));
}

#[test]
fn mount_points_that_were_missing_are_reported_with_their_inode() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    std::os::unix::fs::symlink("/run", bench.path("lower/var-run")).unwrap();
    std::fs::write(bench.path("hosts"), "127.0.0.1 localhost\n").unwrap();
    let mut plan = bench.shell("cat /etc/hosts /run/deep/file");
    plan.steps.push(bind(bench.path("hosts"), "/etc/hosts", 0));
    plan.steps.push(bind(bench.path("hosts"), "/var-run/deep/file", 0));

    let mut monitor = bench.start(&plan);
    let Frame::Ready { created, .. } = monitor.receive() else { panic!("not ready") };
    monitor.send(&Frame::Start);

    assert_eq!(monitor.finish(), 0);
    assert_eq!(log_text(&bench.path("log")).lines().count(), 2);
    let paths: Vec<_> = created.iter().map(|created| created.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/proc", "/dev", "/sys", "/etc/hosts", "/run", "/run/deep", "/run/deep/file"]);
    for made in &created {
        let on_disk = bench.path("upper").join(made.path.strip_prefix("/").unwrap());
        assert_eq!(std::fs::symlink_metadata(on_disk).unwrap().ino(), made.inode, "{:?}", made.path);
    }
}

#[test]
fn a_container_outlives_its_runtime_with_log_and_record() {
    let bench = Bench::new();
    let mut plan = bench.shell("read word; echo $word; exit 3");
    plan.streams.stdin = true;
    let mut monitor = bench.start(&plan);
    let pid = monitor.ready();
    monitor.go();

    monitor.socket = None;
    let (mut client, state) = Client::attach(&bench.path("control.sock"), true, false);
    client.send(&Frame::Stdin { bytes: b"alive\n".to_vec() });

    assert_eq!(state, Frame::State { pid, status: None });
    assert_eq!(client.read(|_| false), ("alive\n".into(), Some(3)));
    monitor.process.wait().unwrap();
    assert_eq!(log_text(&bench.path("log")), "alive\n");
    assert!(std::fs::read_to_string(bench.path("exit.json")).unwrap().contains("\"code\":3"));
}

#[test]
fn a_container_that_was_not_started_ends_with_its_runtime() {
    let bench = Bench::new();
    let mut monitor = bench.start(&bench.shell("sleep 100"));
    let pid = monitor.ready();

    monitor.socket = None;

    monitor.process.wait().unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn an_exec_joins_the_container_and_has_its_own_status() {
    let bench = Bench::new();
    let mut container = bench.start(&bench.shell("echo mine >/tmp/file; exec sleep 100"));
    let pid = container.ready();
    container.go();
    eventually("the file", || bench.path("upper/tmp/file").metadata().is_ok_and(|file| file.len() > 0));

    let (code, text) = bench.run(&bench.exec(pid, "cat /tmp/file; hostname; ls /proc | grep -c '^[0-9]'; exit 9"));

    assert_eq!(code, 9);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["mine", "inside"]);
    assert!(lines[2].parse::<u32>().unwrap() < 10, "{text}");
    let (mut client, _) = Client::attach(&bench.path("control.sock"), false, false);
    client.send(&Frame::Signal { signal: 9 });
    assert_eq!(container.finish(), 137);
}

#[test]
fn an_exec_into_another_process_of_the_same_id_is_refused() {
    let bench = Bench::new();
    let mut plan = bench.exec(std::process::id(), "true");
    plan.target.as_mut().unwrap().start_time = 1;

    assert_eq!(bench.run(&plan).0, 125);
}

#[test]
fn nothing_is_left_of_a_container() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let bench = Bench::new();

    assert_eq!(bench.run_shell("sleep 100 & exit 0").0, 0);

    assert_eq!(mounts(), before);
    let log = log_text(&bench.path("log"));
    assert_eq!(log, "");
}

#[test]
fn whom_a_lost_runtime_is_woken_by_can_be_said_anew() {
    for is_wanted in [true, false] {
        let bench = Bench::new();
        let woken = bench.path("woken");
        let args = vec!["-c".into(), format!("> {}", woken.display()).into()];
        let waker = Waker { program: "/bin/sh".into(), args, env: Vec::new(), only_after_failure: true };
        let mut plan = bench.shell("sleep 1; exit 3");
        plan.waker = (!is_wanted).then(|| waker.clone());
        let mut monitor = bench.start(&plan);
        monitor.ready();
        monitor.go();
        let (mut client, _) = Client::attach(&bench.path("control.sock"), false, false);

        client.send(&Frame::SetWaker { waker: is_wanted.then_some(waker) });

        drop(client);
        monitor.socket = None;
        monitor.process.wait().unwrap();
        match is_wanted {
            true => eventually("the runtime was woken", || woken.exists()),
            false => {
                std::thread::sleep(std::time::Duration::from_millis(300));
                assert!(!woken.exists(), "nobody is to be woken any more");
            }
        }
    }
}
