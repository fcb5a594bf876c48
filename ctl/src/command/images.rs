//! `ctl images`

mod filter;
mod tree;

use jiff::Timestamp;
use serde_json::json;
use strata_proto::store::v1 as pb;
use strata_proto::types::v1::Platform as Target;

use crate::args::Images;
use crate::error::Result;
use crate::platform::Platform;
use crate::render::list::{self, Row};
use crate::render::{self, name, size, table, time};

use filter::Filter;

/// Lists images, the newest first.
pub async fn run(platform: &Platform, args: &Images) -> Result<u8> {
    let filter = Filter::read(platform, args).await?;
    if args.tree {
        return tree::run(platform, &filter, &args.format, args.no_trunc).await;
    }
    let mut images = filter.images(platform).await?;
    images.sort_by_key(|image| std::cmp::Reverse(image.created_at.as_ref().and_then(time::timestamp)));
    let id = |image: &pb::Image| match args.no_trunc {
        true => image.id.clone(),
        false => table::short_id(&image.id).to_owned(),
    };
    if args.quiet {
        // One line per name, as Docker prints them.
        let mut ids = images.iter().flat_map(|image| std::iter::repeat_n(id(image), image.names.len().max(1)));
        return ids.try_for_each(render::line).map(|()| 0);
    }
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for image in &images {
        let created = image.created_at.as_ref().and_then(time::timestamp);
        let names = match image.names.is_empty() {
            true => vec![("<none>".to_owned(), "<none>".to_owned())],
            false => image.names.iter().map(|full| name::repository_and_tag(full)).collect(),
        };
        for (repository, tag) in names {
            let digest = image.manifest.as_ref().map_or("<none>", |manifest| &manifest.digest);
            let (since, size) = (time::ago(created, now), size::human(image.size_bytes));
            let fields = json!({
                "Repository": repository,
                "Tag": tag,
                "Digest": digest,
                "ID": id(image),
                "CreatedSince": since,
                "CreatedAt": created.map(|at| at.to_string()),
                "Size": size,
            });
            let mut cells = vec![repository, tag, digest.to_owned(), id(image), since, size];
            if !args.digests {
                cells.remove(2);
            }
            rows.push(Row { cells, fields });
        }
    }
    let mut head = vec!["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"];
    if !args.digests {
        head.remove(2);
    }
    list::print(&args.format, &head, rows)?;
    Ok(0)
}

/// Every image with a name that matches; an empty reference is all.
pub async fn all(platform: &Platform, reference: &str) -> Result<Vec<pb::Image>> {
    let mut client = platform.images().await?;
    let (mut images, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListImagesRequest { page_size: 1000, page_token, reference: reference.to_owned() };
        let page = client.list_images(request).await?.into_inner();
        images.extend(page.images);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(images);
        }
    }
}

/// An image with its config and layers.
pub async fn get(platform: &Platform, reference: &str) -> Result<pb::Image> {
    get_on(platform, reference, None).await
}

/// As [`get`], of several platforms the one that is asked for.
pub async fn get_on(platform: &Platform, reference: &str, on: Option<Target>) -> Result<pb::Image> {
    let request = pb::GetImageRequest { reference: reference.to_owned(), platform: on, ..Default::default() };
    let reply = platform.images().await?.get_image(request).await?.into_inner();
    reply.image.ok_or_else(|| super::incomplete("an image"))
}
