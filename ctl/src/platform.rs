//! From a context to clients: the services of this host, started when they do not run, or endpoints by name.

use strata_proto::access::v1 as access;
use strata_proto::builder::v1 as builder;
use strata_proto::runtime::v1 as runtime;
use strata_proto::store::v1 as store;
use strata_rpc::endpoint;
use strata_rpc::identity::ClientTls;
use strata_rpc::spans::{Channel, traced};
use strata_rpc::spawn::{self, OnDemand};
use tokio::sync::OnceCell;

use crate::contexts::{self, Contexts, Named, Way};
use crate::error::{Error, Result};

/// What the flags say of where the services are.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// A context by name; none: the one in use.
    pub context: Option<String>,
    /// A host, as `--host` has it: it counts before all contexts.
    pub host: Option<String>,
}

impl Choice {
    /// The name of the context: the one asked for, else the one in use.
    pub fn context(&self) -> Result<String> {
        match &self.context {
            Some(context) => Ok(context.clone()),
            None => Ok(Contexts::load()?.current),
        }
    }

    /// Where the services are.
    pub fn open(&self) -> Result<Platform> {
        let Some(host) = &self.host else { return Platform::open(self.context.as_deref()) };
        let named = contexts::Named::at(host)?;
        Ok(Platform { name: host.clone(), named: Some(named), channels: Default::default() })
    }
}

/// Every service, in the order in which they are told of.
pub const SERVICES: [&str; 3] = ["store", "builder", "runtime"];

/// Where the services are.
pub struct Platform {
    /// The context's name.
    pub name: String,
    named: Option<Named>,
    /// Connections that are there: to store, builder and runtime.
    channels: [OnceCell<Channel>; 3],
}

impl Platform {
    /// The context asked for, else the one in use.
    pub fn open(context: Option<&str>) -> Result<Self> {
        let contexts = Contexts::load()?;
        let name = context.unwrap_or(&contexts.current).to_owned();
        let named = if name == contexts::DEFAULT { None } else { Some(contexts.find(&name)?.clone()) };
        Ok(Self { name, named, channels: Default::default() })
    }

    /// Whether they are the services of this host that are started on demand.
    pub fn is_on_demand(&self) -> bool {
        self.named.is_none()
    }

    async fn channel(&self, service: &'static str) -> Result<Channel> {
        let at = match service {
            "store" => 0,
            "builder" => 1,
            _ => 2,
        };
        self.channels[at].get_or_try_init(|| self.connect(service)).await.cloned()
    }

    async fn connect(&self, service: &'static str) -> Result<Channel> {
        self.reach(service).await.map(traced)
    }

    async fn reach(&self, service: &'static str) -> Result<tonic::transport::Channel> {
        let Some(named) = &self.named else { return Ok(spawn::ensure(OnDemand::service(service)?).await?) };
        let text = match service {
            "store" => &named.store,
            "builder" => &named.builder,
            _ => &named.runtime,
        };
        let hint = || format!("context {:?} names the {service} at {text}", self.name);
        let endpoint = match Way::parse(text)? {
            Way::Service(endpoint) => endpoint,
            Way::Ssh(ssh) => {
                let dial = move || {
                    let ssh = ssh.clone();
                    async move { ssh.dial(service).await }
                };
                let reached = endpoint::connect_through(dial).await;
                return reached.map_err(|error| {
                    Error::new(format!("cannot reach the {service} at {text}: {}", error.message()))
                        .hint("what ssh said is above; `ssh HOST ctl version` must work without a question")
                });
            }
        };
        let tls = match (&named.tls_ca, &named.tls_cert, &named.tls_key) {
            (Some(ca), Some(cert), Some(key)) => Some(ClientTls::load(ca, cert, key).map_err(|e| Error::of(&e))?),
            _ => None,
        };
        let reached = strata_rpc::connect_eager(&endpoint, tls.as_ref()).await;
        reached.map_err(|error| Error::of(&error).hint(hint()))
    }

    /// The audit log of a service.
    pub async fn audit(
        &self,
        service: &'static str,
    ) -> Result<access::audit_service_client::AuditServiceClient<Channel>> {
        Ok(access::audit_service_client::AuditServiceClient::new(self.channel(service).await?))
    }

    /// The images of the store.
    pub async fn images(&self) -> Result<store::image_service_client::ImageServiceClient<Channel>> {
        Ok(store::image_service_client::ImageServiceClient::new(self.channel("store").await?))
    }

    /// The layers of the store.
    pub async fn layers(&self) -> Result<store::layer_service_client::LayerServiceClient<Channel>> {
        Ok(store::layer_service_client::LayerServiceClient::new(self.channel("store").await?))
    }

    /// The snapshots of the store.
    pub async fn snapshots(&self) -> Result<store::snapshot_service_client::SnapshotServiceClient<Channel>> {
        Ok(store::snapshot_service_client::SnapshotServiceClient::new(self.channel("store").await?))
    }

