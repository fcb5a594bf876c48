//! runtime.md: the operations and the life of a container.

use std::{fs, process::Command};

use serde_json::json;

use crate::bundle::Bundle;

/// Spec: runtime.md, Run: the output and the exit status are the container's
#[test]
fn run_gives_the_containers_output_and_status_and_leaves_nothing() {
    let script = "echo pid $$; read name value rest < /proc/self/status; echo $name; exit 7";
    let bundle = Bundle::new(script, |_| {});

    let output = bundle.run();

    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "pid 1\nName:\n");
    assert_eq!(fs::read_dir(bundle.path("state")).unwrap().count(), 0);
    assert_eq!(bundle.cgroups(), 0);
}

/// Spec: runtime.md, Lifecycle: created, running and stopped, and what each of them allows
#[test]
fn a_container_goes_from_created_through_running_to_stopped_and_away() {
    let bundle = Bundle::new("echo started; exec sleep 100", |_| {});

    assert!(bundle.create(), "{}", fs::read_to_string(bundle.path("output")).unwrap());
    assert_eq!(bundle.status(), "created");
    assert_eq!(fs::read_to_string(bundle.path("output")).unwrap(), "", "nothing runs before start");
    assert!(bundle.cgroups() >= 1);
    assert!(!bundle.create(), "a name is used once");

    bundle.strata(&["start", "c"]).unwrap();
    assert_eq!(bundle.status(), "running");
    assert!(bundle.strata(&["start", "c"]).unwrap_err().contains("not in state created"));
    assert!(bundle.strata(&["delete", "c"]).unwrap_err().contains("is not stopped"));

    bundle.strata(&["kill", "c", "KILL"]).unwrap();
    bundle.wait_for("stopped");
    assert!(bundle.strata(&["kill", "c"]).unwrap_err().contains("is not running"));
    bundle.strata(&["delete", "c"]).unwrap();
    assert!(bundle.strata(&["state", "c"]).unwrap_err().contains("does not exist"));
    assert_eq!(bundle.cgroups(), 0);
}

/// Spec: runtime.md, Delete: all that create made is removed
#[test]
fn a_created_container_can_be_deleted_by_force() {
    let bundle = Bundle::new("true", |_| {});
    assert!(bundle.create());

    bundle.strata(&["delete", "--force", "c"]).unwrap();
    bundle.strata(&["delete", "--force", "c"]).unwrap();

    assert_eq!(bundle.cgroups(), 0);
}

/// Spec: config.md: a value that is not allowed is an error, and nothing is left
#[test]
fn a_bad_spec_is_refused_by_field_and_leaves_nothing() {
    let bundle = Bundle::new("true", |spec| spec["process"]["env"] = json!(["FOO"]));

    let error = bundle.refused();

    assert!(error.contains("process.env[0]: \"FOO\" is not of the form NAME=value"), "{error}");
}

/// Spec: runtime.md, Errors: an operation that is not there is an error
#[test]
fn commands_that_are_not_there_say_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_strata-oci")).args(["checkpoint", "x"]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "strata-oci: not available yet: checkpoint\n");
}
