//! `ctl run`: create, attach and start in one go; or create and start, and leave. `ctl create` creates, and leaves.

use std::time::Duration;

use rustix::rand::GetRandomFlags;
use strata_proto::runtime::v1 as pb;
use strata_rpc::fault::is_lost;
use strata_types::ContainerId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::{Create, PullWhen, Run};
use crate::command::pull::{self, Until, Wish};
use crate::command::{network, port};
use crate::error::{Error, Result};
use crate::input;
use crate::mounts;
use crate::platform::{Containers, Platform};
use crate::render;
use crate::streams::{self, Event, Signals, Wires};
use crate::terminal;

/// Runs a container.
pub async fn run(platform: &Platform, args: &Run) -> Result<u8> {
    let Run { detach, container: args } = args;
    let spec = spec(args)?;
    if !detach {
        streams::check_terminal(args.interactive, args.tty)?;
    }
    if args.pull == PullWhen::Always {
        interruptible(fetch(platform, args)).await?;
    }
    let mut containers = platform.containers().await?;
    let signals = if *detach { None } else { Some(Signals::register()?) };
    // Chosen here: whose answer is lost knows its container all the same.
    let id = new_id()?;
    let result = create_and_start(platform, &mut containers, &id, spec, args, signals).await;
    if let (Err(error), true) = (&result, args.rm) {
        // What could not be started is not left behind. A container that runs is left alone, but for one whose output
        // nobody reads: nothing would ever be seen of it again. The first error is the one to tell.
        remove(platform, id, error.code == render::NOBODY_READS).await;
    }
    result
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
    make(platform, &mut containers, &id, spec, args).await?;
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
    signals: Option<Signals>,
) -> Result<u8> {
    make(platform, containers, id, spec, args).await?;
    match signals {
        None => start(containers, id).await,
        Some(signals) => {
            let wires = Wires { stdin: args.interactive, terminal: args.tty };
            attach(containers, id.to_owned(), wires, signals).await
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

/// Attaches to a container and starts it; ends with its exit code.
pub async fn attach(containers: &mut Containers, id: String, wires: Wires, signals: Signals) -> Result<u8> {
    let (sender, receiver) = mpsc::channel(16);
    let size = if wires.terminal { terminal::size() } else { None };
    let start = pb::AttachStart {
        container: id,
        has_stdin: wires.stdin,
        start_container: true,
        terminal_size: size.map(|(columns, rows)| pb::TerminalSize { columns, rows }),
    };
    // The channel has room for the first message.
    let _ = sender.try_send(pb::AttachRequest { event: Some(pb::attach_request::Event::Start(start)) });
    let events = containers.streams.attach(ReceiverStream::new(receiver)).await?.into_inner();
    let read = |reply: pb::AttachResponse| match reply.event? {
        pb::attach_response::Event::Started(_) => Some(Event::Started),
        pb::attach_response::Event::Output(output) => Some(Event::Output(output)),
        pb::attach_response::Event::Exited(exit) => Some(Event::Exited(exit)),
    };
    let wrap =
        |event| pb::AttachRequest { event: Some(pb::attach_request::Event::Input(pb::Input { event: Some(event) })) };
    streams::converse(events, read, sender, wrap, wires, signals).await
}

fn spec(args: &Create) -> Result<pb::ContainerSpec> {
    let pids = match args.pids_limit {
        None | Some(0 | -1) => None,
        Some(limit) => Some(u64::try_from(limit).map_err(|_| Error::usage(format!("invalid --pids-limit {limit}")))?),
    };
    let limits = pb::Limits {
        memory_bytes: args.memory.as_deref().map(|text| input::bytes("--memory", text)).transpose()?,
        nano_cpus: args.cpus.as_deref().map(input::nano_cpus).transpose()?,
        pids,
    };
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
        shm_size_bytes: args.shm_size.as_deref().map_or(Ok(0), |text| input::bytes("--shm-size", text))?,
        writable_size_bytes: input::storage(&args.storage_opt)?,
        is_root_read_only: args.read_only,
        limits: Some(limits),
        cap_add: args.cap_add.clone(),
        cap_drop: args.cap_drop.clone(),
        is_privileged: args.privileged,
        auto_remove: args.rm,
        labels: input::labels(&args.label)?,
        stop_signal: String::new(),
        is_volatile: args.rm,
        has_no_log: false,
        platform: args.platform.as_deref().map(input::platform).transpose()?,
        cdi_devices: args.device.iter().map(|text| input::device(text)).collect::<Result<_>>()?,
        ..pb::ContainerSpec::default()
    };
    network::of_container(&args.network, &mut spec)?;
    port::of_container(&args.ports, &mut spec)?;
    Ok(spec)
}
