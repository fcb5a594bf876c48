//! The table `[traces]` of strata.toml, which all services and `ctl` read.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config;

/// Where traces go.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A collector that takes OTLP over gRPC, "http://HOST:4317" or "https://HOST:4317". Absent: nowhere, unless the
    /// environment says so.
    pub endpoint: Option<String>,
    /// Who signs the certificate of one behind https, a file of PEM. Absent: whom this host believes.
    pub ca: Option<PathBuf>,
}

/// The file as far as this module reads it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shared {
    traces: Config,
}

/// The variable that says where the collector is, OpenTelemetry's.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The variable that says who signs its certificate, OpenTelemetry's too.
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";

/// The variables of the environment that are read, which services have of whoever starts them.
pub(crate) const VARIABLES: [&str; 2] = [ENDPOINT, CERTIFICATE];

impl Config {
    /// What the environment says.
    pub(super) fn of_environment() -> Self {
        let said = |name| std::env::var_os(name).filter(|text| !text.is_empty());
        Self {
            endpoint: said(ENDPOINT).map(|text| text.to_string_lossy().into_owned()),
            ca: said(CERTIFICATE).map(PathBuf::from),
        }
    }

    /// Reads the table of the file, which need not be there.
    pub fn load(path: &Path) -> Result<Self, config::Error> {
        Ok(config::load::<Shared>(Some(path).filter(|path| path.exists()))?.traces)
    }
}
