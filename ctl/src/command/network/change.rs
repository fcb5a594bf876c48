//! `ctl network connect`, `disconnect`, `rm`, `prune`

use strata_proto::runtime::v1 as pb;

use super::super::{each, prune};
use crate::args::{NetworkConnect, NetworkDisconnect, NetworkPrune, NetworkRm};
use crate::error::Result;
use crate::platform::Platform;
use crate::render;

/// Connects a container.
pub async fn connect(platform: &Platform, args: &NetworkConnect) -> Result<u8> {
    let attachment = Some(super::attachment(args));
    let request = pb::ConnectContainerRequest { container: args.container.clone(), attachment };
    platform.networks().await?.connect_container(request).await?;
    Ok(0)
}

/// Disconnects a container.
pub async fn disconnect(platform: &Platform, args: &NetworkDisconnect) -> Result<u8> {
    let request = pb::DisconnectContainerRequest {
        container: args.container.clone(),
        network: args.network.clone(),
        force: args.force,
    };
    platform.networks().await?.disconnect_container(request).await?;
    Ok(0)
}

/// Removes networks and prints what was asked for.
pub async fn rm(platform: &Platform, args: &NetworkRm) -> Result<u8> {
    let client = platform.networks().await?;
    each(&args.networks, |name| {
        let mut client = client.clone();
        async move {
            let request = pb::DeleteNetworkRequest { network: name.clone(), allow_missing: args.force };
            client.delete_network(request).await?;
            Ok(name)
        }
    })
    .await
}

/// Removes networks that no container uses.
pub async fn prune(platform: &Platform, args: &NetworkPrune) -> Result<u8> {
    let filter = prune::Filter::read(&args.filter)?;
    let question = "WARNING! This will remove all networks that no container uses.\n\
                    Are you sure you want to continue? [y/N] ";
    if !args.force && !prune::agrees(question).await? {
        return Ok(0);
    }
    pruned(platform, filter).await.map(|()| 0)
}

/// Removes networks that no container uses, and tells which.
pub async fn pruned(platform: &Platform, filter: prune::Filter) -> Result<()> {
    let request = pb::PruneNetworksRequest { before: filter.before, labels: filter.labels };
    let deleted = platform.networks().await?.prune_networks(request).await?.into_inner().deleted;
    if !deleted.is_empty() {
        render::line(format!("Deleted Networks:\n{}\n", deleted.join("\n")))?;
    }
    Ok(())
}
