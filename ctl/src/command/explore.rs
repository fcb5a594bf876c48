//! `ctl image explore`

use std::io::{IsTerminal, Write};

use futures_util::{Stream, StreamExt, TryStreamExt};
use strata_proto::store::v1 as pb;
use strata_types::ImageConfig;

use super::images;
use crate::args::Explore;
use crate::error::{Error, Result};
use crate::explore::entry::Entry;
use crate::explore::rules::{self, Limits};
use crate::explore::stack::Builder;
use crate::explore::{Image, Layer, history, report, terminal};
use crate::platform::Platform;
use crate::render;

/// Layers that are asked for ahead of the one that is read.
const AHEAD: usize = 2;

/// Shows what is in the layers of an image.
pub async fn run(platform: &Platform, args: &Explore) -> Result<u8> {
    let image = load(platform, &args.image).await?;
    let is_for_people = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    if is_for_people && !args.plain && !args.json && !args.ci {
        return terminal::show(image).await;
    }
    let limits = Limits {
        lowest_efficiency: args.lowest_efficiency,
        highest_wasted_bytes: args.highest_wasted_bytes,
        highest_user_wasted_percent: args.highest_user_wasted_percent,
    };
    let verdicts = if args.ci { rules::check(&image, &limits) } else { Vec::new() };
    match args.json {
        true => {
            let out = std::io::BufWriter::new(std::io::stdout().lock());
            report::json(&image, &verdicts, out).map_err(render::unwritable)?;
        }
        false => render::text(&report::plain(&image, &verdicts))?,
    }
    Ok(u8::from(verdicts.iter().any(|verdict| !verdict.is_kept)))
}

/// Reads the tables of contents of an image's layers.
async fn load(platform: &Platform, name: &str) -> Result<Image> {
    let found = images::get(platform, name).await?;
    let config: ImageConfig = serde_json::from_slice(&found.config_json)
        .map_err(|error| Error::new(format!("the config of {name} cannot be read: {error}")))?;
    let (mut builder, mut progress) = (Builder::default(), Progress::default());
    let client = platform.layers().await?;
    let ids: Vec<String> = found.layers.iter().map(|layer| layer.layer_id.clone()).collect();
    // The next layers are made ready by the store while one is read.
    let mut streams = futures_util::stream::iter(ids).map(|id| entries(client.clone(), id)).buffered(AHEAD);
    while let Some(stream) = streams.try_next().await? {
        builder.begin_layer();
        let mut stream = std::pin::pin!(stream);
        while let Some(batch) = stream.try_next().await? {
            progress.add(batch.len());
            for entry in batch {
                builder.add(Entry::read(entry)?);
            }
        }
    }
    progress.end();
    let origins = history::origins(&config, found.layers.len());
    let layers = found.layers.into_iter().zip(origins);
    let platform = found.platform.unwrap_or_default();
    let parts = [platform.os, platform.architecture, platform.variant];
    Ok(Image {
        name: name.to_owned(),
        id: found.id,
        platform: parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"),
        layers: layers.map(|(layer, origin)| Layer { diff_id: layer.diff_id, origin }).collect(),
        stack: builder.finish(),
    })
}

type Client = pb::layer_service_client::LayerServiceClient<strata_rpc::spans::Channel>;

/// The entries of a layer.
async fn entries(mut client: Client, layer_id: String) -> Result<impl Stream<Item = Result<Vec<pb::LayerEntry>>>> {
    let stream = client.read_layer_entries(pb::ReadLayerEntriesRequest { layer_id }).await?.into_inner();
    Ok(stream.map_ok(|message| message.entries).map_err(Error::from))
}

/// Says on a terminal how far the reading is, once it takes a while.
#[derive(Default)]
struct Progress {
    entries: usize,
    shown: usize,
}

impl Progress {
    /// Entries between two words.
    const STEP: usize = 100_000;

    fn add(&mut self, count: usize) {
        self.entries += count;
        if self.entries >= self.shown + Self::STEP && crate::terminal::is_live() {
            self.shown = self.entries;
            // When nobody listens there, nobody wants to know.
            let _ = write!(std::io::stderr().lock(), "\rreading the layers: {} files", self.entries);
        }
    }

    fn end(&self) {
        if self.shown > 0 {
            // The line is cleared.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
