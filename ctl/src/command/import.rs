//! `ctl import`

use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt;
use strata_proto::store::v1 as pb;
use strata_rpc::chunks;
use strata_types::{ImageConfig, Platform};
use tokio::io::AsyncRead;

use crate::args::Import;
use crate::error::{Error, Result};
use crate::platform::Platform as Services;
use crate::{change, render, sending};

/// Sends the archive and prints the image's id.
pub async fn run(platform: &Services, args: &Import) -> Result<u8> {
    let config_json = config(args)?;
    let reader = open(&args.file).await?;
    let header = pb::ImportImageHeader {
        name: args.name.clone().unwrap_or_default(),
        message: args.message.clone().unwrap_or_default(),
        config_json,
    };
    let header = pb::ImportImageRequest { part: Some(pb::import_image_request::Part::Header(header)) };
    let mut client = platform.images().await?;
    let (parts, failure) = sending::messages(chunks::from_async(reader), |chunk| pb::ImportImageRequest {
        part: Some(pb::import_image_request::Part::Chunk(chunk)),
    });
    let requests = futures_util::stream::once(std::future::ready(header)).chain(parts);
    let reply = tokio::select! {
        reply = client.import_image(requests) => {
            reply.map_err(|status| super::of_archive(Some(&args.file), status.into()))?.into_inner()
        }
        Ok(error) = failure => {
            return Err(Error::new(format!("cannot read {}: {error}", args.file.display())));
        }
    };
    let image = reply.image.ok_or_else(|| super::incomplete("an image"))?;
    render::line(image.id)?;
    Ok(0)
}

/// The config that the import starts from. Empty: the store's own.
fn config(args: &Import) -> Result<Bytes> {
    if args.platform.is_none() && args.change.is_empty() {
        return Ok(Bytes::new());
    }
    let parse = |text: &str| Platform::parse(text).map_err(|error| Error::usage(format!("--platform: {error}")));
    let mut config = ImageConfig::empty(&args.platform.as_deref().map_or(Ok(Platform::host()), parse)?);
    for instruction in &args.change {
        change::apply(&mut config.config, instruction)?;
    }
    serde_json::to_vec(&config).map(Bytes::from).map_err(|error| Error::of(&error))
}

async fn open(file: &Path) -> Result<Pin<Box<dyn AsyncRead + Send>>> {
    if file == Path::new("-") {
        return Ok(Box::pin(tokio::io::stdin()));
    }
    if let Some(url) = file.to_str().filter(|url| url.starts_with("http://") || url.starts_with("https://")) {
        let error = Error::usage(format!("{url}: an import reads a file or standard input, and fetches nothing"));
        return Err(error.hint(format!("`curl -fL {url} | ctl import - NAME` fetches it")));
    }
    let failed = |error| Error::new(format!("cannot open {}: {error}", file.display()));
    let opened = tokio::fs::File::open(file).await.map_err(failed)?;
    if opened.metadata().await.map_err(failed)?.is_dir() {
        let hint = format!("`tar -C {} -c . | ctl import - NAME` imports a directory", file.display());
        return Err(Error::new(format!("{} is a directory, not a tar", file.display())).hint(hint));
    }
    Ok(Box::pin(opened))
}
