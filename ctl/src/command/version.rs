//! `ctl version`

use serde_json::json;

use super::info;
use crate::args::{Format, Version};
use crate::error::Result;
use crate::platform::Platform;
use crate::render::{self, list, table};

/// Prints the version of `ctl` and of each service.
pub async fn run(platform: &Platform, args: &Version) -> Result<u8> {
    let services = info::services(platform).await?;
    let own = env!("CARGO_PKG_VERSION");
    let all: serde_json::Map<String, _> =
        services.iter().map(|info| (info.name.clone(), json!({ "version": info.version }))).collect();
    let fields = json!({ "ctl": { "version": own }, "services": all, "context": platform.name });
    match &args.format {
        Format::Table => {}
        Format::Json => return render::line(fields).map(|()| 0),
        Format::Template(template) | Format::Columns(template) => {
            return render::line(list::fill(template, &fields)?).map(|()| 0);
        }
    }
    let mut rows = vec![["NAME", "VERSION"].map(str::to_owned).to_vec(), vec!["ctl".to_owned(), own.to_owned()]];
    rows.extend(services.into_iter().map(|info| vec![info.name, info.version]));
    table::print(&rows)?;
    Ok(0)
}
