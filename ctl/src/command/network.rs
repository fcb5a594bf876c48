//! `ctl network`

mod change;
mod create;
pub mod inspect;
mod ls;
mod wish;

use strata_proto::runtime::v1 as pb;

pub use change::pruned;
pub use inspect::{mode, settings};
pub use wish::{attachment, of_container};

use crate::args::{InspectKind, Network};
use crate::command::inspect::all as inspect_all;
use crate::error::Result;
use crate::platform::Platform;

/// Does what is asked with networks.
pub async fn run(platform: &Platform, command: &Network) -> Result<u8> {
    match command {
        Network::Connect(args) => change::connect(platform, args).await,
        Network::Create(args) => create::run(platform, args).await,
        Network::Disconnect(args) => change::disconnect(platform, args).await,
        Network::Inspect(args) => {
            inspect_all(platform, Some(InspectKind::Network), &args.networks, args.format.as_ref(), &Default::default())
                .await
        }
        Network::Ls(args) => ls::run(platform, args).await,
        Network::Prune(args) => change::prune(platform, args).await,
        Network::Rm(args) => change::rm(platform, args).await,
    }
}

/// Every network.
pub async fn list(platform: &Platform) -> Result<Vec<pb::Network>> {
    let mut client = platform.networks().await?;
    let (mut networks, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = client.list_networks(pb::ListNetworksRequest { page_size: 1000, page_token }).await?.into_inner();
        networks.extend(page.networks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(networks);
        }
    }
}

/// Docker's word for the driver.
pub fn driver(spec: &pb::NetworkSpec) -> &'static str {
    match spec.driver() {
        pb::NetworkDriver::Bridge => "bridge",
        pb::NetworkDriver::Macvlan => "macvlan",
        pb::NetworkDriver::Ipvlan => "ipvlan",
        pb::NetworkDriver::Unspecified => "unknown",
    }
}
