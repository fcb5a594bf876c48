//! `ctl container`: what has no name of its own at the top.

use strata_proto::runtime::v1 as pb;

use super::{port, prune};
use crate::args::{Container, ContainerMount, ContainerPrune, ContainerUnmount};
use crate::error::{Error, Result};
use crate::mounts;
use crate::platform::Platform;
use crate::render;

/// Does what is asked with a container.
pub async fn run(platform: &Platform, command: &Container) -> Result<u8> {
    match command {
        Container::Mount(args) => mount(platform, args).await,
        Container::Prune(args) => prune_stopped(platform, args).await,
        Container::Publish(args) => port::publish(platform, args).await,
        Container::Unmount(args) => unmount(platform, args).await,
        Container::Unpublish(args) => port::unpublish(platform, args).await,
        // These are commands of the top.
        other => Err(Error::new(format!("no such command: {other:?}"))),
    }
}

/// Mounts one after the other; those before one that fails stay.
async fn mount(platform: &Platform, args: &ContainerMount) -> Result<u8> {
    let wanted = mounts::mounts(&args.mounts)?;
    if wanted.is_empty() {
        let error = Error::usage("nothing to mount: one of -v, --mount and --tmpfs is needed");
        return Err(error.hint("ctl container mount --mount type=bind,source=/src,target=/src CONTAINER"));
    }
    let mut client = platform.containers().await?.all;
    for mount in wanted {
        let request = pb::MountInContainerRequest { container: args.container.clone(), mount: Some(mount) };
        client.mount_in_container(request).await?;
    }
    Ok(0)
}

async fn unmount(platform: &Platform, args: &ContainerUnmount) -> Result<u8> {
    let containers = platform.containers().await?;
    super::each(&args.targets, |target| {
        let (mut client, container) = (containers.all.clone(), args.container.clone());
        async move {
            let request = pb::UnmountInContainerRequest { container, target: target.clone() };
            client.unmount_in_container(request).await?;
            Ok(target)
        }
    })
    .await
}

async fn prune_stopped(platform: &Platform, args: &ContainerPrune) -> Result<u8> {
    let question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ";
    if !args.force && !prune::agrees(question).await? {
        return Ok(0);
    }
    let mut client = platform.containers().await?.all;
    let deleted = client.prune_containers(pb::PruneContainersRequest {}).await?.into_inner().deleted;
    if !deleted.is_empty() {
        render::line(format!("Deleted Containers:\n{}\n", deleted.join("\n")))?;
    }
    Ok(0)
}
