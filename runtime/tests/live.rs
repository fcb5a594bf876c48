//! The service over real monitors: gRPC in, processes out. The store is one of directories, made here, so that these
//! tests need only `strata-init` beside the test's own binary directory. They need root.

use std::time::{Duration, Instant};

use strata_proto::runtime::v1::{self as wire, exit_status::Kind};

mod live {
    mod devices;
    mod directories;
    pub mod house;
}

use live::house::{House, code, house, output_of};

#[tokio::test]
async fn run_gives_output_exit_code_and_mount_points_and_leaves_nothing() {
    let house = house().await;

    let ended = house.run(House::spec(&["sh", "-c", "echo out; echo err >&2; exit 7"])).await.unwrap();

    assert_eq!(ended.stdout, "out\n");
    assert_eq!(ended.stderr, "err\n");
    assert_eq!(ended.exit, Some(Kind::Code(7)));
    assert!(ended.points.iter().any(|point| point.path == "/etc/hosts" && point.inode != 0), "{:?}", ended.points);
    house.is_clean().await;
}

#[tokio::test]
async fn a_signal_is_told_as_a_signal() {
    let house = house().await;
    let ended = house.run(House::spec(&["sh", "-c", "kill -9 $$"])).await.unwrap();
    // Pid 1 of its namespace ignores signals from inside, so the shell makes another.
    assert_eq!(ended.exit, Some(Kind::Code(0)));
    let ended = house.run(House::spec(&["sh", "-c", "sh -c 'kill -9 $$'"])).await.unwrap();
    assert_eq!(ended.exit, Some(Kind::Code(137)));
    house.is_clean().await;
}

#[tokio::test]
async fn a_program_that_is_missing_or_not_executable_has_its_code_and_leaves_nothing() {
    let house = house().await;
    for (program, expected) in [("/nope", "127"), ("nope", "127"), ("/etc/passwd", "126")] {
        let status = house.run(House::spec(&[program])).await.unwrap_err();
        assert_eq!(strata_rpc::reason_of(&status).as_deref(), Some("FAULT_START_FAILED"), "{status:?}");
        let facts = strata_rpc::fault::metadata_of(&status);
        assert_eq!(facts.get("exit_code").map(String::as_str), Some(expected), "{program}: {status:?}");
    }
    house.is_clean().await;
}

#[tokio::test]
async fn users_and_homes_come_from_the_image() {
    let house = house().await;
    let mut spec = House::spec(&["sh", "-c", "id; echo $HOME; pwd"]);
    spec.user = "worker".into();
    spec.working_directory = "/made/here".into();
    let ended = house.run(spec).await.unwrap();
    assert_eq!(
        ended.stdout,
        "uid=1234(worker) gid=1234(worker) groups=1234(worker),1300(extra)\n/home/worker\n/made/here\n"
    );

    let mut spec = House::spec(&["id"]);
    spec.user = "nobody-like-this".into();
    let status = house.run(spec).await.unwrap_err();
    assert!(status.message().contains("nobody-like-this"), "{status:?}");
    house.is_clean().await;
}

#[tokio::test]
async fn mounts_limits_and_network_are_applied() {
    let house = house().await;
    let shared = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::write(shared.path().join("from-host"), "hello").unwrap();
    let script = "cat /data/from-host; echo x > /data/y 2>/dev/null || echo ro; cat /run/secret; \
                  echo t > /scratch/t && echo tmpfs; ls /sys/class/net; hostname; cat /proc/self/cgroup | grep -c strata";
    let mut spec = House::spec(&["sh", "-c", script]);
    spec.hostname = "kitchen".into();
    spec.limits = Some(wire::Limits {
        memory_bytes: Some(64 << 20),
        nano_cpus: Some(500_000_000),
        pids: Some(32),
        ..Default::default()
    });
    let bind = wire::BindSource { path: shared.path().to_string_lossy().into_owned(), ..Default::default() };
    let secret = wire::BytesSource { data: b"s3cret\n"[..].into(), ..Default::default() };
    spec.mounts = vec![
        House::mount("/data", true, wire::mount_spec::Source::Bind(bind)),
        House::mount("/run/secret", true, wire::mount_spec::Source::Bytes(secret)),
        House::mount("/scratch", false, wire::mount_spec::Source::Tmpfs(Default::default())),
    ];

    let ended = house.run(spec).await.unwrap();

    assert_eq!(ended.stdout, "hellorO\n".replace("rO", "ro") + "s3cret\ntmpfs\nlo\nkitchen\n0\n", "{}", ended.stderr);
    house.is_clean().await;
}

#[tokio::test]
async fn a_bind_without_its_source_is_refused_by_path() {
    let house = house().await;
    let mut spec = House::spec(&["true"]);
    let bind = wire::BindSource { path: "/nonexistent/here".into(), ..Default::default() };
    spec.mounts = vec![House::mount("/data", false, wire::mount_spec::Source::Bind(bind))];
    let status = house.run(spec).await.unwrap_err();
    assert_eq!(strata_rpc::reason_of(&status).as_deref(), Some("FAULT_SOURCE_NOT_FOUND"));
    house.is_clean().await;
}

