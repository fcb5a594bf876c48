//! `ctl history`

use jiff::Timestamp;
use serde_json::json;
use strata_types::ImageConfig;

use super::images;
use crate::args::History;
use crate::error::{Error, Result};
use crate::explore::text::line;
use crate::input;
use crate::platform::Platform;
use crate::render::list::{self, Row};
use crate::render::{self, size, table, time};

/// Shows one row per instruction, the last first.
pub async fn run(platform: &Platform, args: &History) -> Result<u8> {
    let on = args.platform.as_deref().map(input::platform).transpose()?;
    let image = images::get_on(platform, &args.image, on).await?;
    let config: ImageConfig = serde_json::from_slice(&image.config_json)
        .map_err(|error| Error::new(format!("the config of {} cannot be read: {error}", args.image)))?;
    let mut layers = image.layers.iter();
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for entry in &config.history {
        let bytes = if entry.empty_layer { 0 } else { layers.next().map_or(0, |layer| layer.size_bytes) };
        let created = entry.created.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        let by = entry.created_by.clone().unwrap_or_default().replace('\t', " ");
        let comment = entry.comment.clone().unwrap_or_default();
        rows.push((created, by, bytes, comment));
    }
    // Layers without an entry are part of the image all the same.
    rows.extend(layers.map(|layer| (None, "<missing>".to_owned(), layer.size_bytes, String::new())));
    let last = rows.len().saturating_sub(1);
    let mut shown = Vec::new();
    for (index, (created, by, bytes, comment)) in rows.into_iter().enumerate().rev() {
        let id = match (index == last, args.no_trunc) {
            (false, _) => "<missing>",
            (true, true) => image.id.as_str(),
            (true, false) => table::short_id(&image.id),
        };
        if args.quiet {
            render::line(id)?;
            continue;
        }
        let at = created.map(|at| at.to_string());
        let (since, size) = match args.human {
            true => (time::ago(created, now), size::human(bytes)),
            false => (at.clone().unwrap_or_default(), bytes.to_string()),
        };
        let fields = json!({
            "ID": id, "CreatedAt": at, "CreatedSince": since, "CreatedBy": by, "Size": size,
            "Comment": comment,
        });
        // What others wrote into an image must not act on this terminal.
        let (by, comment) = (line(&by), line(&comment));
        let by = if args.no_trunc { by } else { table::cut(&by, 45) };
        shown.push(Row { cells: vec![id.to_owned(), since, by, size, comment], fields });
    }
    if !args.quiet {
        let created = if args.human { "CREATED" } else { "CREATED AT" };
        list::print(&args.format, &["IMAGE", created, "CREATED BY", "SIZE", "COMMENT"], shown)?;
    }
    Ok(0)
}
