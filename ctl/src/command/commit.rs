//! `ctl commit`: an image of what a container wrote. The runtime has its layer made while the container stands still; here the
//! config is put together, and the store makes the image.

use jiff::Timestamp;
use strata_proto::runtime::v1 as runtime;
use strata_proto::store::v1::{self as store, lease_service_client::LeaseServiceClient};
use strata_rpc::spans::Channel;
use strata_types::{History, ImageConfig, Platform as Target, Reference};
use tonic::Streaming;

use crate::args::Commit;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::{change, render};

/// A lease of the store, which ends when its stream is dropped.
struct Lease {
    client: LeaseServiceClient<Channel>,
    id: String,
    _stream: Streaming<store::HoldLeaseResponse>,
}

/// Makes the image and prints its id.
pub async fn run(platform: &Platform, args: &Commit) -> Result<u8> {
    let name = args.name.as_deref().map(name).transpose()?;
    let request = runtime::GetContainerRequest { container: args.container.clone() };
    let mut containers = platform.containers().await?.all;
    let found = containers.get_container(request).await?.into_inner().container;
    let container = found.ok_or_else(|| super::incomplete("a container"))?;
    let lease = hold(platform).await?;
    let (base, layers) = base(platform, &container, &lease.id).await?;
    // What cannot be changed is told before anything is made.
    let config = config(base, &container, args)?;
    let request = runtime::CommitContainerRequest {
        container: container.id,
        lease_id: lease.id.clone(),
        pause: args.pause && !args.no_pause,
    };
    let layer = containers.commit_container(request).await?.into_inner().layer_id;
    let config_json = serde_json::to_vec(&config).map_err(|error| Error::of(&error))?.into();
    let request = store::CreateImageRequest {
        config_json,
        layer_ids: layers.into_iter().chain([layer]).collect(),
        names: name.into_iter().collect(),
        lease_id: lease.id.clone(),
    };
    let image = platform.images().await?.create_image(request).await?.into_inner().image;
    lease.end().await?;
    render::line(image.ok_or_else(|| super::incomplete("an image"))?.id)?;
    Ok(0)
}

/// A name in full form; one without a tag is "latest".
fn name(text: &str) -> Result<String> {
    let parsed = Reference::parse(text).map_err(|error| Error::usage(error.to_string()))?;
    match parsed.digest() {
        Some(_) => Err(Error::usage(format!("{text} names a digest, which an image gets by itself"))),
        None => Ok(parsed.to_string()),
    }
}

async fn hold(platform: &Platform) -> Result<Lease> {
    let mut client = platform.leases().await?;
    let request = store::HoldLeaseRequest { holder: "ctl commit".to_owned(), grace: None };
    let mut stream = client.hold_lease(request).await?.into_inner();
    let lease = stream.message().await?.and_then(|reply| reply.lease);
    let lease = lease.ok_or_else(|| super::incomplete("a lease"))?;
    Ok(Lease { client, id: lease.id, _stream: stream })
}

impl Lease {
    async fn end(mut self) -> Result<()> {
        let request = store::DeleteLeaseRequest { lease_id: self.id, allow_missing: true };
        self.client.delete_lease(request).await?;
        Ok(())
    }
}

/// Config and layers of the image that a container was made from, held by the lease.
async fn base(platform: &Platform, container: &runtime::Container, lease: &str) -> Result<(ImageConfig, Vec<String>)> {
    if container.image_id.is_empty() {
        return Err(Error::new(format!("container {} was made from no image", container.name)));
    }
    let reference = container.image_id.clone();
    let request = store::GetImageRequest { reference, lease_id: lease.to_owned(), platform: None };
    let image = platform.images().await?.get_image(request).await?.into_inner().image;
    let image = image.ok_or_else(|| super::incomplete("an image"))?;
    let config = serde_json::from_slice(&image.config_json).map_err(|error| Error::of(&error))?;
    Ok((config, image.layers.into_iter().map(|layer| layer.layer_id).collect()))
}

