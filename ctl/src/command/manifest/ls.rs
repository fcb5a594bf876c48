//! `ctl manifest ls`

use serde_json::json;
use strata_proto::store::v1 as pb;
use strata_proto::types::v1 as types;

use crate::args::ManifestLs;
use crate::error::Result;
use crate::platform::Platform;
use crate::render::list::{self, Row};
use crate::render::{self, name};

/// Lists the lists that were made here.
pub async fn run(platform: &Platform, args: &ManifestLs) -> Result<u8> {
    let indexes = indexes(platform).await?;
    if args.quiet {
        return indexes.iter().try_for_each(|index| render::line(name::familiar(&index.name))).map(|()| 0);
    }
    let digest =
        |index: &pb::NamedIndex| index.descriptor.as_ref().map_or("", |found| found.digest.as_str()).to_owned();
    let platforms = |index: &pb::NamedIndex| index.platforms.iter().map(platform_text).collect::<Vec<_>>();
    let row = |index: &pb::NamedIndex| {
        let (name, digest, platforms) = (name::familiar(&index.name), digest(index), platforms(index));
        let fields = json!({ "Name": name, "Digest": digest, "Platforms": platforms });
        Row { cells: vec![name, digest, platforms.join(", ")], fields }
    };
    list::print(&args.format, &["NAME", "DIGEST", "PLATFORMS"], indexes.iter().map(row).collect())?;
    Ok(0)
}

fn platform_text(platform: &types::Platform) -> String {
    let types::Platform { os, architecture, variant } = platform;
    let slash = if variant.is_empty() { "" } else { "/" };
    format!("{os}/{architecture}{slash}{variant}")
}

async fn indexes(platform: &Platform) -> Result<Vec<pb::NamedIndex>> {
    let mut client = platform.manifests().await?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = client.list_indexes(pb::ListIndexesRequest { page_size: 1000, page_token }).await?.into_inner();
        all.extend(page.indexes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}
