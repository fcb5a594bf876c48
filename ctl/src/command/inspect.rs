//! `ctl inspect`: Docker's JSON, with the fields that have a meaning here.

use serde_json::{Value, json};
use strata_proto::runtime::v1 as runtime;
use strata_proto::store::v1 as store;

use super::{images, network, port, ps};
use crate::args::Inspect;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render::{list, name, time};
use crate::streams;

/// Prints one array; what is not found is told, and the rest shown.
pub async fn run(platform: &Platform, args: &Inspect) -> Result<u8> {
    let mut found = Vec::new();
    let mut code = 0;
    for name in &args.names {
        match inspect(platform, name, args.kind.as_deref()).await {
            Ok(value) => found.push(value),
            Err(error) => {
                error.print();
                code = 1;
            }
        }
    }
    list::inspected(args.format.as_ref(), found)?;
    Ok(code)
}

async fn inspect(platform: &Platform, name: &str, kind: Option<&str>) -> Result<Value> {
    if kind != Some("image") {
        let request = runtime::GetContainerRequest { container: name.to_owned() };
        match platform.containers().await?.all.get_container(request).await {
            Ok(reply) => {
                let container = reply.into_inner().container.ok_or_else(|| super::incomplete("a container"))?;
                return Ok(of_container(&container));
            }
            Err(status) => {
                let error = Error::from(status);
                if error.reason != "FAULT_CONTAINER_NOT_FOUND" || kind == Some("container") {
                    return Err(error);
                }
            }
        }
    }
    match images::get(platform, name).await {
        Ok(image) => of_image(&image, digests(platform, &image).await?),
        Err(error) if error.reason == "FAULT_IMAGE_NOT_FOUND" && kind.is_none() => {
            let error = Error::new(format!("there is no container and no image {name:?}"));
            Err(error.hint("`ctl ps -a` lists containers, `ctl images` lists images"))
        }
        Err(error) => Err(error),
    }
}

/// Names with the digests by which registries know them. What was made here no registry knows.
async fn digests(platform: &Platform, image: &store::Image) -> Result<Vec<String>> {
    let mut client = platform.manifests().await?;
    let mut found = Vec::new();
    for name in &image.names {
        let request = store::GetManifestRequest { reference: name.clone() };
        // A name that has gone meanwhile has no digest.
        let Ok(reply) = client.get_manifest(request).await else { continue };
        let reply = reply.into_inner();
        let digest = reply.descriptor.map(|descriptor| descriptor.digest).unwrap_or_default();
        let (repository, _) = name::repository_and_tag(name);
        let full = format!("{repository}@{digest}");
        if !reply.is_made_here && !found.contains(&full) {
            found.push(full);
        }
    }
    Ok(found)
}

