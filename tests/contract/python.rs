//! Another service's client: stubs made from the protos, in another language, build, run and read logs.

use std::time::Duration;

use strata_rpc::Endpoint;
use strata_tests::{Context, Running};

use crate::{
    certificates::Valid,
    containers::import_guest,
    node::{ALL, Node, Transport, block_on},
};

fn target(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(path) => format!("unix:{}", path.display()),
        Endpoint::Tcp { host, port } => format!("{host}:{port}"),
    }
}

/// The environment that `make python` makes; made here when it was not, or when the protos have changed.
fn python() -> std::path::PathBuf {
    let dir = strata_tests::target().join("python");
    let mut command = std::process::Command::new("sh");
    command.arg(strata_tests::repository().join("tests/contract/python/stubs.sh")).arg(&dir);
    Running::spawn(command).finish().ok();
    dir
}

fn client(node: &Node, context: &Context, flags: &[String]) -> Running {
    let python = python();
    let mut command = node.house.command(python.join("venv/bin/python"));
    command.arg("-B").arg(strata_tests::repository().join("tests/contract/python/client.py"));
    command.args(["store", "builder", "runtime"].map(|name| target(node.endpoint(name))));
    command.args([context.arg(), "from-python"]).args(flags).env("PYTHONPATH", python.join("stubs"));
    Running::spawn(command)
}

fn builds_runs_and_reads(node: &Node, flags: &[String]) {
    block_on(import_guest(node));
    let context = Context::new(
        "FROM guest\nCOPY words sub /data/\nRUN [\"/guest\", \"append\", \"/data/words\", \" and a step\"]\n\
         CMD [\"/guest\", \"then\", \"read\", \"/data/words\", \"+\", \"say\", \"\", \"to stderr\", \"+\", \"exit\", \"3\"]\n",
    );
    context.write("words", "from python");
    context.write("sub/large", vec![b'x'; 600_000]);
    context.write("sub/empty", "");

    let first = client(node, &context, flags).finish_within(Duration::from_secs(100)).ok();
    let second = client(node, &context, flags).finish_within(Duration::from_secs(100)).ok();

    first.clone().says(&["image sha256:", "log stdout from python and a step\n", "log stderr to stderr\n", "exit 3\n"]);
    let image = |output: &str| output.lines().find(|line| line.starts_with("image ")).map(str::to_owned);
    assert_eq!(image(&first.stdout), image(&second.stdout));
    let is_instruction = |line: &&str| !line.contains("FROM") && !line.contains("exporting to image");
    let steps = second.stdout.lines().filter(|line| line.starts_with("step ")).filter(is_instruction);
    assert!(steps.clone().count() > 0 && steps.clone().all(|line| line.starts_with("step cached")), "{second:?}");
    // It does not know of credentials, and is not asked for any.
    context.write("Dockerfile", "FROM nobody/made:this\n");
    let refused = client(node, &context, flags).finish_within(Duration::from_secs(100)).fails();
    refused.complains(&["UNAVAILABLE", "nobody/made"]);
}

#[test]
fn a_python_client_builds_runs_and_reads_logs_over_sockets() {
    let node = Node::start(Transport::Unix, ALL);

    builds_runs_and_reads(&node, &[]);
}

#[test]
fn a_python_client_builds_runs_and_reads_logs_over_mutual_tls() {
    let node = Node::start(Transport::Tcp, ALL);
    let pair = node.authority.client(Valid::Now);
    std::fs::write(node.house.path("client.pem"), pair.certificate).unwrap();
    std::fs::write(node.house.path("client.key"), pair.key).unwrap();
    let files = ["ca.pem", "client.pem", "client.key"].map(|file| node.house.path(file).display().to_string());

    builds_runs_and_reads(&node, &[&["--tls".to_owned()], files.as_slice()].concat());
}
