//! `ctl import`

use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt;
use strata_proto::store::v1 as pb;
use strata_rpc::chunks;
use tokio::io::AsyncRead;

use crate::args::Import;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render;
use crate::sending;

/// Sends the archive and prints the image's id.
pub async fn run(platform: &Platform, args: &Import) -> Result<u8> {
    let reader = open(&args.file).await?;
    let header = pb::ImportImageHeader {
        name: args.name.clone().unwrap_or_default(),
        message: args.message.clone().unwrap_or_default(),
        config_json: Bytes::new(),
    };
    let header = pb::ImportImageRequest { part: Some(pb::import_image_request::Part::Header(header)) };
    let mut client = platform.images().await?;
    let (parts, failure) = sending::messages(chunks::from_async(reader), |chunk| pb::ImportImageRequest {
        part: Some(pb::import_image_request::Part::Chunk(chunk)),
    });
    let requests = futures_util::stream::once(std::future::ready(header)).chain(parts);
    let reply = tokio::select! {
        reply = client.import_image(requests) => reply?.into_inner(),
        Ok(error) = failure => {
            return Err(Error::new(format!("cannot read {}: {error}", args.file.display())));
        }
    };
    let image = reply.image.ok_or_else(|| super::incomplete("an image"))?;
    render::line(image.id)?;
    Ok(0)
}

async fn open(file: &Path) -> Result<Pin<Box<dyn AsyncRead + Send>>> {
    if file == Path::new("-") {
        return Ok(Box::pin(tokio::io::stdin()));
    }
    let failed = |error| Error::new(format!("cannot open {}: {error}", file.display()));
    let opened = tokio::fs::File::open(file).await.map_err(failed)?;
    if opened.metadata().await.map_err(failed)?.is_dir() {
        let hint = format!("`tar -C {} -c . | ctl import - NAME` imports a directory", file.display());
        return Err(Error::new(format!("{} is a directory, not a tar", file.display())).hint(hint));
    }
    Ok(Box::pin(opened))
}