/// The image's config with what the container was made with, then what the flags change.
fn config(mut base: ImageConfig, container: &runtime::Container, args: &Commit) -> Result<ImageConfig> {
    let spec = container.spec.clone().unwrap_or_default();
    let config = &mut base.config;
    for pair in &spec.env {
        match pair.split_once('=') {
            Some((key, value)) => config.env_set(key, value),
            None => config.env.retain(|old| old.split('=').next() != Some(pair)),
        }
    }
    if let Some(entry_point) = spec.entry_point {
        // With another entry point the image's arguments mean nothing.
        (config.entrypoint, config.cmd) = (Some(entry_point.args).filter(|args| !args.is_empty()), None);
    }
    if !spec.command.is_empty() {
        config.cmd = Some(spec.command);
    }
    let set = |own: &mut String, given: String| {
        if !given.is_empty() {
            *own = given
        }
    };
    set(&mut config.user, spec.user);
    set(&mut config.working_dir, spec.working_directory);
    if !spec.stop_signal.is_empty() {
        config.stop_signal = Some(spec.stop_signal);
    }
    config.labels.extend(spec.labels);
    for instruction in &args.change {
        change::apply(config, instruction)?;
    }
    let created = Timestamp::now().to_string();
    let command = config.cmd.clone().unwrap_or_default().join(" ");
    base.created = Some(created.clone());
    base.author = args.author.clone();
    base.history.push(History {
        created: Some(created),
        created_by: Some(command).filter(|command| !command.is_empty()),
        comment: args.message.clone(),
        author: args.author.clone(),
        ..History::default()
    });
    if base.os.is_empty() || base.architecture.is_empty() {
        let host = Target::host();
        (base.os, base.architecture, base.variant) = (host.os, host.architecture, host.variant);
    }
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(change: &[&str]) -> Commit {
        Commit {
            author: Some("Ada".into()),
            change: change.iter().map(|text| (*text).to_owned()).collect(),
            message: Some("why".into()),
            no_pause: false,
            pause: true,
            container: "box".into(),
            name: None,
        }
    }

    #[test]
    fn the_config_is_the_images_with_the_containers_and_the_changes() {
        let mut base = ImageConfig::empty(&Target::host());
        base.config.env = vec!["A=image".into(), "B=image".into(), "C=image".into()];
        base.config.cmd = Some(vec!["old".into()]);
        let spec = runtime::ContainerSpec {
            env: vec!["A=container".into(), "B".into()],
            command: vec!["sh".into(), "-c".into(), "x".into()],
            user: "web".into(),
            labels: [("tier".to_owned(), "back".to_owned())].into(),
            ..Default::default()
        };
        let container = runtime::Container { spec: Some(spec), ..Default::default() };

        let made = config(base, &container, &args(&["ENV C=change", "EXPOSE 80"])).unwrap();

        assert_eq!(made.config.env, ["A=container", "C=change"]);
        assert_eq!(made.config.cmd.as_deref().map(|cmd| cmd.join(" ")).as_deref(), Some("sh -c x"));
        assert_eq!((made.config.user.as_str(), made.config.labels["tier"].as_str()), ("web", "back"));
        assert!(made.config.exposed_ports.contains("80/tcp"));
        let last = made.history.last().unwrap();
        assert_eq!(last.created_by.as_deref(), Some("sh -c x"));
        assert_eq!((last.comment.as_deref(), last.author.as_deref()), (Some("why"), Some("Ada")));
        assert!(config(ImageConfig::empty(&Target::host()), &container, &args(&["RUN x"])).is_err());
    }

    #[test]
    fn another_entry_point_leaves_nothing_of_the_images_arguments() {
        let mut base = ImageConfig::empty(&Target::host());
        base.config.entrypoint = Some(vec!["/old".into()]);
        base.config.cmd = Some(vec!["argument".into()]);
        let entry_point = Some(runtime::EntryPoint { args: vec!["/new".into()] });
        let spec = runtime::ContainerSpec { entry_point, ..Default::default() };
        let container = runtime::Container { spec: Some(spec), ..Default::default() };

        let made = config(base, &container, &args(&[])).unwrap();

        assert_eq!(made.config.entrypoint, Some(vec!["/new".to_owned()]));
        assert_eq!(made.config.cmd, None);
    }

    #[test]
    fn a_name_gets_a_tag_and_no_digest() {
        assert_eq!(name("app").ok().as_deref(), Some("docker.io/library/app:latest"));
        assert!(name(&format!("app@sha256:{}", "0".repeat(64))).is_err());
        assert!(name("App").is_err());
    }
}