#[tokio::test]
async fn input_reaches_the_process_and_ends() {
    let house = house().await;
    let mut spec = House::spec(&["sh", "-c", "cat; echo done"]);
    spec.has_stdin = true;
    let ended = house.run_with(spec, &[b"one\n", b"two\n"]).await.unwrap();
    assert_eq!(ended.stdout, "one\ntwo\ndone\n");
    house.is_clean().await;
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let house = house().await;
    let ended = house.run(House::spec(&["sh", "-c", "seq 1 200000"])).await.unwrap();
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(ended.stdout == expected, "{} of {} bytes", ended.stdout.len(), expected.len());
}

#[tokio::test]
async fn dropping_a_run_kills_and_removes() {
    let house = house().await;
    let stream = house.begin(House::spec(&["sleep", "1000"])).await;
    let id = stream.id.clone();
    assert!(house.get(&id).await.is_ok());

    drop(stream);

    house.eventually("the removal", async |house| house.get(&id).await.is_err()).await;
    house.is_clean().await;
}

#[tokio::test]
async fn a_container_lives_through_create_start_exec_logs_stop_start_and_delete() {
    let house = house().await;
    let mut spec = House::spec(&["sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"]);
    spec.name = "longliver".into();
    let container = house.create(spec).await.unwrap();
    house.start("longliver").await.unwrap();
    house.eventually("the first line", async |house| house.logs("longliver", None).await == "up\n").await;
    let running = house.get("longliver").await.unwrap();
    assert_eq!((running.state(), running.pid != 0), (wire::ContainerState::Running, true));

    let executed = house.exec("longliver", &["sh", "-c", "echo file > /left-here; echo in; exit 5"]).await.unwrap();
    assert_eq!((executed.0.as_str(), executed.1), ("in\n", Some(Kind::Code(5))));
    let missing = house.exec("longliver", &["nope"]).await.unwrap_err();
    assert_eq!(strata_rpc::fault::metadata_of(&missing).get("exit_code").map(String::as_str), Some("127"));

    let refused = house.delete("longliver", false).await.unwrap_err();
    assert_eq!(strata_rpc::reason_of(&refused).as_deref(), Some("FAULT_RUNNING"));
    house.stop("longliver", Duration::from_secs(10)).await.unwrap();
    let stopped = house.get(&container.id).await.unwrap();
    assert_eq!(code(&stopped), Some(Kind::Code(3)));
    assert_eq!(house.logs("longliver", Some(1)).await, "bye\n");
    assert_eq!(house.wait("longliver").await, Some(Kind::Code(3)));

    // What was written is there again.
    house.start(&container.id[..12]).await.unwrap();
    let executed = house.exec("longliver", &["cat", "/left-here"]).await.unwrap();
    assert_eq!(executed.0, "file\n");
    house.delete("longliver", true).await.unwrap();
    house.is_clean().await;
}

#[tokio::test]
async fn what_does_not_stop_is_killed_after_the_timeout() {
    let house = house().await;
    let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    let container = house.create(House::spec(&["sh", "-c", script])).await.unwrap();
    house.start(&container.id).await.unwrap();
    house.eventually("the trap", async |house| house.logs(&container.id, None).await == "up\n").await;

    let begun = Instant::now();
    house.stop(&container.id, Duration::from_millis(300)).await.unwrap();

    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(code(&house.get(&container.id).await.unwrap()), Some(Kind::Signal(9)));
    house.delete(&container.id, false).await.unwrap();
    house.is_clean().await;
}

#[tokio::test]
async fn containers_survive_the_service_and_are_found_again() {
    let mut house = house().await;
    let kept = house.create(House::spec(&["sh", "-c", "echo before; sleep 1000"])).await.unwrap();
    let short = house.create(House::spec(&["sh", "-c", "sleep 0.4; exit 9"])).await.unwrap();
    house.start(&kept.id).await.unwrap();
    house.start(&short.id).await.unwrap();
    let pid = house.get(&kept.id).await.unwrap().pid;

    house.crash().await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    house.restart().await;

    assert_eq!(house.get(&kept.id).await.unwrap().pid, pid);
    assert_eq!(house.wait(&short.id).await, Some(Kind::Code(9)), "the exit record tells");
    let executed = house.exec(&kept.id, &["echo", "again"]).await.unwrap();
    assert_eq!(executed.0, "again\n");
    house.stop(&kept.id, Duration::ZERO).await.unwrap();
    assert_eq!(code(&house.get(&kept.id).await.unwrap()), Some(Kind::Signal(9)));
    assert_eq!(house.logs(&kept.id, None).await, "before\n");
    assert_eq!(house.prune().await.len(), 2);
    house.is_clean().await;
}

