//! `ctl run`: create, attach and start in one go; or create and start, and leave. `ctl create` creates, and leaves.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::rand::GetRandomFlags;
use strata_proto::runtime::v1 as pb;
use strata_rpc::fault::is_lost;
use strata_types::ContainerId;

use crate::args::{Create, PullWhen, Run, StreamName};
use crate::command::attach::{self, Start};
use crate::command::pull::{self, Until, Wish};
use crate::command::{fixed, health, isolation, life, logs, network, port, secret, update};
use crate::error::{Error, Result};
use crate::input;
use crate::mounts;
use crate::platform::{Containers, Platform};
use crate::render;
use crate::streams::{self, Keys, Signals, Wires};

/// Runs a container, and waits until it is well if that is wanted.
pub async fn run(platform: &Platform, run: &Run) -> Result<u8> {
    // Chosen here: whose answer is lost knows its container all the same.
    let id = new_id()?;
    let code = started(platform, run, &id).await.map_err(Error::in_run)?;
    match run.wait {
        // It runs, or ran: that it is not well is no failure of ours.
        Some(limit) => wait_until_healthy(platform, &id, limit).await,
        None => Ok(code),
    }
}

/// Makes a container and starts it. Its exit code, if it is connected.
async fn started(platform: &Platform, run: &Run, id: &str) -> Result<u8> {
    let args = &run.container;
    let spec = spec(args)?;
    let wires = wires(run, id)?;
    if run.wait.is_some() && !run.detach {
        return Err(Error::usage("--wait is for a container in the background: -d"));
    }
    if let Some(wires) = &wires {
        streams::check_terminal(wires.stdin, wires.terminal)?;
    }
    if args.pull == PullWhen::Always {
        interruptible(fetch(platform, args)).await?;
    }
    let mut containers = platform.containers().await?;
    let attached = wires.map(|wires| Ok::<_, Error>((wires, Signals::register()?))).transpose()?;
    let result = create_and_start(platform, &mut containers, id, spec, args, attached).await;
    if let (Err(error), true) = (&result, args.rm) {
        // What could not be started is not left behind. A container that runs is left alone, but for one whose output
        // nobody reads: nothing would ever be seen of it again. The first error is the one to tell.
        remove(platform, id.to_owned(), error.code == render::NOBODY_READS).await;
    }
    result
}

/// Waits until a container that was started is well, or is done with at once where nobody checks it.
async fn wait_until_healthy(platform: &Platform, id: &str, limit: Option<Duration>) -> Result<u8> {
    let mut containers = platform.containers().await?;
    let request = pb::GetContainerRequest { container: id.to_owned() };
    let found = containers.all.get_container(request).await?.into_inner().container;
    let found = found.ok_or_else(|| super::incomplete("a container"))?;
    if found.health.is_none() && super::ps::is_up(&found) {
        return Ok(0);
    }
    let condition = pb::WaitCondition::Healthy.into();
    let healthy = containers.all.wait_container(pb::WaitContainerRequest { container: id.to_owned(), condition });
    let waited = match limit {
        None => healthy.await,
        Some(limit) => tokio::time::timeout(limit, healthy).await.map_err(|_| {
            let error = Error::new(format!("container {} is not healthy after {limit:?}", found.name));
            error.hint(format!("it goes on running: `ctl inspect {}` shows what its check said", found.name))
        })?,
    };
    waited.map_err(|status| Error::from(status).hint(format!("`ctl logs {}` shows what it said", found.name)))?;
    Ok(0)
}

/// What of a container is connected; nothing, if it runs in the background. All of it, unless some is named.
fn wires(run: &Run, id: &str) -> Result<Option<Wires>> {
    let Create { attach, interactive, tty, .. } = &run.container;
    if run.detach {
        return match attach.is_empty() {
            true => Ok(None),
            false => Err(Error::usage("conflicting options: -a and -d")),
        };
    }
    let has = |stream| attach.is_empty() || attach.contains(&stream);
    let (stdout, stderr) = (has(StreamName::Stdout), has(StreamName::Stderr));
    Ok(Some(Wires {
        stdin: *interactive && has(StreamName::Stdin),
        stdout,
        stderr,
        terminal: *tty,
        signals: run.attaching.sig_proxy,
        keys: Keys::of_user(run.attaching.keys.detach_keys.as_deref())?,
        // Nothing else would be printed.
        announces: (!stdout && !stderr).then(|| id.to_owned()),
        again: None,
    }))
}

