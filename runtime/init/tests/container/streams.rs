//! Standard streams, terminals, attached clients, the log.

use crate::harness::*;
use std::os::unix::net::UnixDatagram;
use strata_init::plan::*;
use strata_init::wire::{self, Frame};

#[test]
fn both_streams_are_logged_with_their_name() {
    let bench = Bench::new();

    bench.run_shell("echo out; echo err >&2; printf tail");

    let log = std::fs::read_to_string(bench.path("log")).unwrap();
    assert!(log.contains("{\"log\":\"out\\n\",\"stream\":\"stdout\",\"time\":\"20"), "{log}");
    assert!(log.contains("{\"log\":\"err\\n\",\"stream\":\"stderr\",\"time\":\"20"), "{log}");
    assert!(log.contains("{\"log\":\"tail\",\"stream\":\"stdout\""), "{log}");
}

#[test]
fn ten_mebibytes_arrive_whole_at_a_client_that_the_container_waits_for() {
    let bench = Bench::new();
    let mut plan = bench.shell("head -c 10485760 /dev/zero | tr '\\0' x");
    plan.log = None;
    let mut monitor = bench.start(&plan);
    monitor.ready();
    let (mut client, _) = Client::attach(&bench.path("control.sock"), false, true);
    monitor.go();

    std::thread::sleep(std::time::Duration::from_millis(200));
    let (text, code) = client.read(|_| false);

    assert_eq!((text.len(), code), (10 << 20, Some(0)));
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_blocks_nothing() {
    let bench = Bench::new();
    let mut plan = bench.shell("head -c 10485760 /dev/zero");
    plan.log = None;
    let mut monitor = bench.start(&plan);
    monitor.ready();
    let (_slow, _) = Client::attach(&bench.path("control.sock"), false, false);
    monitor.go();

    assert_eq!(monitor.finish(), 0);
}

#[test]
fn input_reaches_the_process_and_ends_when_it_is_closed() {
    let bench = Bench::new();
    let mut plan = bench.shell("cat; echo end");
    plan.streams.stdin = true;
    let mut monitor = bench.start(&plan);
    monitor.ready();
    let (mut client, _) = Client::attach(&bench.path("control.sock"), true, true);
    monitor.go();

    let input = vec![b'y'; 900_000];
    client.send(&Frame::Stdin { bytes: input.clone() });
    client.send(&Frame::StdinClose);

    let (text, code) = client.read(|_| false);
    assert_eq!((text.len(), code), (input.len() + 4, Some(0)));
}

/// Row 47 (CVE-2022-23471, CVE-2025-64329, CVE-2022-31030): output that nobody reads, clients that come and go and
/// sizes without end take neither memory nor descriptors of the monitor.
#[test]
fn row_47_cve_2022_23471_a_monitor_does_not_grow() {
    let bench = Bench::new();
    let mut plan = bench.shell("head -c 300000000 /dev/zero; touch /tmp/written; exec sleep 1000");
    plan.log = None;
    let mut monitor = bench.start(&plan);
    monitor.ready();
    let socket = bench.path("control.sock");
    let process = format!("/proc/{}", monitor.process.id());
    let memory = || -> u64 {
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let descriptors = || std::fs::read_dir(format!("{process}/fd")).unwrap().count();
    let (memory_before, descriptors_before) = (memory(), descriptors());

    let (_silent, _) = Client::attach(&socket, false, false);
    monitor.go();
    for _ in 0..300 {
        let (mut client, _) = Client::attach(&socket, false, false);
        (0..30).for_each(|rows| client.send(&Frame::Resize { size: TerminalSize { rows, columns: 80 } }));
    }
    eventually("the end of the output", || bench.path("upper/tmp/written").exists());

    eventually("the end of the clients", || descriptors() <= descriptors_before + 1);
    assert!(memory() < memory_before + 8192, "{memory_before} kB have become {} kB", memory());
    let (mut client, _) = Client::attach(&socket, false, false);
    client.send(&Frame::Signal { signal: 9 });
    monitor.finish();
}

/// A client that asked to be waited for gets all output, however late it reads after the exit.
#[test]
fn a_client_that_was_behind_at_the_exit_gets_what_was_written_before() {
    let bench = Bench::new();
    let plan = bench.shell("exec dd if=/dev/zero bs=4096");
    let mut monitor = bench.start(&plan);
    let pid = monitor.ready();
    let (mut client, _) = Client::attach(&bench.path("control.sock"), false, true);
    monitor.go();
    // It stands still once client, monitor and pipe are full.
    let written = || -> usize {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
    };
    let pause = || std::thread::sleep(std::time::Duration::from_millis(150));
    eventually("the client to be behind", || {
        let before = written();
        pause();
        before > 300_000 && before == written()
    });
    // What it wrote before it became dd, a few bytes to files of the kernel, counts too.
    let expected = written() / 4096 * 4096;
    client.send(&Frame::Signal { signal: 9 });
    eventually("the exit", || bench.path("exit.json").exists());
    // Longer than the silence after which a monitor does not wait for more.
    pause();

    let (text, code) = client.read(|_| false);

    assert_eq!((text.len(), code), (expected, Some(137)));
}

#[test]
fn input_ends_with_the_client_that_gave_it_when_asked_so() {
    let bench = Bench::new();
    let mut plan = bench.shell("cat");
    (plan.streams.stdin, plan.streams.stdin_once) = (true, true);
    let mut monitor = bench.start(&plan);
    monitor.ready();
    let (client, _) = Client::attach(&bench.path("control.sock"), true, true);
    monitor.go();

    drop(client);

    assert_eq!(monitor.finish(), 0);
}

#[test]
fn without_input_standard_input_is_empty() {
    assert_eq!(Bench::new().run_shell("wc -c"), (0, "0\n".into()));
}

#[test]
fn two_clients_see_the_same_output() {
    let bench = Bench::new();
    let mut monitor = bench.start(&bench.shell("echo shared"));
    monitor.ready();
    let (mut first, _) = Client::attach(&bench.path("control.sock"), false, true);
    let (mut second, _) = Client::attach(&bench.path("control.sock"), false, true);
    monitor.go();

    assert_eq!(first.read(|_| false), ("shared\n".into(), Some(0)));
    assert_eq!(second.read(|_| false), ("shared\n".into(), Some(0)));
}

fn terminal(bench: &Bench, script: &str) -> Plan {
    let mut plan = bench.shell(script);
    plan.streams = Streams { terminal: Some(TerminalSize { rows: 33, columns: 101 }), stdin: true, stdin_once: false };
    plan
}

#[test]
fn a_terminal_has_its_size_from_the_start_and_is_the_console() {
    let bench = Bench::new();
    let mut plan = terminal(&bench, "stty size; tty; test -c /dev/console && echo con >/dev/console; ps -o tty= -p $$");
    plan.process.uid = 1000;

    let (code, text) = bench.run(&plan);

    assert_eq!(code, 0, "{text}");
    assert_eq!(text, "33 101\r\n/dev/pts/0\r\ncon\r\npts/0\r\n");
}

#[test]
fn a_terminal_is_resized_and_passes_ctrl_c() {
    let bench = Bench::new();
    let script = "trap 'stty size; exit 5' INT; echo ready; while :; do sleep 1 & wait; done";
    let mut monitor = bench.start(&terminal(&bench, script));
    monitor.ready();
    let (mut client, _) = Client::attach(&bench.path("control.sock"), true, true);
    monitor.go();
    client.read(|text| text.contains("ready"));

    client.send(&Frame::Resize { size: TerminalSize { rows: 40, columns: 50 } });
    client.send(&Frame::Stdin { bytes: vec![3] });

    let (text, code) = client.read(|_| false);
    assert_eq!(code, Some(5));
    assert!(text.contains("40 50"), "{text}");
}

#[test]
fn an_exec_has_a_terminal_of_the_container() {
    let bench = Bench::new();
    let mut container = bench.start(&bench.plan(&["sleep", "100"]));
    let pid = container.ready();
    container.go();
    let mut plan = bench.exec(pid, "tty; stty size");
    plan.streams.terminal = Some(TerminalSize { rows: 10, columns: 20 });

    let (code, text) = bench.run(&plan);

    assert_eq!((code, text.as_str()), (0, "/dev/pts/0\r\n10 20\r\n"));
    let (mut client, _) = Client::attach(&bench.path("control.sock"), false, false);
    client.send(&Frame::Signal { signal: 9 });
    container.finish();
}

#[test]
fn a_grandchild_that_holds_the_output_does_not_keep_an_exec_for_ever() {
    let bench = Bench::new();
    let mut container = bench.start(&bench.plan(&["sleep", "100"]));
    let pid = container.ready();
    container.go();

    assert_eq!(bench.run(&bench.exec(pid, "sleep 50 & echo done")), (0, "done\n".into()));

    let (mut client, _) = Client::attach(&bench.path("control.sock"), false, false);
    client.send(&Frame::Signal { signal: 9 });
    container.finish();
}

#[test]
fn the_log_is_rotated_by_size() {
    let bench = Bench::new();
    let mut plan = bench.shell("i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done");
    plan.log = Some(log(bench.path("log"), 5000, 2));

    bench.run(&plan);

    assert!(bench.path("log.1").exists() && !bench.path("log.2").exists());
    assert!(log_text(&bench.path("log")).ends_with("line 299\n"));
}

#[test]
fn the_log_is_cleared_while_the_process_runs() {
    let bench = Bench::new();
    let mut plan = bench.shell("echo before; read line; echo after");
    plan.streams.stdin = true;
    let mut monitor = bench.start(&plan);
    monitor.ready();
    monitor.go();
    eventually("it is logged", || log_text(&bench.path("log")) == "before\n");
    let (mut client, _) = Client::attach(&bench.path("control.sock"), true, false);

    client.send(&Frame::ClearLog);

    assert_eq!(wire::receive(&mut client.0).unwrap(), Some(Frame::LogCleared { errno: 0 }));
    assert_eq!(log_text(&bench.path("log")), "");
    client.send(&Frame::Stdin { bytes: b"\n".to_vec() });
    assert_eq!(monitor.finish(), 0);
    assert_eq!(log_text(&bench.path("log")), "after\n");
}

#[test]
fn each_line_goes_to_the_receiver_too() {
    let bench = Bench::new();
    let path = bench.path("receiver");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut plan = bench.shell("echo one; printf two");
    plan.log_receiver = Some(LogReceiver {
        name: "journald".into(),
        address: ReceiverAddress::Datagrams { path },
        form: MessageForm::Journal { fields: b"CONTAINER_NAME=box\n".to_vec() },
        max_queued_bytes: 1 << 20,
        waits: false,
    });

    let (code, log) = bench.run(&plan);

    assert_eq!((code, log.as_str()), (0, "one\ntwo"));
    let next = || {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    let (one, two) = (next(), next());
    assert!(one.starts_with("CONTAINER_NAME=box\nPRIORITY=6\n") && one.ends_with("\nMESSAGE=one\n"), "{one}");
    assert!(!two.contains("CONTAINER_PARTIAL_MESSAGE") && two.ends_with("\nMESSAGE=two\n"), "{two}");
}
