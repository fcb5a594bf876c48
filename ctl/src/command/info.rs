//! `ctl info`

use serde_json::{Map, Value, json};
use strata_proto::types::v1::ServiceInfo;
use strata_proto::{builder::v1 as builder, runtime::v1 as runtime, store::v1 as store};

use super::incomplete;
use crate::args::{Format, Info};
use crate::error::Result;
use crate::platform::Platform;
use crate::render::{self, list, size};

/// The fact whose value is a number of bytes.
const MEMORY: &str = "Total Memory";

/// What Docker calls facts that have another name here.
const DOCKERS: &[(&str, &str)] = &[
    ("ContainersPaused", "Paused"),
    ("ContainersRunning", "Running"),
    ("ContainersStopped", "Stopped"),
    ("Driver", "StorageDriver"),
    ("MemTotal", "TotalMemory"),
    ("NCPU", "CPUs"),
    ("Name", "HostName"),
];

/// What each service says of itself.
pub async fn services(platform: &Platform) -> Result<Vec<ServiceInfo>> {
    let store = async {
        let reply = platform.store().await?.get_info(store::GetInfoRequest {}).await?;
        reply.into_inner().info.ok_or_else(|| incomplete("its facts"))
    };
    let builder = async {
        let reply = platform.builder().await?.get_info(builder::GetInfoRequest {}).await?;
        reply.into_inner().info.ok_or_else(|| incomplete("its facts"))
    };
    let runtime = async {
        let reply = platform.runtime().await?.get_info(runtime::GetInfoRequest {}).await?;
        reply.into_inner().info.ok_or_else(|| incomplete("its facts"))
    };
    let (store, builder, runtime) = tokio::try_join!(store, builder, runtime)?;
    Ok(vec![store, builder, runtime])
}

/// Prints the facts of every service.
pub async fn run(platform: &Platform, args: &Info) -> Result<u8> {
    let services = services(platform).await?;
    match &args.format {
        None | Some(Format::Table) => render::line(text(&platform.name, services).trim_end())?,
        Some(Format::Json) => render::line(fields(&platform.name, &services))?,
        Some(Format::Template(template) | Format::Columns(template)) => {
            render::line(list::fill(template, &fields(&platform.name, &services))?)?;
        }
    }
    Ok(0)
}

fn text(context: &str, services: Vec<ServiceInfo>) -> String {
    let mut text = format!("Context: {context}\n");
    for info in services {
        text.push_str(&format!("\n{} {}\n", info.name, info.version));
        text.push_str(&format!(" Root directory: {}\n Process: {}\n", info.root_path, info.pid));
        for fact in info.facts {
            let bytes = fact.value.parse().ok().filter(|_| fact.label == MEMORY);
            text.push_str(&format!(" {}: {}\n", fact.label, bytes.map_or(fact.value, size::human)));
        }
    }
    text
}

/// All facts by their labels without blanks, and by Docker's names; services apart, by theirs.
fn fields(context: &str, services: &[ServiceInfo]) -> Value {
    let mut all = Map::new();
    let mut apart = Map::new();
    for info in services {
        let facts: Map<String, Value> = info.facts.iter().map(|fact| (key(&fact.label), value(&fact.value))).collect();
        all.extend(facts.clone());
        let own = json!({ "Version": info.version, "RootDir": info.root_path, "Pid": info.pid, "Facts": facts });
        apart.insert(info.name.clone(), own);
        if info.name == "runtime" {
            all.insert("ServerVersion".to_owned(), info.version.clone().into());
            all.insert("DockerRootDir".to_owned(), info.root_path.clone().into());
        }
    }
    for (dockers, own) in DOCKERS {
        if let Some(value) = all.get(*own).cloned() {
            all.insert((*dockers).to_owned(), value);
        }
    }
    all.insert("ClientInfo".to_owned(), json!({ "Context": context, "Version": env!("CARGO_PKG_VERSION") }));
    all.insert("Services".to_owned(), apart.into());
    all.into()
}

/// "CgroupVersion" for "Cgroup Version" and "Cgroup version".
fn key(label: &str) -> String {
    let large = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    label.split(' ').map(large).collect()
}

fn value(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| text.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use strata_proto::types::v1::Fact;

    use super::*;

    #[test]
    fn facts_have_their_own_names_and_dockers() {
        let fact = |label: &str, value: &str| Fact { label: label.to_owned(), value: value.to_owned() };
        let facts = vec![fact("Running", "3"), fact("Storage driver", "overlay"), fact(MEMORY, "1000000")];
        let info = ServiceInfo { name: "runtime".into(), version: "1.2.3".into(), facts, ..Default::default() };

        let fields = fields("here", std::slice::from_ref(&info));

        for (key, expected) in [
            ("ContainersRunning", json!(3)),
            ("Driver", "overlay".into()),
            ("StorageDriver", "overlay".into()),
            ("MemTotal", json!(1_000_000)),
            ("ServerVersion", "1.2.3".into()),
        ] {
            assert_eq!(fields[key], expected, "{key}");
        }
        assert_eq!(fields["Services"]["runtime"]["Facts"]["Running"], 3);
        assert!(text("here", vec![info]).contains("Total Memory: 1MB"));
    }
}
