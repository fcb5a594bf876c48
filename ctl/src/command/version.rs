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
    let notes: Vec<String> = services.iter().filter_map(|info| difference(&info.name, &info.version)).collect();
    rows.extend(services.into_iter().map(|info| vec![info.name, info.version]));
    table::print(&rows)?;
    notes.iter().for_each(|note| render::note(format!("hint: {note}")));
    Ok(0)
}

/// What is to be said of a service of another version: which to update. One version apart they work together, as far as both
/// know what is asked for.
pub fn difference(service: &str, theirs: &str) -> Option<String> {
    compare(env!("CARGO_PKG_VERSION"), service, theirs)
}

fn compare(own: &str, service: &str, theirs: &str) -> Option<String> {
    if own == theirs {
        return None;
    }
    let parts = |text: &str| -> Vec<u64> {
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        numbers.split('.').map(|number| number.parse().unwrap_or(0)).collect()
    };
    let (mine, other) = (parts(own), parts(theirs));
    let minor = |parts: &[u64]| (parts.first().copied().unwrap_or(0), parts.get(1).copied().unwrap_or(0));
    let ((major, here), (their_major, there)) = (minor(&mine), minor(&other));
    let is_near = major == their_major && here.abs_diff(there) <= 1;
    let what = format!("the {service} is strata {theirs} and ctl is strata {own}");
    let remedy = match mine < other {
        true => format!("update ctl to {theirs}"),
        false => format!(
            "update the {service}; where that is done, it runs since before: `systemctl restart strata-{service}` replaces it, \
             or `kill` of its process, which `ctl info` shows. Containers go on"
        ),
    };
    Some(match is_near {
        true => format!("{what}: they work together, but what one of them does not know. To have all, {remedy}"),
        false => format!("{what}, which are too far apart to work together: {remedy}"),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_of_two_versions_is_the_one_to_update() {
        for (own, theirs, parts) in [
            ("0.2.0", "0.1.0", &["work together", "update the store", "systemctl restart strata-store"][..]),
            ("0.2.0", "0.2.1", &["work together", "update ctl to 0.2.1"]),
            ("0.1.0", "0.3.0", &["too far apart", "update ctl to 0.3.0"]),
            ("1.10.0", "1.9.0-rc1", &["work together", "update the store"]),
            ("2.0.0", "1.0.0", &["too far apart", "update the store"]),
        ] {
            let text = compare(own, "store", theirs).unwrap();
            for part in parts {
                assert!(text.contains(part), "{own} {theirs}: {text}");
            }
        }
        assert_eq!(compare("0.1.0", "store", "0.1.0"), None);
    }
}