/// Ctrl-C ends a pull, though signals are the container's once there is one.
async fn interruptible(pull: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        result = pull => result,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => Err(Error::silent(130)),
            Err(error) => Err(Error::of(&error)),
        },
    }
}

/// Creates a container, and prints its id.
pub async fn create(platform: &Platform, args: &Create) -> Result<u8> {
    let spec = spec(args)?;
    if args.pull == PullWhen::Always {
        fetch(platform, args).await?;
    }
    let mut containers = platform.containers().await?;
    let id = new_id()?;
    let file = args.cidfile.as_deref().map(IdFile::reserve).transpose()?;
    make(platform, &mut containers, &id, spec, args).await?;
    file.map_or(Ok(()), |file| file.keep(&id))?;
    render::line(id)?;
    Ok(0)
}

/// Pulls the image.
async fn fetch(platform: &Platform, args: &Create) -> Result<()> {
    let wish = Wish { platform: args.platform.as_deref().map(input::platform).transpose()?, all: false };
    // Any other container shall survive what its image would not.
    let until = if args.rm { Until::Usable } else { Until::Completed };
    pull::before_run(platform, args.image(), &wish, args.pull, until, args.quiet).await
}

/// Makes the container; pulls its image first where it is missing and may be pulled.
async fn make(
    platform: &Platform,
    containers: &mut Containers,
    id: &str,
    spec: pb::ContainerSpec,
    args: &Create,
) -> Result<()> {
    let request = pb::CreateContainerRequest { id: id.to_owned(), spec: Some(spec) };
    let reply = match containers.all.create_container(request.clone()).await {
        Ok(reply) => reply,
        Err(status) => {
            let error = Error::from(status);
            let is_missing = ["FAULT_IMAGE_NOT_FOUND", "FAULT_PLATFORM_NOT_FOUND"].contains(&error.reason.as_str());
            // An image that is only mounted is not pulled, as Docker does not.
            let is_other = !error.image().is_empty() && error.image() != args.image();
            if args.pull != PullWhen::Missing || !is_missing || is_other {
                return Err(error);
            }
            interruptible(fetch(platform, args)).await.map_err(|pull| match error.reason.as_str() {
                // What is here says more than that a registry has nothing else.
                "FAULT_PLATFORM_NOT_FOUND" if !pull.message.is_empty() => {
                    error.hint(format!("nor can it be pulled: {}", pull.message))
                }
                _ => pull,
            })?;
            containers.all.create_container(request).await?
        }
    };
    for warning in &reply.into_inner().warnings {
        render::note(format!("warning: {warning}"));
    }
    Ok(())
}

async fn create_and_start(
    platform: &Platform,
    containers: &mut Containers,
    id: &str,
    spec: pb::ContainerSpec,
    args: &Create,
    attached: Option<(Wires, Signals)>,
) -> Result<u8> {
    let file = args.cidfile.as_deref().map(IdFile::reserve).transpose()?;
    make(platform, containers, id, spec, args).await?;
    file.map_or(Ok(()), |file| file.keep(id))?;
    match attached {
        None => start(containers, id).await,
        Some((wires, signals)) => attach::follow(containers, id.to_owned(), wires, signals, Start::Yes).await,
    }
}

/// The file that a container's id goes to: it is ours before there is a container, and goes if there will be none.
struct IdFile<'a> {
    path: &'a Path,
    file: Option<File>,
}

