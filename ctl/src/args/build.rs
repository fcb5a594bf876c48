//! `ctl build`: docker's flags.

mod output;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{PullWhen, SharedLimitFlags};
pub use output::{Output, OutputKind, fields};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A live view on a terminal, plain lines elsewhere
    Auto,
    /// A live view, which needs a terminal
    Tty,
    /// Plain lines
    Plain,
    /// Nothing but the image id at the end
    Quiet,
    /// Nothing
    None,
    /// JSON objects, one per event
    Rawjson,
}

/// Networks of RUN steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StepNetwork {
    /// As the builder is configured: the bridge, where containers are on it
    Default,
    /// The host's network
    Host,
    /// A loopback device only
    None,
}

// `ctl build`
#[derive(Debug, Args)]
pub struct Build {
    /// The build context: a directory, the URL of a git repository, an archive or a Dockerfile, or "-" for an archive or a
    /// Dockerfile on standard input
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Name of the image, "name[:tag]"
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tag: Vec<String>,
    /// The Dockerfile, a file or a URL; "-" is standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Set a build argument; without a value it is taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// A context beside the build context, "NAME=DIR", "NAME=docker-image://IMAGE" or "NAME=oci-layout://DIR[:TAG]"
    #[arg(long, value_name = "NAME=WHERE")]
    pub build_context: Vec<String>,
    /// Add a label to the image
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Take nothing from the cache
    #[arg(long)]
    pub no_cache: bool,
    /// Take nothing from the cache in these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Network of RUN steps that do not say
    #[arg(long, value_enum, default_value = "default")]
    pub network: StepNetwork,
    /// Pull images that the build starts from, though they are there: "missing" and "never" by name
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_value = "missing",
        default_missing_value = "always")]
    pub pull: PullWhen,
    /// Platform to build for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", env = "DOCKER_DEFAULT_PLATFORM")]
    pub platform: Option<String>,
    /// How progress is shown [default: $BUILDKIT_PROGRESS, else auto]
    #[arg(long, value_enum)]
    pub progress: Option<ProgressMode>,
    /// Print the image id only
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the image id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Where the result goes: "DIR", "-" for a tar, or "type=image|registry|local|tar|oci|docker|cacheonly,dest=PATH"
    #[arg(short, long, value_name = "DEST")]
    pub output: Vec<Output>,
    /// Give RUN steps a secret: "id=ID,src=FILE" or "id=ID,env=NAME"
    #[arg(long, value_name = "SECRET")]
    pub secret: Vec<String>,
    /// Let RUN steps use an agent of ssh: "default", "ID=SOCKET" or "ID=KEY[,KEY]"
    #[arg(long, value_name = "AGENT")]
    pub ssh: Vec<String>,
    /// Let RUN steps do more than the usual, where the builder allows it too: "network.host", "security.insecure",
    /// "device", "device=NAME[,alias=NAME]"
    #[arg(long, value_name = "ENTITLEMENT")]
    pub allow: Vec<String>,
    /// Add a line to /etc/hosts of RUN steps
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// Size of /dev/shm in RUN steps [default: 64m]
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Limit each process of RUN steps, "nofile=1024:2048"
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    #[command(flatten)]
    pub limits: SharedLimitFlags,
    /// Push the image to the registry of its names
    #[arg(long)]
    pub push: bool,
    /// Keep the image in the store, as happens unless --output says otherwise
    #[arg(long)]
    pub load: bool,
    #[command(flatten)]
    pub legacy: Legacy,
}

// What Docker takes and what has no effect here, or only this value.
#[derive(Debug, Args)]
pub struct Legacy {
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    rm: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    force_rm: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    compress: Option<bool>,
    #[arg(long, hide = true, value_parser = no_attestation)]
    provenance: Option<()>,
    #[arg(long, hide = true, value_parser = no_attestation)]
    sbom: Option<()>,
    #[arg(long, hide = true, value_parser = no_attestation)]
    attest: Vec<()>,
    #[arg(long, hide = true, value_parser = only_build)]
    call: Option<()>,
}

/// Images have no attestations: who asks for none has what he wants.
fn no_attestation(text: &str) -> Result<(), String> {
    let is_none = matches!(text.to_lowercase().as_str(), "false" | "0" | "f")
        || text.split(',').any(|part| matches!(part.trim(), "disabled=true" | "disabled=1"));
    if is_none { Ok(()) } else { Err("attestations are not available yet: only \"false\" is taken".to_owned()) }
}

fn only_build(text: &str) -> Result<(), String> {
    if text == "build" { Ok(()) } else { Err("only \"build\" is available yet".to_owned()) }
}
