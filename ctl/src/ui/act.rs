//! Doing what the user asks for: calls to the services, and a shell.

use std::process::Stdio;
use std::sync::Arc;

use strata_proto::{runtime::v1 as runtime, store::v1 as store};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::mpsc::Sender;

use super::action::{Action, Verb};
use super::item::Tab;
use super::link::{Link, said};
use super::update::Update;
use crate::contexts;
use crate::error::{Error, Result};
use crate::explore::text::line;
use crate::platform::{Choice, Platform};
use crate::render::size;

/// Bytes that are read of what a command has to complain about.
const MOST_COMPLAINTS: u64 = 4 << 10;

/// Does it, and says what came of it.
pub async fn perform(link: Arc<Link>, action: Action, updates: Sender<Update>) {
    let platform = link.platform();
    let update = match call(&platform, &action).await {
        Ok(text) => Update::Done(text),
        Err(error) => Update::Failed(said(&error)),
    };
    // Nobody listens any more: the view is over.
    let _ = updates.send(update).await;
}

async fn call(platform: &Platform, action: &Action) -> Result<String> {
    let (verb, name) = (action.verb, &action.name);
    match (verb, action.tab) {
        (Verb::Remove, Tab::Images) => {
            let request = store::DeleteImageRequest { reference: action.target.clone(), ..Default::default() };
            let reply = platform.images().await?.delete_image(request).await?.into_inner();
            Ok(match reply.deleted.is_empty() {
                true => format!("Untagged {name}"),
                false => format!("Removed {name}"),
            })
        }
        (Verb::Remove, Tab::Volumes) => {
            let request = runtime::DeleteVolumeRequest { name: action.target.clone(), allow_missing: false };
            platform.volumes().await?.delete_volume(request).await?;
            Ok(format!("Removed {name}"))
        }
        (Verb::Remove, Tab::Networks) => {
            let request = runtime::DeleteNetworkRequest { network: action.target.clone(), allow_missing: false };
            platform.networks().await?.delete_network(request).await?;
            Ok(format!("Removed {name}"))
        }
        (Verb::Prune, tab) => prune(platform, tab).await,
        (verb, _) => of_container(platform, verb, action).await,
    }
}

async fn of_container(platform: &Platform, verb: Verb, action: &Action) -> Result<String> {
    let mut client = platform.containers().await?.all;
    let container = action.target.clone();
    let done = match verb {
        Verb::Start => {
            client.start_container(runtime::StartContainerRequest { container, terminal_size: None }).await?;
            "Started"
        }
        Verb::Stop => {
            let request = runtime::StopContainerRequest { container, timeout: None, signal: String::new() };
            client.stop_container(request).await?;
            "Stopped"
        }
        Verb::Restart => {
            let request = runtime::RestartContainerRequest { container, timeout: None, signal: String::new() };
            client.restart_container(request).await?;
            "Restarted"
        }
        Verb::Pause => {
            client.pause_container(runtime::PauseContainerRequest { container }).await?;
            "Paused"
        }
        Verb::Unpause => {
            client.unpause_container(runtime::UnpauseContainerRequest { container }).await?;
            "Unpaused"
        }
        Verb::Kill => {
            client.kill_container(runtime::KillContainerRequest { container, signal: String::new() }).await?;
            "Killed"
        }
        Verb::Remove | Verb::Prune => {
            let (force, allow_missing, volumes) = (action.force, false, false);
            let request = runtime::DeleteContainerRequest { container, force, allow_missing, volumes };
            client.delete_container(request).await?;
            "Removed"
        }
    };
    Ok(format!("{done} {}", action.name))
}

async fn prune(platform: &Platform, tab: Tab) -> Result<String> {
    let (count, bytes) = match tab {
        Tab::Containers => {
            let request = runtime::PruneContainersRequest::default();
            let deleted = platform.containers().await?.all.prune_containers(request).await?.into_inner().deleted;
            (deleted.len(), None)
        }
        Tab::Images => {
            let request = store::PruneRequest { images_only: true, ..Default::default() };
            let pruned = platform.store().await?.prune(request).await?.into_inner();
            (pruned.deleted_images.len(), Some(pruned.reclaimed_bytes))
        }
        Tab::Volumes => {
            let request = runtime::PruneVolumesRequest::default();
            let pruned = platform.volumes().await?.prune_volumes(request).await?.into_inner();
            (pruned.deleted.len(), Some(pruned.reclaimed_bytes))
        }
        Tab::Networks => {
            let request = runtime::PruneNetworksRequest::default();
            let deleted = platform.networks().await?.prune_networks(request).await?.into_inner().deleted;
            (deleted.len(), None)
        }
    };
    let space = bytes.map_or_else(String::new, |bytes| format!(", reclaimed space: {}", size::human(bytes)));
    Ok(format!("Removed {} {}{space}", count, tab.word()))
}

/// Runs a shell in a container on the terminal of this process, as `ctl exec -it NAME sh` does: a process of its own, for
/// only that one leaves no key half read behind. Returns what it complained about.
pub async fn shell(choice: &Choice, id: &str) -> Result<Option<String>> {
    let own = std::env::current_exe().map_err(|error| Error::new(format!("ctl cannot find itself: {error}")))?;
    let mut command = Command::new(own);
    if let Some(config) = contexts::chosen_directory() {
        command.arg("--config").arg(config);
    }
    if let Some(context) = &choice.context {
        command.arg("--context").arg(context);
    }
    if let Some(host) = &choice.host {
        command.arg("--host").arg(host);
    }
    command.args(["exec", "-it", id, "sh"]).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| Error::new(format!("cannot start ctl: {error}")))?;
    let mut complaints = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut few = stderr.take(MOST_COMPLAINTS);
        // What cannot be read is not complained about.
        let _ = few.read_to_end(&mut complaints).await;
        // Whatever else comes must not block the shell.
        let _ = tokio::io::copy(&mut few.into_inner(), &mut tokio::io::sink()).await;
    }
    child.wait().await.map_err(|error| Error::new(format!("the shell cannot be waited for: {error}")))?;
    let text = String::from_utf8_lossy(&complaints);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Ok((!lines.is_empty()).then(|| line(&lines.join(" "))))
}
