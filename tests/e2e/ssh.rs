//! `RUN --mount=type=ssh`: steps use the agent of whoever builds, and no more than its keys.

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::Path,
};

use strata_tests::{Context, House, Output};

use super::mounts::{printed, run};

/// An agent that answers every question with this text.
pub fn agent(path: &Path, answer: &'static str) {
    let listener = UnixListener::bind(path).expect("a temporary directory");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut question = [0; 5];
            if stream.read_exact(&mut question).is_ok() {
                let length = (answer.len() as u32 + 1).to_be_bytes();
                let _client_is_gone = stream.write_all(&[&length[..], &[12], answer.as_bytes()].concat());
            }
        }
    });
}

fn build(house: &House, rest: &str, flags: &[&str]) -> Output {
    let context = Context::new(&format!("FROM guest\n{rest}"));
    house.ctl(&[&["build", "--progress", "plain", "-t", "app"], flags, &[context.arg()]].concat())
}

#[test]
fn a_step_asks_the_agent_of_whoever_builds() {
    let mut house = House::with_guest();
    agent(&house.path("agent"), "the keys");
    let socket = house.path("agent").display().to_string();
    house.set("SSH_AUTH_SOCK", &socket);
    let text = run("--mount=type=ssh", "agent 11 + agent 17 + stat /run/buildkit/ssh_agent.0 + env");

    let output = build(&house, &text, &["--ssh", "default"]).ok();

    let printed = printed(&output);
    assert!(printed.starts_with("answer 12 of 9 bytes: the keys\nanswer 5 of 1 bytes: \n"), "{printed}");
    assert!(printed.contains("/run/buildkit/ssh_agent.0: other 600 0:0\n"), "{printed}");
    assert!(printed.contains("SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0\n"), "{printed}");
    let left = house.ctl(&["run", "--rm", "app", "/guest", "ls", "/"]).ok();
    assert!(!left.stdout.contains("run\n"), "{left:?}");
    assert_eq!(std::fs::read_dir(house.run_dir().join("agents")).unwrap().count(), 0, "no socket is left");
}

#[test]
fn agents_have_ids_targets_modes_and_owners() {
    let house = House::with_guest();
    agent(&house.path("one"), "one");
    agent(&house.path("two"), "two");
    let flags = "--mount=type=ssh,id=two,target=/two,mode=0666,uid=1000,gid=50 --mount=type=ssh,id=one";
    let text = run(flags, "agent 11 + stat /two /run/buildkit/ssh_agent.1");
    let given = |id: &str| format!("{id}={}", house.path(id).display());

    let output = build(&house, &text, &["--ssh", &given("one"), "--ssh", &given("two")]).ok();

    // The first socket is what the variable names.
    let expected = "answer 12 of 4 bytes: two\n/two: other 666 1000:50\n/run/buildkit/ssh_agent.1: other 600 0:0\n";
    assert_eq!(printed(&output), expected, "{output:?}");
}

#[test]
fn an_agent_that_is_not_given_is_absent_or_an_error() {
    let house = House::with_guest();
    let optional = run("--mount=type=ssh", "env + ls /");
    let required = run("--mount=type=ssh,required", "noop");

    let output = build(&house, &optional, &[]).ok();
    assert!(printed(&output).contains("SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0\n"), "{output:?}");
    build(&house, &required, &[]).fails().complains(&["Dockerfile:2:", "\"default\" is required", "--ssh default"]);
    build(&house, &required, &["--ssh", "default=/nonexistent"]).fails().complains(&["/nonexistent"]);
}

/// What OpenSSH's own programs say of a key in a file.
#[test]
fn a_key_in_a_file_gets_an_agent_for_one_build() {
    let house = House::with_guest();
    let key = house.path("key").display().to_string();
    let made =
        house.command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", &key]).output();
    assert!(made.expect("Debian's openssh-client").status.success());

    let output = build(&house, &run("--mount=type=ssh", "agent 11"), &["--ssh", &format!("default={key}")]).ok();

    assert!(printed(&output).contains("answer 12 of ") && printed(&output).contains("a comment"), "{output:?}");
}
