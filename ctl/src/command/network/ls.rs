//! `ctl network ls`

use serde_json::json;
use strata_proto::runtime::v1 as pb;

use crate::args::NetworkLs;
use crate::error::Result;
use crate::filter::{Filters, has_label};
use crate::platform::Platform;
use crate::render::list::{self, Row};
use crate::render::{self, table, time};

/// A network as it is shown.
struct Shown {
    id: String,
    name: String,
    driver: &'static str,
    spec: pb::NetworkSpec,
    created: String,
    is_builtin: bool,
    is_used: bool,
}

/// Lists networks by name.
pub async fn run(platform: &Platform, args: &NetworkLs) -> Result<u8> {
    let filters = Filters::read(&args.filter, &["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let dangling = filters.truth("dangling")?;
    let mut shown: Vec<Shown> = super::list(platform).await?.into_iter().map(of).collect();
    // What is there without a record of its own: containers that have it have none of ours.
    shown.extend(["host", "none"].map(builtin));
    if !shown.iter().any(|network| network.name == "bridge") {
        shown.push(builtin("bridge"));
    }
    shown.sort_by(|one, other| one.name.cmp(&other.name));
    shown.retain(|network| dangling.is_none_or(|dangling| dangling != network.is_used) && takes(&filters, network));
    if args.quiet {
        for network in shown.iter().filter(|network| !network.id.is_empty()) {
            render::line(if args.no_trunc { &network.id } else { table::short_id(&network.id) })?;
        }
        return Ok(0);
    }
    let rows = shown.iter().map(|network| {
        let id = if args.no_trunc { network.id.as_str() } else { table::short_id(&network.id) };
        Row {
            cells: [id, &network.name, network.driver, "local"].map(str::to_owned).into(),
            fields: json!({
                "ID": id, "Name": network.name, "Driver": network.driver, "Scope": "local",
                "IPv6": network.spec.has_ipv6.to_string(), "Internal": network.spec.is_internal.to_string(),
                "Labels": network.spec.labels, "CreatedAt": network.created,
            }),
        }
    });
    list::print(&args.format, &["NETWORK ID", "NAME", "DRIVER", "SCOPE"], rows.collect())?;
    Ok(0)
}

fn of(network: pb::Network) -> Shown {
    let spec = network.spec.unwrap_or_default();
    let created = network.created_at.as_ref().and_then(time::timestamp).map_or_else(String::new, |at| at.to_string());
    Shown {
        id: network.id,
        driver: super::driver(&spec),
        is_builtin: spec.name == "bridge",
        is_used: !network.members.is_empty(),
        name: spec.name.clone(),
        spec,
        created,
    }
}

fn builtin(name: &'static str) -> Shown {
    let (spec, created) = (pb::NetworkSpec::default(), String::new());
    let driver = if name == "none" { "null" } else { name };
    Shown { id: String::new(), name: name.to_owned(), driver, spec, created, is_builtin: true, is_used: true }
}

fn takes(filters: &Filters, network: &Shown) -> bool {
    filters.any("driver", |name| network.driver == name)
        && filters.any("id", |text| network.id.contains(text) && !network.id.is_empty())
        && filters.of("label").all(|label| has_label(&network.spec.labels, label))
        && filters.any("name", |text| network.name.contains(text))
        && filters.any("scope", |scope| scope == "local")
        && filters.any("type", |kind| (kind == "builtin") == network.is_builtin)
}
