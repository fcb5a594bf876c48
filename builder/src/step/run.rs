//! RUN: a container of the runtime in a snapshot of the store; what it wrote becomes the layer.

mod give;
mod mounts;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strata_dockerfile::{Instruction, Run, Script};
use tokio::sync::mpsc;

use super::{Keyed, family, through_cache};
use crate::devices::{self, Granted};
use crate::error::Error;
use crate::key::Key;
use crate::peers::{Identity, MountSource, Network, Outcome, Output, RunStep, StepMount, Ulimit};
use crate::progress::Running;
use crate::secret::{Secret, SecretEnv};
use crate::solve::{Build, StageWork};

/// Performs a RUN.
pub async fn perform(
    build: &Arc<Build>,
    work: &mut StageWork,
    instruction: &Instruction,
    run: &Run,
    running: &Running,
) -> Result<(), Error> {
    build.entitlements.check(&build.file, instruction)?;
    let devices = match devices::wants_any(instruction) {
        true => devices::grant(&build.file, run, &build.runtime.devices().await?, &build.entitlements)?,
        false => Granted::default(),
    };
    let network = network(build, run)?;
    let is_insecure = is_insecure(build, run)?;
    let mounts = mounts::read(build, work, run, running).await?;
    let (args, script) = command(work, run);
    let config = &work.draft.config.config;
    let created_by = history(&work.scope.declared(), &args);
    let mut env = work.scope.environment();
    if let Some(socket) =
        mounts.iter().find_map(mounts::Mount::socket).filter(|_| work.scope.get("SSH_AUTH_SOCK").is_none())
    {
        env.push(format!("SSH_AUTH_SOCK={socket}"));
    }
    let cwd = work.draft.working_directory();
    let operation = Key::operation("run")
        .list(&args)
        .list(&env)
        .part(&cwd)
        .part(&config.user)
        .part(network.name())
        .part(script.as_ref().map_or(&[][..], |(_, content)| content));
    let request = &build.request;
    let hostname = request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned().unwrap_or_default();
    let ulimit = |Ulimit { name, soft, hard }: &Ulimit| format!("{name} {soft} {hard}");
    let operation = operation
        .part([u8::from(is_insecure)])
        .part(&hostname)
        .list(request.extra_hosts.iter().map(|(name, address)| format!("{name} {address}")))
        .part(request.shm_size.to_le_bytes())
        .list(request.ulimits.iter().map(ulimit));
    let operation = mounts.iter().fold(operation, |key, mount| mount.add_to(key));
    // Their names, and not what the host has for them: it may have other drivers tomorrow.
    let operation = match devices.names.is_empty() {
        true => operation,
        false => operation.part("devices").list(&devices.names),
    };
    let operation = operation.finish();
    // Proxies reach the step, but neither its key nor the image; there may be a password in one.
    let mut secret_env = SecretEnv::default();
    for (name, value) in build.globals.proxies().filter(|(name, _)| work.scope.get(name).is_none()) {
        secret_env.push(&name, &value);
    }

    let step = RunStep {
        snapshot: format!("{}-{}", build.lease, build.serial.fetch_add(1, Ordering::Relaxed)),
        args,
        env,
        working_directory: cwd,
        user: config.user.clone(),
        network,
        hostname,
        extra_hosts: request.extra_hosts.clone(),
        shm_size: request.shm_size,
        ulimits: request.ulimits.clone(),
        limits: request.step_limits.clone(),
        is_insecure,
        mounts: script.into_iter().map(script_mount).collect(),
        devices: devices.names,
        secret_env,
    };
    let keyed = Keyed { operation, family: family(build, work, instruction), created_by, is_linked: false };
    through_cache(build, work, keyed, running, async |work, identity, _| {
        devices.absent.into_iter().for_each(|text| running.warn(text));
        let layers = build.files(&work.draft, running).await?;
        execute(build, &layers, instruction, (step, &mounts, identity), running).await
    })
    .await
}

/// A script to execute, as a file that is not in the layer.
fn script_mount((target, content): (String, Vec<u8>)) -> StepMount {
    let source = MountSource::Bytes { data: Secret::new(content), mode: 0o755, owner: (0, 0) };
    StepMount { target, is_read_only: true, source }
}