    /// Leases.
    pub async fn leases(&self) -> Result<store::lease_service_client::LeaseServiceClient<Channel>> {
        Ok(store::lease_service_client::LeaseServiceClient::new(self.channel("store").await?))
    }

    /// Archives of images.
    pub async fn archives(&self) -> Result<store::archive_service_client::ArchiveServiceClient<Channel>> {
        Ok(store::archive_service_client::ArchiveServiceClient::new(self.channel("store").await?))
    }

    /// The build cache.
    pub async fn cache(&self) -> Result<store::cache_service_client::CacheServiceClient<Channel>> {
        Ok(store::cache_service_client::CacheServiceClient::new(self.channel("store").await?))
    }

    /// Cache mounts.
    pub async fn cache_mounts(&self) -> Result<store::cache_mount_service_client::CacheMountServiceClient<Channel>> {
        Ok(store::cache_mount_service_client::CacheMountServiceClient::new(self.channel("store").await?))
    }

    /// The store itself.
    pub async fn store(&self) -> Result<store::system_service_client::SystemServiceClient<Channel>> {
        Ok(store::system_service_client::SystemServiceClient::new(self.channel("store").await?))
    }

    /// Registries, as the store reaches them.
    pub async fn registry(&self) -> Result<store::registry_service_client::RegistryServiceClient<Channel>> {
        let client = store::registry_service_client::RegistryServiceClient::new(self.channel("store").await?);
        Ok(client.max_decoding_message_size(16 << 20))
    }

    /// Manifests and lists of images.
    pub async fn manifests(&self) -> Result<store::manifest_service_client::ManifestServiceClient<Channel>> {
        let client = store::manifest_service_client::ManifestServiceClient::new(self.channel("store").await?);
        Ok(client.max_decoding_message_size(16 << 20))
    }

    /// Images on their way to and from other stores.
    pub async fn transfers(&self) -> Result<store::transfer_service_client::TransferServiceClient<Channel>> {
        Ok(store::transfer_service_client::TransferServiceClient::new(self.channel("store").await?))
    }

    /// Builds.
    pub async fn builds(&self) -> Result<builder::build_service_client::BuildServiceClient<Channel>> {
        let client = builder::build_service_client::BuildServiceClient::new(self.channel("builder").await?);
        Ok(client.max_decoding_message_size(16 << 20))
    }

    /// The builder itself.
    pub async fn builder(&self) -> Result<builder::system_service_client::SystemServiceClient<Channel>> {
        Ok(builder::system_service_client::SystemServiceClient::new(self.channel("builder").await?))
    }

    /// Containers, and their streams over the same connection.
    pub async fn containers(&self) -> Result<Containers> {
        let channel = self.channel("runtime").await?;
        Ok(Containers {
            all: runtime::container_service_client::ContainerServiceClient::new(channel.clone()),
            streams: runtime::stream_service_client::StreamServiceClient::new(channel),
        })
    }

    /// Files of containers.
    pub async fn files(&self) -> Result<runtime::file_service_client::FileServiceClient<Channel>> {
        Ok(runtime::file_service_client::FileServiceClient::new(self.channel("runtime").await?))
    }

    /// What happens to containers, networks, secrets and volumes.
    pub async fn container_events(&self) -> Result<runtime::event_service_client::EventServiceClient<Channel>> {
        Ok(runtime::event_service_client::EventServiceClient::new(self.channel("runtime").await?))
    }

    /// What happens to images.
    pub async fn image_events(&self) -> Result<store::event_service_client::EventServiceClient<Channel>> {
        Ok(store::event_service_client::EventServiceClient::new(self.channel("store").await?))
    }

    /// Networks.
    pub async fn networks(&self) -> Result<runtime::network_service_client::NetworkServiceClient<Channel>> {
        Ok(runtime::network_service_client::NetworkServiceClient::new(self.channel("runtime").await?))
    }

    /// Secrets.
    pub async fn secrets(&self) -> Result<runtime::secret_service_client::SecretServiceClient<Channel>> {
        let client = runtime::secret_service_client::SecretServiceClient::new(self.channel("runtime").await?);
        Ok(client.max_decoding_message_size(16 << 20))
    }

    /// Volumes.
    pub async fn volumes(&self) -> Result<runtime::volume_service_client::VolumeServiceClient<Channel>> {
        let client = runtime::volume_service_client::VolumeServiceClient::new(self.channel("runtime").await?);
        Ok(client.max_decoding_message_size(16 << 20))
    }

    /// The runtime itself.
    pub async fn runtime(&self) -> Result<runtime::system_service_client::SystemServiceClient<Channel>> {
        Ok(runtime::system_service_client::SystemServiceClient::new(self.channel("runtime").await?))
    }
}

/// Clients of the runtime.
#[derive(Debug, Clone)]
pub struct Containers {
    /// Containers.
    pub all: runtime::container_service_client::ContainerServiceClient<Channel>,
    /// Their streams.
    pub streams: runtime::stream_service_client::StreamServiceClient<Channel>,
}
