//! `ctl tag`

use strata_proto::store::v1 as pb;

use crate::args::Tag;
use crate::error::Result;
use crate::platform::Platform;

/// Gives an image a further name.
pub async fn run(platform: &Platform, args: &Tag) -> Result<u8> {
    let request = pb::TagImageRequest { source: args.source.clone(), target: args.target.clone() };
    platform.images().await?.tag_image(request).await?;
    Ok(0)
}