fn network(build: &Build, run: &Run) -> Result<Network, Error> {
    let Some(flag) = &run.network else { return Ok(build.request.network) };
    match flag.value.as_str() {
        "default" => Ok(build.request.network),
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        _ => Err(build.mistake(flag.value_span, "the network of a RUN is default, none or host")),
    }
}

fn is_insecure(build: &Build, run: &Run) -> Result<bool, Error> {
    match run.security.as_ref().map(|flag| (flag.value.as_str(), flag)) {
        None | Some(("sandbox", _)) => Ok(false),
        Some(("insecure", _)) => Ok(true),
        Some((_, flag)) => Err(build.mistake(flag.value_span, "the security of a RUN is sandbox or insecure")),
    }
}

/// What is executed, and the script that must be mounted for it.
fn command(work: &StageWork, run: &Run) -> (Vec<String>, Option<(String, Vec<u8>)>) {
    let in_shell = |text: String| {
        let mut args = work.draft.shell();
        args.push(text);
        args
    };
    match run.script() {
        Script::Exec(args) => (args, None),
        Script::Shell(text) => (in_shell(text), None),
        Script::File { name, content } => {
            let path = format!("/dev/pipes/{name}");
            (vec![path.clone()], Some((path, content.into_bytes())))
        }
    }
}

/// The history entry: `RUN |1 A=b /bin/sh -c make # buildkit`.
fn history(pairs: &[String], args: &[String]) -> String {
    let mut text = String::from("RUN ");
    if !pairs.is_empty() {
        text.push_str(&format!("|{} {} ", pairs.len(), pairs.join(" ")));
    }
    text.push_str(&args.join(" "));
    text.push_str(" # buildkit");
    text
}

async fn execute(
    build: &Arc<Build>,
    layers: &[String],
    instruction: &Instruction,
    (mut step, mounts, identity): (RunStep, &[mounts::Mount], &Identity),
    running: &Running,
) -> Result<Outcome, Error> {
    let key = step.snapshot.clone();
    let mut borrowed = give::Borrowed::default();
    let result = async {
        give::mounts(build, mounts, &mut step, &mut borrowed).await?;
        build.store.prepare(&key, layers, &build.lease).await?;
        run_and_commit(build, instruction, (step, identity), running).await
    };
    let result = result.await;
    let given_back = borrowed.give_back(build).await;
    let result = result.and_then(|outcome| given_back.map(|()| outcome));
    if result.is_err() {
        // The lease would end it too; the first error is the one to report.
        let _ = build.store.remove_snapshot(&key).await;
    }
    result
}

async fn run_and_commit(
    build: &Arc<Build>,
    instruction: &Instruction,
    (step, identity): (RunStep, &Identity),
    running: &Running,
) -> Result<Outcome, Error> {
    let key = step.snapshot.clone();
    let command = step.args.join(" ");
    let (sender, mut output) = mpsc::channel::<Output>(64);
    let tell = async {
        while let Some(Output { is_stderr, chunk }) = output.recv().await {
            running.output(is_stderr, chunk);
        }
    };
    let (finished, ()) = tokio::join!(build.runtime.run(step, sender), tell);
    let finished = match finished {
        Ok(finished) => finished,
        Err(error) => {
            let Some((exit_code, why)) = error.not_started() else { return Err(error) };
            let text = format!("{why}: exit code {exit_code}");
            return Err(Error::Step { exit_code, diagnostic: build.at(instruction.name_span, text) });
        }
    };
    match finished.code {
        Some(0) => build.store.commit(&key, finished.stubs, identity, &build.lease).await,
        code => {
            let text = match code {
                // BuildKit's words: programs look for them.
                Some(code) => format!("process {command:?} did not complete successfully: exit code: {code}"),
                None => format!("process {command:?} ended, and its exit code is not known"),
            };
            Err(Error::Step { exit_code: code.unwrap_or(255), diagnostic: build.at(instruction.name_span, text) })
        }
    }
}