#[tokio::test]
async fn a_service_that_comes_back_sees_by_the_cgroup_who_is_paused() {
    let mut house = house().await;
    let container = house.create(House::spec(&["sleep", "1000"])).await.unwrap();
    house.start(&container.id).await.unwrap();
    house.pause(&container.id).await.unwrap();
    house.crash().await;
    // As if the service had ended before it could write it down.
    house.change_record(&container.id, |record| record["state"]["running"]["is_paused"] = false.into());

    house.restart().await;

    let is_paused =
        async |house: &House| house.get(&container.id).await.unwrap().state() == wire::ContainerState::Paused;
    house.eventually("the look at the cgroup", is_paused).await;
    house.delete(&container.id, true).await.unwrap();
    house.is_clean().await;
}

#[tokio::test]
async fn a_paused_container_whose_monitor_is_killed_leaves_no_process() {
    let house = house().await;
    let container = house.create(House::spec(&["sleep", "1000"])).await.unwrap();
    house.start(&container.id).await.unwrap();
    house.pause(&container.id).await.unwrap();
    let pid = house.get(&container.id).await.unwrap().pid;

    house.signal_monitor(&container.id, rustix::process::Signal::KILL);

    let exit = house.wait(&container.id).await;
    assert!(matches!(exit, Some(Kind::Unknown(_))), "{exit:?}");
    house.eventually("the end of its process", async |_| !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
    house.delete(&container.id, true).await.unwrap();
    house.is_clean().await;
}

#[tokio::test]
async fn a_container_has_a_session_keyring_of_its_own_which_its_execs_share() {
    let house = house().await;
    let container = house.create(House::spec(&["sleep", "1000"])).await.unwrap();
    let name = format!("_ses.{}", container.id);
    let keyrings = || std::fs::read_to_string("/proc/keys").unwrap().matches(&name).count();

    house.start(&container.id).await.unwrap();
    assert_eq!(keyrings(), 1);
    let (_, executed) = tokio::join!(house.exec(&container.id, &["sleep", "1"]), house.exec(&container.id, &["true"]),);
    assert_eq!((executed.unwrap().1, keyrings()), (Some(Kind::Code(0)), 1));

    house.delete(&container.id, true).await.unwrap();
    house.eventually("the end of the keyring", async |_| keyrings() == 0).await;
    house.is_clean().await;
}

#[tokio::test]
async fn a_container_whose_monitor_is_killed_ends_as_unknown_and_leaves_no_process() {
    let house = house().await;
    let container = house.create(House::spec(&["sleep", "1000"])).await.unwrap();
    house.start(&container.id).await.unwrap();
    let pid = house.get(&container.id).await.unwrap().pid;

    house.signal_monitor(&container.id, rustix::process::Signal::KILL);

    let exit = house.wait(&container.id).await;
    assert!(matches!(exit, Some(Kind::Unknown(_))), "{exit:?}");
    house.eventually("the end of its process", async |_| !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
    house.start(&container.id).await.unwrap();
    house.delete(&container.id, true).await.unwrap();
    house.is_clean().await;
}

#[tokio::test]
async fn a_monitor_that_does_not_answer_holds_up_nobody() {
    let mut house = house().await;
    let stuck = house.create(House::spec(&["sleep", "1000"])).await.unwrap();
    house.start(&stuck.id).await.unwrap();
    house.signal_monitor(&stuck.id, rustix::process::Signal::STOP);
    house.crash().await;

    house.restart().await;

    assert!(house.get(&stuck.id).await.is_ok());
    house.run(House::spec(&["true"])).await.unwrap();
    house.signal_monitor(&stuck.id, rustix::process::Signal::CONT);
    house.eventually("the reunion", async |house| house.exec(&stuck.id, &["true"]).await.is_ok()).await;
    house.delete(&stuck.id, true).await.unwrap();
    house.is_clean().await;
}

#[tokio::test]
async fn a_terminal_has_the_size_asked_for_and_takes_input() {
    let house = house().await;
    let mut spec =
        House::spec(&["sh", "-c", "stty size; read line; echo got $line; test -t 0 && test -t 1 && echo tty"]);
    spec.has_terminal = true;
    spec.has_stdin = true;
    let container = house.create(spec).await.unwrap();
    let size = wire::TerminalSize { columns: 101, rows: 33 };

    let text = output_of(house.attach(&container.id, Some(size), &[b"word\n"]).await);

    assert!(text.contains("33 101\r\n") && text.contains("got word\r\n") && text.contains("tty"), "{text:?}");
    house.delete(&container.id, true).await.unwrap();
    house.is_clean().await;
}

#[tokio::test]
async fn auto_removed_containers_are_gone_when_attach_ends() {
    let house = house().await;
    let mut spec = House::spec(&["sh", "-c", "echo once"]);
    spec.auto_remove = true;
    let container = house.create(spec).await.unwrap();
    let text = output_of(house.attach(&container.id, None, &[]).await);
    assert_eq!(text, "once\n");
    assert!(house.get(&container.id).await.is_err());
    house.is_clean().await;
}
