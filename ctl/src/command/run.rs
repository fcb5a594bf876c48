//! `ctl run`: create, attach and start in one go; or create and start, and leave.

use strata_proto::runtime::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::{Network, Run};
use crate::error::{Error, Result};
use crate::input;
use crate::platform::{Containers, Platform};
use crate::render;
use crate::streams::{self, Event, Signals, Wires};
use crate::terminal;

/// Runs a container.
pub async fn run(platform: &Platform, args: &Run) -> Result<u8> {
    let spec = spec(args)?;
    if !args.detach {
        streams::check_terminal(args.interactive, args.tty)?;
    }
    let mut containers = platform.containers().await?;
    let signals = if args.detach { None } else { Some(Signals::register()?) };
    let request = pb::CreateContainerRequest { id: String::new(), spec: Some(spec) };
    let reply = containers.all.create_container(request).await?.into_inner();
    let container = reply.container.ok_or_else(|| super::incomplete("a container"))?;
    for warning in &reply.warnings {
        render::note(format!("warning: {warning}"));
    }
    let result = match signals {
        None => start(&mut containers, &container.id).await,
        Some(signals) => {
            let wires = Wires { stdin: args.interactive, terminal: args.tty };
            attach(&mut containers, container.id.clone(), wires, signals).await
        }
    };
    if let (Err(error), true) = (&result, args.rm) {
        // What could not be started is not left behind, even if its runtime went away: hence new clients. A container
        // that runs is left alone, but for one whose output nobody reads: nothing would ever be seen of it again.
        // The first error is the one to tell.
        let force = error.code == render::NOBODY_READS;
        let request = pb::DeleteContainerRequest { container: container.id, force, allow_missing: true };
        if let Ok(mut containers) = platform.containers().await {
            let _ = containers.all.delete_container(request).await;
        }
    }
    result
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

fn spec(args: &Run) -> Result<pb::ContainerSpec> {
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
    Ok(pb::ContainerSpec {
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
        network: match args.network {
            Network::Host => pb::NetworkMode::Host.into(),
            Network::None => pb::NetworkMode::None.into(),
        },
        mounts: args.volume.iter().map(|text| input::volume(text)).collect::<Result<_>>()?,
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
    })
}
