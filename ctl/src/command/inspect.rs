//! `ctl inspect`: Docker's JSON of containers, images, networks and volumes, with the fields that have a meaning here.

mod container;
mod image;

use serde_json::Value;
use strata_proto::runtime::v1 as pb;
use strata_proto::types::v1::Platform as Target;
use strata_types::{ContainerConfig, ImageConfig};

use super::{images, network, ps, volume};
use crate::args::{Format, Inspect, InspectKind};
use crate::error::{Error, Result};
use crate::input;
use crate::platform::Platform;
use crate::render::list;
use crate::suggest;

/// What a name is looked for among, in Docker's order.
const KINDS: [InspectKind; 4] = [InspectKind::Container, InspectKind::Image, InspectKind::Network, InspectKind::Volume];

/// What is shown beside what things are.
#[derive(Debug, Clone, Default)]
pub struct With {
    /// How much containers have written.
    pub sizes: bool,
    /// Of images for several platforms which one.
    pub platform: Option<Target>,
}

/// Inspects what is of one kind, or of any.
pub async fn run(platform: &Platform, args: &Inspect) -> Result<u8> {
    let with = With { sizes: args.size, platform: args.platform.as_deref().map(input::platform).transpose()? };
    let kind = match (args.kind, &with.platform) {
        (None | Some(InspectKind::Image), Some(_)) => Some(InspectKind::Image),
        (Some(_), Some(_)) => return Err(Error::usage("conflicting options: --platform is for images")),
        (kind, None) => kind,
    };
    all(platform, kind, &args.names, args.format.as_ref(), &with).await
}

/// Prints one array; what is not found is told, and the rest shown.
pub async fn all(
    platform: &Platform,
    kind: Option<InspectKind>,
    names: &[String],
    format: Option<&Format>,
    with: &With,
) -> Result<u8> {
    let mut found = Vec::new();
    let mut code = 0;
    for name in names {
        let inspected = match kind {
            Some(kind) => of(platform, name, kind, with).await,
            None => any(platform, name, with).await,
        };
        match inspected {
            Ok(value) => found.push(value),
            Err(error) => {
                suggest::complete(error).await.print();
                code = 1;
            }
        }
    }
    list::inspected(format, found)?;
    Ok(code)
}

async fn any(platform: &Platform, name: &str, with: &With) -> Result<Value> {
    for kind in KINDS {
        match of(platform, name, kind, with).await {
            Err(error) if is_absent(&error) => {}
            other => return other,
        }
    }
    let error = Error::new(format!("there is no container, image, network or volume {name:?}"));
    Err(error.hint("`ctl ps -a`, `ctl images`, `ctl network ls` and `ctl volume ls` list what is there"))
}

/// It is not there; or it cannot be, as what such things are called goes.
fn is_absent(error: &Error) -> bool {
    error.reason.ends_with("_NOT_FOUND") || error.reason == "FAULT_INVALID_ARGUMENT"
}

/// How containers of an image run. The image may be gone while its container is there.
async fn of_image(platform: &Platform, id: &str) -> Option<ContainerConfig> {
    let image = images::get(platform, id).await.ok().filter(|_| !id.is_empty())?;
    serde_json::from_slice(&image.config_json).ok().map(|config: ImageConfig| config.config)
}

/// What there is to say of a thing of a kind, by Docker's names.
pub async fn of(platform: &Platform, name: &str, kind: InspectKind, with: &With) -> Result<Value> {
    match kind {
        InspectKind::Container => {
            let request = pb::GetContainerRequest { container: name.to_owned() };
            let reply = platform.containers().await?.all.get_container(request).await?.into_inner();
            let found = reply.container.ok_or_else(|| super::incomplete("a container"))?;
            let image = of_image(platform, &found.image_id).await;
            let mut value = container::value(&found, image.as_ref());
            if with.sizes
                && let Some((written, all)) = ps::Sizes::load(platform, std::slice::from_ref(&found)).await?.of(&found)
            {
                value["SizeRw"] = written.into();
                value["SizeRootFs"] = all.into();
            }
            Ok(value)
        }
        InspectKind::Image => {
            let found = images::get_on(platform, name, with.platform.clone()).await?;
            image::value(&found, image::digests(platform, &found).await?)
        }
        InspectKind::Network => network::inspect::value(platform, name).await,
        InspectKind::Volume => volume::value(platform, name).await,
    }
}
