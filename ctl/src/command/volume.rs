//! `ctl volume`: what outlives containers.

mod filter;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use strata_proto::runtime::v1 as pb;
use strata_rpc::chunks;
use tokio::io::AsyncRead;

use crate::args::{InspectKind, Volume, VolumeCreate, VolumeExport, VolumeImport, VolumeLs, VolumePrune, VolumeRm};
use crate::command::inspect;
use crate::command::prune::agrees;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render::list::{self, Row};
use crate::render::{self, size, time};
use crate::{input, receiving, sending, terminal};

/// Does what is asked for.
pub async fn run(platform: &Platform, args: &Volume) -> Result<u8> {
    match args {
        Volume::Create(args) => create(platform, args).await,
        Volume::Export(args) => export(platform, args).await,
        Volume::Import(args) => import(platform, args).await,
        Volume::Inspect(args) => {
            inspect::all(platform, Some(InspectKind::Volume), &args.names, args.format.as_ref(), &Default::default())
                .await
        }
        Volume::Ls(args) => ls(platform, args).await,
        Volume::Prune(args) => prune(platform, args).await,
        Volume::Rm(args) => rm(platform, args).await,
    }
}

async fn create(platform: &Platform, args: &VolumeCreate) -> Result<u8> {
    let option = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        pb::VolumeOption { name: name.to_owned(), value: value.to_owned() }
    };
    let request = pb::CreateVolumeRequest {
        name: args.name.clone().unwrap_or_default(),
        driver: args.driver.clone(),
        options: args.opt.iter().map(option).collect(),
        labels: input::labels(&[], &args.label)?,
    };
    let reply = platform.volumes().await?.create_volume(request).await?.into_inner();
    let volume = reply.volume.ok_or_else(|| super::incomplete("a volume"))?;
    render::line(volume.name)?;
    Ok(0)
}

/// A volume, by Docker's names.
pub async fn value(platform: &Platform, name: &str) -> Result<Value> {
    let request = pb::GetVolumeRequest { name: name.to_owned() };
    let reply = platform.volumes().await?.get_volume(request).await?.into_inner();
    Ok(of_volume(&reply.volume.ok_or_else(|| super::incomplete("a volume"))?))
}

/// Docker's names; what there is nothing of is null there.
fn of_volume(volume: &pb::Volume) -> Value {
    let created = volume.created_at.as_ref().and_then(time::timestamp);
    let options: serde_json::Map<_, _> =
        volume.options.iter().map(|option| (option.name.clone(), json!(option.value))).collect();
    let labels: serde_json::Map<_, _> = volume.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let or_null = |map: serde_json::Map<String, Value>| if map.is_empty() { Value::Null } else { Value::Object(map) };
    json!({
        "CreatedAt": created.map(|at| at.to_string()),
        "Driver": volume.driver,
        "Labels": or_null(labels),
        "Mountpoint": volume.host_path,
        "Name": volume.name,
        "Options": or_null(options),
        "Scope": "local",
    })
}

/// Every volume, by name.
pub async fn all(platform: &Platform, with_sizes: bool) -> Result<Vec<pb::Volume>> {
    let mut client = platform.volumes().await?;
    let (mut volumes, mut page_token) = (Vec::new(), String::new());
    loop {
        let page =
            client.list_volumes(pb::ListVolumesRequest { page_size: 1000, page_token, with_sizes }).await?.into_inner();
        volumes.extend(page.volumes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(volumes);
        }
    }
}

async fn ls(platform: &Platform, args: &VolumeLs) -> Result<u8> {
    let filter = filter::Filter::read(&args.filter)?;
    let mut volumes = all(platform, false).await?;
    volumes.retain(|volume| filter.takes(volume));
    if args.quiet {
        return volumes.iter().try_for_each(|volume| render::line(&volume.name)).map(|()| 0);
    }
    let row = |volume: &pb::Volume| {
        let fields = json!({
            "Driver": volume.driver,
            "Labels": volume.labels,
            "Links": volume.container_ids.len().to_string(),
            "Mountpoint": volume.host_path,
            "Name": volume.name,
            "Scope": "local",
            "Size": "N/A",
        });
        Row { cells: vec![volume.driver.clone(), volume.name.clone()], fields }
    };
    list::print(&args.format, &["DRIVER", "VOLUME NAME"], volumes.iter().map(row).collect())?;
    Ok(0)
}

