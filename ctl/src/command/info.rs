//! `ctl info`

use strata_proto::types::v1::ServiceInfo;
use strata_proto::{builder::v1 as builder, runtime::v1 as runtime, store::v1 as store};

use super::incomplete;
use crate::error::Result;
use crate::platform::Platform;
use crate::render;

/// What each service says of itself.
pub async fn services(platform: &Platform) -> Result<Vec<ServiceInfo>> {
    let store = async {
        let reply = platform.store().await?.get_info(store::GetInfoRequest {}).await?;
        reply.into_inner().info.ok_or_else(|| incomplete("its facts"))
    };
    let builder = async {
        let reply = platform.builder().await?.get_info(builder::GetInfoRequest {}).await?;
        reply.into_inner().info.ok_or_else(|| incomplete("its facts"))
    };
    let runtime = async {
        let reply = platform.runtime().await?.get_info(runtime::GetInfoRequest {}).await?;
        reply.into_inner().info.ok_or_else(|| incomplete("its facts"))
    };
    let (store, builder, runtime) = tokio::try_join!(store, builder, runtime)?;
    Ok(vec![store, builder, runtime])
}

/// Prints the facts of every service.
pub async fn run(platform: &Platform) -> Result<u8> {
    let mut text = format!("Context: {}\n", platform.name);
    for info in services(platform).await? {
        text.push_str(&format!("\n{} {}\n", info.name, info.version));
        text.push_str(&format!(" Root directory: {}\n Process: {}\n", info.root_path, info.pid));
        for fact in info.facts {
            text.push_str(&format!(" {}: {}\n", fact.label, fact.value));
        }
    }
    render::line(text.trim_end())?;
    Ok(0)
}
