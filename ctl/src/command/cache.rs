//! `ctl builder cache`: what RUN --mount=type=cache keeps.

use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::json;
use strata_proto::store::v1 as pb;
use strata_rpc::chunks;
use tokio::io::AsyncRead;

use crate::args::{CacheExport, CacheImport, CacheLs, CacheMounts, CacheRm, Format};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render::{self, list, size, table, time};
use crate::{receiving, sending, terminal};

/// Does what is asked for.
pub async fn run(platform: &Platform, args: &CacheMounts) -> Result<u8> {
    match args {
        CacheMounts::Ls(args) => ls(platform, args).await,
        CacheMounts::Export(args) => export(platform, args).await,
        CacheMounts::Import(args) => import(platform, args).await,
        CacheMounts::Rm(args) => rm(platform, args).await,
    }
}

async fn all(platform: &Platform) -> Result<Vec<pb::CacheMount>> {
    let mut client = platform.cache_mounts().await?;
    let (mut mounts, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListCacheMountsRequest { page_size: 1000, page_token };
        let page = client.list_cache_mounts(request).await?.into_inner();
        mounts.extend(page.mounts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            mounts.sort_by(|a, b| (&a.id, &a.key).cmp(&(&b.id, &b.key)));
            return Ok(mounts);
        }
    }
}

async fn ls(platform: &Platform, args: &CacheLs) -> Result<u8> {
    let mounts = all(platform).await?;
    match (args.quiet, &args.format) {
        (true, _) => mounts.iter().try_for_each(|mount| render::line(&mount.key))?,
        (false, Format::Json) => mounts.iter().try_for_each(|mount| render::line(of_mount(mount)))?,
        (false, Format::Template(template) | Format::Columns(template)) => {
            mounts.iter().try_for_each(|mount| render::line(list::fill(template, &of_mount(mount))?))?;
        }
        (false, Format::Table) => {
            let now = Timestamp::now();
            let mut rows = vec![["ID", "KEY", "SIZE", "IN USE", "LAST USED"].map(str::to_owned).to_vec()];
            rows.extend(mounts.iter().map(|mount| {
                let used = mount.last_used_at.as_ref().and_then(time::timestamp);
                vec![
                    crate::explore::text::line(&mount.id),
                    mount.key.get(..12).unwrap_or(&mount.key).to_owned(),
                    size::human(mount.size_bytes),
                    mount.is_in_use.to_string(),
                    used.map_or(String::new(), |at| time::ago(Some(at), now)),
                ]
            }));
            table::print(&rows)?;
        }
    }
    Ok(0)
}

fn of_mount(mount: &pb::CacheMount) -> serde_json::Value {
    let at = |at: Option<&prost_types::Timestamp>| at.and_then(time::timestamp).map(|at| at.to_string());
    json!({
        "ID": mount.id,
        "Key": mount.key,
        "SizeBytes": mount.size_bytes,
        "InUse": mount.is_in_use,
        "UsageCount": mount.usage_count,
        "CreatedAt": at(mount.created_at.as_ref()),
        "LastUsedAt": at(mount.last_used_at.as_ref()),
    })
}

/// The mounts that a word names: by id, else by the beginning of their keys.
fn named<'a>(mounts: &'a [pb::CacheMount], word: &str) -> Result<Vec<&'a pb::CacheMount>> {
    let by_id: Vec<_> = mounts.iter().filter(|mount| mount.id == word).collect();
    let found = match by_id.is_empty() {
        true => mounts.iter().filter(|mount| !word.is_empty() && mount.key.starts_with(word)).collect(),
        false => by_id,
    };
    match found.is_empty() {
        true => Err(Error::new(format!("there is no cache mount {word:?}")).hint("`ctl builder cache ls` lists them")),
        false => Ok(found),
    }
}

async fn export(platform: &Platform, args: &CacheExport) -> Result<u8> {
    if args.output.is_none() && terminal::is_output() {
        return Err(Error::usage("an archive is nothing to look at: standard output is a terminal")
            .hint("`ctl builder cache export ID -o FILE` writes a file"));
    }
    let mounts = all(platform).await?;
    let found = named(&mounts, &args.mount)?;
    let [mount] = found.as_slice() else {
        let error = Error::new(format!("there are {} cache mounts {:?}", found.len(), args.mount));
        return Err(error.hint("`ctl builder cache ls` shows their keys, which can be used instead"));
    };
    let request = pb::ExportCacheMountRequest { key: mount.key.clone() };
    let chunks = platform.cache_mounts().await?.export_cache_mount(request).await?.into_inner();
    let archive = chunks::to_read(chunks.map(|message| message.map(|message| message.chunk)));
    receiving::archive(archive, args.output.clone()).await?;
    Ok(0)
}

async fn import(platform: &Platform, args: &CacheImport) -> Result<u8> {
    let shown = args.input.as_ref().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let reader: std::pin::Pin<Box<dyn AsyncRead + Send>> = match &args.input {
        None => Box::pin(tokio::io::stdin()),
        Some(path) => {
            let opened = tokio::fs::File::open(path).await;
            Box::pin(opened.map_err(|error| Error::new(format!("cannot open {shown}: {error}")))?)
        }
    };
    let message = |part| pb::ImportCacheMountRequest { part: Some(part) };
    let first = message(pb::import_cache_mount_request::Part::Id(args.id.clone()));
    let wrap = move |chunk: Bytes| message(pb::import_cache_mount_request::Part::Chunk(chunk));
    let (parts, failure) = sending::messages(chunks::from_async(reader), wrap);
    let requests = futures_util::stream::once(std::future::ready(first)).chain(parts);
    let mut client = platform.cache_mounts().await?;
    let reply = tokio::select! {
        reply = client.import_cache_mount(requests) => reply?.into_inner(),
        Ok(error) = failure => return Err(Error::new(format!("cannot read {shown}: {error}"))),
    };
    let mount = reply.mount.ok_or_else(|| super::incomplete("a cache mount"))?;
    render::line(mount.key)?;
    Ok(0)
}

async fn rm(platform: &Platform, args: &CacheRm) -> Result<u8> {
    let mounts = all(platform).await?;
    let mut found = Vec::new();
    for word in &args.mounts {
        found.extend(named(&mounts, word)?);
    }
    let mut client = platform.cache_mounts().await?;
    for mount in found {
        let request = pb::RemoveCacheMountRequest { key: mount.key.clone(), allow_missing: true };
        client.remove_cache_mount(request).await?;
        render::line(&mount.key)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_named_by_its_id_or_by_how_its_key_begins() {
        let mount = |id: &str, key: &str| pb::CacheMount { id: id.into(), key: key.into(), ..Default::default() };
        let mounts = [mount("/root/.cache", "ab12"), mount("/root/.cache", "ab34"), mount("ab", "cd56")];
        let keys = |word: &str| {
            named(&mounts, word).map(|found| found.iter().map(|mount| mount.key.as_str()).collect::<Vec<_>>())
        };

        assert_eq!(keys("/root/.cache").unwrap(), ["ab12", "ab34"]);
        assert_eq!(keys("ab").unwrap(), ["cd56"]);
        assert_eq!(keys("ab3").unwrap(), ["ab34"]);
        assert!(keys("x").is_err() && keys("").is_err());
    }
}