async fn rm(platform: &Platform, args: &VolumeRm) -> Result<u8> {
    let client = platform.volumes().await?;
    super::each(&args.names, |name| {
        let mut client = client.clone();
        let allow_missing = args.force;
        async move {
            client.delete_volume(pb::DeleteVolumeRequest { name: name.clone(), allow_missing }).await?;
            Ok(name)
        }
    })
    .await
}

async fn prune(platform: &Platform, args: &VolumePrune) -> Result<u8> {
    let labels = filter::conditions(&args.filter)?;
    let which = if args.all { "all volumes" } else { "anonymous volumes" };
    let question =
        format!("WARNING! This will remove {which} that no container uses.\nAre you sure you want to continue? [y/N] ");
    if !args.force && !agrees(&question).await? {
        return Ok(0);
    }
    let bytes = pruned(platform, pb::PruneVolumesRequest { all: args.all, labels }).await?;
    render::line(format!("Total reclaimed space: {}", size::human(bytes)))?;
    Ok(0)
}

/// Prunes volumes, tells which, and returns the bytes that they had.
pub async fn pruned(platform: &Platform, request: pb::PruneVolumesRequest) -> Result<u64> {
    let pruned = platform.volumes().await?.prune_volumes(request).await?.into_inner();
    if !pruned.deleted.is_empty() {
        render::line(format!("Deleted Volumes:\n{}\n", pruned.deleted.join("\n")))?;
    }
    Ok(pruned.reclaimed_bytes)
}

async fn export(platform: &Platform, args: &VolumeExport) -> Result<u8> {
    if args.output.is_none() && terminal::is_output() {
        return Err(Error::usage("an archive is nothing to look at: standard output is a terminal")
            .hint("`ctl volume export VOLUME -o FILE` writes a file"));
    }
    let request = pb::ExportVolumeRequest { name: args.name.clone() };
    let chunks = platform.volumes().await?.export_volume(request).await?.into_inner();
    let archive = chunks::to_read(chunks.map(|message| message.map(|message| message.chunk)));
    receiving::archive(archive, args.output.clone()).await?;
    Ok(0)
}

async fn import(platform: &Platform, args: &VolumeImport) -> Result<u8> {
    let file = args.file.as_deref().filter(|file| *file != std::path::Path::new("-"));
    let shown = file.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let reader: std::pin::Pin<Box<dyn AsyncRead + Send>> = match file {
        None => Box::pin(tokio::io::stdin()),
        Some(path) => {
            let opened = tokio::fs::File::open(path).await;
            Box::pin(opened.map_err(|error| Error::new(format!("cannot open {shown}: {error}")))?)
        }
    };
    let message = |part| pb::ImportVolumeRequest { part: Some(part) };
    let header = pb::ImportVolumeHeader { name: args.name.clone(), replace: args.replace };
    let first = message(pb::import_volume_request::Part::Header(header));
    let wrap = move |chunk: Bytes| message(pb::import_volume_request::Part::Chunk(chunk));
    let (parts, failure) = sending::messages(chunks::from_async(reader), wrap);
    let requests = futures_util::stream::once(std::future::ready(first)).chain(parts);
    let mut client = platform.volumes().await?;
    let reply = tokio::select! {
        reply = client.import_volume(requests) => reply.map_err(|status| super::of_archive(file, status.into())),
        Ok(error) = failure => Err(Error::new(format!("cannot read {shown}: {error}"))),
    };
    let volume = reply?.into_inner().volume.ok_or_else(|| super::incomplete("a volume"))?;
    render::line(volume.name)?;
    Ok(0)
}
