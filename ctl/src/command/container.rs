//! `ctl container mount` and `unmount`

use strata_proto::runtime::v1 as pb;

use crate::args::{ContainerMount, ContainerUnmount};
use crate::error::{Error, Result};
use crate::mounts;
use crate::platform::Platform;

/// Mounts one after the other; those before one that fails stay.
pub async fn mount(platform: &Platform, args: &ContainerMount) -> Result<u8> {
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

/// Takes mounts away and prints what was asked for.
pub async fn unmount(platform: &Platform, args: &ContainerUnmount) -> Result<u8> {
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
