//! `ctl images`

mod tree;

use jiff::Timestamp;
use serde_json::json;
use strata_proto::store::v1 as pb;

use crate::args::{Format, Images};
use crate::error::Result;
use crate::platform::Platform;
use crate::render::{self, name, size, table, time};

/// Lists images, the newest first.
pub async fn run(platform: &Platform, args: &Images) -> Result<u8> {
    if args.tree {
        return tree::run(platform, args.reference.as_deref(), args.format, args.no_trunc).await;
    }
    let mut images = list(platform, args.reference.as_deref().unwrap_or_default()).await?;
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
            rows.push(Row {
                repository,
                tag,
                digest: digest.to_owned(),
                id: id(image),
                created: time::ago(created, now),
                created_at: created,
                bytes: image.size_bytes,
            });
        }
    }
    match args.format {
        Format::Json => rows.iter().try_for_each(|row| render::line(row.json()))?,
        Format::Table => {
            let mut head = vec!["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"];
            if !args.digests {
                head.remove(2);
            }
            let mut text = vec![head.into_iter().map(str::to_owned).collect()];
            text.extend(rows.into_iter().map(|row| row.cells(args.digests)));
            table::print(&text)?;
        }
    }
    Ok(0)
}

struct Row {
    repository: String,
    tag: String,
    digest: String,
    id: String,
    created: String,
    created_at: Option<Timestamp>,
    bytes: u64,
}

impl Row {
    fn cells(self, with_digest: bool) -> Vec<String> {
        let mut cells = vec![self.repository, self.tag, self.digest, self.id, self.created, size::human(self.bytes)];
        if !with_digest {
            cells.remove(2);
        }
        cells
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "Repository": self.repository,
            "Tag": self.tag,
            "Digest": self.digest,
            "ID": self.id,
            "CreatedSince": self.created,
            "CreatedAt": self.created_at.map(|at| at.to_string()),
            "Size": size::human(self.bytes),
        })
    }
}

/// Every image with a name that matches; an empty reference is all.
pub async fn list(platform: &Platform, reference: &str) -> Result<Vec<pb::Image>> {
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
    let request = pb::GetImageRequest { reference: reference.to_owned(), ..Default::default() };
    let reply = platform.images().await?.get_image(request).await?.into_inner();
    reply.image.ok_or_else(|| super::incomplete("an image"))
}