fn of_image(image: &store::Image, digests: Vec<String>) -> Result<Value> {
    let config: Value = serde_json::from_slice(&image.config_json)
        .map_err(|error| Error::new(format!("the config of {} cannot be read: {error}", image.id)))?;
    let names: Vec<String> = image.names.iter().map(|full| name::familiar(full)).collect();
    let layers: Vec<&str> = image.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let manifest = image.manifest.clone().unwrap_or_default();
    let mut value = json!({
        "Id": image.id,
        "RepoTags": names,
        "RepoDigests": digests,
        "Comment": config["history"].as_array().and_then(|all| all.last()).map_or(Value::Null, |last| last["comment"].clone()),
        "Created": config["created"],
        "Config": config["config"],
        "Architecture": config["architecture"],
        "Os": config["os"],
        "Size": image.size_bytes,
        "RootFS": { "Type": "layers", "Layers": layers },
        "Descriptor": { "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size_bytes },
    });
    for (key, field) in [("Variant", "variant"), ("Author", "author")] {
        if let Some(text) = config.get(field) {
            value[key] = text.clone();
        }
    }
    Ok(value)
}

fn of_container(container: &runtime::Container) -> Value {
    let spec = container.spec.clone().unwrap_or_default();
    let process = container.process.clone().unwrap_or_default();
    let at = |time: &Option<prost_types::Timestamp>| {
        time.as_ref().and_then(time::timestamp).map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string())
    };
    let exit = container.exit.as_ref();
    let error = match exit.and_then(|exit| exit.kind.as_ref()) {
        Some(runtime::exit_status::Kind::Unknown(why)) => why.as_str(),
        _ => "",
    };
    let image = match &spec.root {
        Some(runtime::container_spec::Root::Image(image)) => image.as_str(),
        Some(runtime::container_spec::Root::SnapshotKey(key)) => key.as_str(),
        None => "",
    };
    let limits = spec.limits.unwrap_or_default();
    let host_name = if spec.hostname.is_empty() { container.id.get(..12).unwrap_or_default() } else { &spec.hostname };
    json!({
        "Id": container.id,
        "Name": format!("/{}", container.name),
        "Created": at(&container.created_at),
        "Path": process.args.first(),
        "Args": process.args.get(1..).unwrap_or_default(),
        "State": {
            "Status": ps::state(container),
            "Running": container.state() == runtime::ContainerState::Running,
            "OOMKilled": exit.is_some_and(|exit| exit.is_oom_killed),
            "Pid": container.pid,
            "ExitCode": exit.and_then(|exit| streams::exit_code(exit).ok()).unwrap_or(0),
            "Error": error,
            "StartedAt": at(&container.started_at),
            "FinishedAt": at(&container.finished_at),
        },
        "Image": container.image_id,
        "LogPath": container.log_path,
        "HostConfig": {
            "Memory": limits.memory_bytes.unwrap_or(0),
            "NanoCpus": limits.nano_cpus.unwrap_or(0),
            "PidsLimit": limits.pids,
            "CapAdd": spec.cap_add,
            "CapDrop": spec.cap_drop,
            "DeviceRequests": device_requests(&spec.cdi_devices),
            "Privileged": spec.is_privileged,
            "ReadonlyRootfs": spec.is_root_read_only,
            "ShmSize": if spec.shm_size_bytes == 0 { 64 << 20 } else { spec.shm_size_bytes },
            "NetworkMode": network::mode(&spec),
            "Dns": spec.dns_servers,
            "DnsOptions": spec.dns_options,
            "DnsSearch": spec.dns_searches,
            "PortBindings": port::asked(&spec),
            "PublishAllPorts": spec.publishes_all_ports,
            "AutoRemove": spec.auto_remove,
        },
        "NetworkSettings": network::settings(container),
        "Mounts": spec.mounts.iter().map(of_mount).collect::<Vec<_>>(),
        "Config": {
            "Hostname": host_name,
            "Domainname": spec.domainname,
            "User": process.user,
            "ExposedPorts": port::exposed_keys(&spec),
            "Env": process.env,
            "Cmd": spec.command,
            "Entrypoint": spec.entry_point.map(|entry_point| entry_point.args),
            "Image": image,
            "WorkingDir": process.working_directory,
            "Tty": spec.has_terminal,
            "OpenStdin": spec.has_stdin,
            "StopSignal": process.stop_signal,
            "Labels": spec.labels.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        },
    })
}

/// Devices by their CDI names, as Docker has them.
fn device_requests(names: &[String]) -> Value {
    if names.is_empty() { Value::Null } else { json!([{"Driver": "cdi", "DeviceIDs": names}]) }
}

/// What Docker shows of a mount, for those that it has.
fn of_mount(mount: &runtime::MountSpec) -> Value {
    let mut value = json!({
        "Type": "", "Source": "", "Destination": mount.target, "Mode": mount.mode, "RW": !mount.is_read_only,
        "Propagation": "",
    });
    match &mount.source {
        Some(runtime::mount_spec::Source::Bind(bind)) => {
            value["Type"] = "bind".into();
            value["Source"] = bind.path.as_str().into();
            value["Propagation"] = propagation(bind.propagation()).into();
        }
        Some(runtime::mount_spec::Source::Volume(volume)) => {
            value["Type"] = "volume".into();
            value["Name"] = volume.name.as_str().into();
            value["Source"] = volume.host_path.as_str().into();
            value["Driver"] = volume.driver.as_str().into();
        }
        Some(runtime::mount_spec::Source::Image(image)) => {
            value["Type"] = "image".into();
            value["Source"] = image.image.as_str().into();
        }
        Some(runtime::mount_spec::Source::Tmpfs(_)) => value["Type"] = "tmpfs".into(),
        Some(runtime::mount_spec::Source::Bytes(_)) => value["Type"] = "bytes".into(),
        Some(runtime::mount_spec::Source::Snapshot(snapshot)) => {
            value["Type"] = "snapshot".into();
            value["Source"] = snapshot.key.as_str().into();
        }
        None => {}
    }
    value
}

fn propagation(propagation: runtime::MountPropagation) -> &'static str {
    match propagation {
        runtime::MountPropagation::Private => "private",
        runtime::MountPropagation::Unspecified | runtime::MountPropagation::Rprivate => "rprivate",
        runtime::MountPropagation::Slave => "slave",
        runtime::MountPropagation::Rslave => "rslave",
        runtime::MountPropagation::Shared => "shared",
        runtime::MountPropagation::Rshared => "rshared",
    }
}
