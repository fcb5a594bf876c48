//! `ctl version`

use serde_json::{Value, json};
use strata_proto::types::v1::ServiceInfo;

use super::info;
use crate::args::{Format, Version};
use crate::error::Result;
use crate::platform::Platform;
use crate::render::{self, list, table};

/// Prints the version of `ctl` and of each service.
pub async fn run(platform: &Platform, args: &Version) -> Result<u8> {
    let services = info::services(platform).await?;
    let own = env!("CARGO_PKG_VERSION");
    match &args.format {
        Format::Table => {}
        Format::Json => return render::line(fields(&platform.name, &services)).map(|()| 0),
        Format::Template(template) | Format::Columns(template) => {
            return render::line(list::fill(template, &fields(&platform.name, &services))?).map(|()| 0);
        }
    }
    let mut rows = vec![["NAME", "VERSION"].map(str::to_owned).to_vec(), vec!["ctl".to_owned(), own.to_owned()]];
    rows.extend(services.into_iter().map(|info| vec![info.name, info.version]));
    table::print(&rows)?;
    Ok(0)
}

/// Docker's names; what the server is, is what the runtime says.
fn fields(context: &str, services: &[ServiceInfo]) -> Value {
    let components: Vec<Value> =
        services.iter().map(|info| json!({ "Name": info.name, "Version": info.version })).collect();
    let runtime = services.iter().find(|info| info.name == "runtime");
    let fact = |label: &str| {
        let found = runtime.and_then(|info| info.facts.iter().find(|fact| fact.label == label));
        found.map(|fact| fact.value.clone()).unwrap_or_default()
    };
    json!({
        "Client": {
            "Version": env!("CARGO_PKG_VERSION"),
            "Os": std::env::consts::OS,
            "Arch": strata_types::Platform::host().architecture,
            "Context": context,
        },
        "Server": {
            "Platform": { "Name": "Strata" },
            "Version": runtime.map(|info| info.version.clone()),
            "Os": fact("OS Type"),
            "Arch": fact("Architecture"),
            "KernelVersion": fact("Kernel Version"),
            "Components": components,
        },
    })
}
