//! Configuration of the builder: where its store and its runtime are.

use std::path::PathBuf;

use serde::Deserialize;

use crate::entitlements::Entitlement;

/// The configuration file, TOML.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Endpoint of the store, "unix:PATH" or "tcp:HOST:PORT". Absent: this host's, started when needed.
    pub store: Option<String>,
    /// Endpoint of the runtime, likewise.
    pub runtime: Option<String>,
    /// Certificates for peers over TCP.
    pub tls: Option<Tls>,
    /// Steps that work at once. Absent: one per processor.
    pub parallelism: Option<usize>,
    /// RUN steps.
    pub steps: Steps,
    /// What requests may allow steps beyond the usual, by BuildKit's names: "network.host", which is all by default,
    /// "security.insecure", "device".
    pub insecure_entitlements: Vec<String>,
    /// Devices, "vendor.com/class=name", or kinds of them, "vendor.com/class", that steps may have without that.
    pub auto_allowed_devices: Vec<String>,
    /// Where metrics are served: "ADDRESS:PORT", or a port on loopback. Absent: nowhere.
    pub metrics: Option<String>,
}

impl Default for Config {
    /// Services of this host, and what Docker's daemon allows.
    fn default() -> Self {
        Self {
            store: None,
            runtime: None,
            tls: None,
            parallelism: None,
            steps: Steps::default(),
            insecure_entitlements: vec![Entitlement::HostNetwork.name().to_owned()],
            auto_allowed_devices: Vec::new(),
            metrics: None,
        }
    }
}

/// RUN steps.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Steps {
    /// Network of those that do not say, in builds that do not say. Absent: the bridge where the runtime has containers on it
    /// by default, else the host's.
    pub network: Option<StepNetwork>,
}

/// A network of RUN steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepNetwork {
    /// The host's: a step starts sooner, and reaches what is on the host's loopback device.
    Host,
    /// The runtime's network of this name: a step reaches the world and nobody reaches it.
    Bridge,
}

/// Files of a client certificate, PEM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate authority of the peers.
    pub ca: PathBuf,
    /// Certificate of this builder.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