impl<'a> IdFile<'a> {
    fn reserve(path: &'a Path) -> Result<Self> {
        match File::create_new(path) {
            Ok(file) => Ok(Self { path, file: Some(file) }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let problem =
                    format!("--cidfile {} is there already: a container may be running by it", path.display());
                Err(Error::usage(problem).hint("remove the file, or choose another"))
            }
            Err(error) => Err(Self::failed(path, &error)),
        }
    }

    /// Writes the id of the container made.
    fn keep(mut self, id: &str) -> Result<()> {
        let file = self.file.take();
        file.map_or(Ok(()), |mut file| file.write_all(id.as_bytes())).map_err(|error| Self::failed(self.path, &error))
    }

    fn failed(path: &Path, error: &std::io::Error) -> Error {
        Error::usage(format!("cannot write --cidfile {}: {error}", path.display()))
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            // It is as good as empty.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

/// Removes a container as well as can be: a runtime that went away is reached, or started, anew, a few times.
async fn remove(platform: &Platform, id: String, force: bool) {
    let request = pb::DeleteContainerRequest { container: id, force, allow_missing: true, volumes: true };
    for wait in [50, 200, 800, 0] {
        if let Ok(mut containers) = platform.containers().await {
            let removed = containers.all.delete_container(request.clone()).await;
            if !removed.is_err_and(|status| is_lost(&status)) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
}

fn new_id() -> Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|error| Error::of(&error))?;
    Ok(ContainerId::from_bytes(bytes).to_string())
}

async fn start(containers: &mut Containers, id: &str) -> Result<u8> {
    let request = pb::StartContainerRequest { container: id.to_owned(), terminal_size: None };
    containers.all.start_container(request).await?;
    render::line(id)?;
    Ok(0)
}

fn spec(args: &Create) -> Result<pb::ContainerSpec> {
    // An entry point of "" is none.
    let entry_point = args
        .entrypoint
        .as_ref()
        .map(|program| pb::EntryPoint { args: if program.is_empty() { Vec::new() } else { vec![program.clone()] } });
    let mut spec = pb::ContainerSpec {
        name: args.name.clone().unwrap_or_default(),
        root: Some(pb::container_spec::Root::Image(args.image().to_owned())),
        command: args.command().to_vec(),
        entry_point,
        env: input::environment(&args.env_file, &args.env)?,
        working_directory: args.workdir.as_deref().map(input::directory).transpose()?.unwrap_or_default(),
        user: args.user.clone().unwrap_or_default(),
        has_terminal: args.tty,
        has_stdin: args.interactive,
        hostname: args.hostname.clone().unwrap_or_default(),
        mounts: mounts::mounts(&args.mounts)?,
        volumes_from: mounts::volumes_from(&args.volumes_from)?,
        secrets: secret::of_container(&args.secret)?,
        shm_size_bytes: args.shm_size.as_deref().map_or(Ok(0), |text| input::bytes("--shm-size", text))?,
        writable_size_bytes: input::storage(&args.storage_opt)?,
        is_root_read_only: args.read_only,
        limits: Some(update::limits(&args.limits)?),
        cap_add: args.cap_add.clone(),
        cap_drop: args.cap_drop.clone(),
        is_privileged: args.privileged,
        auto_remove: args.rm,
        labels: input::labels(&args.label_file, &args.label)?,
        annotations: input::annotations(&args.annotation)?,
        stop_signal: args.stop_signal.clone().unwrap_or_default(),
        stop_timeout_seconds: args.stop_timeout,
        is_volatile: args.rm,
        has_no_log: false,
        platform: args.platform.as_deref().map(input::platform).transpose()?,
        ..pb::ContainerSpec::default()
    };
    health::of_container(&args.health, &mut spec)?;
    life::of_container(args, &mut spec)?;
    network::of_container(&args.network, &mut spec)?;
    port::of_container(&args.ports, &mut spec)?;
    fixed::of_container(&args.fixed_limits, &mut spec)?;
    isolation::of_container(&args.isolation, &mut spec)?;
    logs::of_container(&args.log, &mut spec)?;
    Ok(spec)
}
