//! Configuration of the builder: where its store and its runtime are.

use std::path::PathBuf;

use serde::Deserialize;

/// The configuration file, TOML.
#[derive(Debug, Clone, Default, Deserialize)]
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
    /// What requests may allow steps beyond the usual, by BuildKit's names: "security.insecure", "device". "network.host" is
    /// granted to all.
    pub insecure_entitlements: Vec<String>,
    /// Devices, "vendor.com/class=name", or kinds of them, "vendor.com/class", that steps may have without that.
    pub auto_allowed_devices: Vec<String>,
}

/// RUN steps.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Steps {
    /// Network of those that do not say, in builds that do not say.
    pub network: StepNetwork,
}

/// A network of RUN steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepNetwork {
    /// The host's: a step starts sooner, and reaches what is on the host's loopback device.
    #[default]
    Host,
    /// The runtime's network of this name: a step reaches the world and nobody reaches it. The runtime must be root.
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
