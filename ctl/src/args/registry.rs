//! Flags of the commands that speak to registries.

use clap::{Args, ValueEnum};
use strata_registry::Secret;

use super::Format;

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PullWhen {
    /// Each time: there may be a newer one
    #[value(alias = "true")]
    Always,
    /// When it is not there
    #[value(alias = "false")]
    Missing,
    /// Not at all
    Never,
}

// `ctl login`
#[derive(Debug, Args)]
pub struct Login {
    /// The registry [default: docker.io]
    pub server: Option<String>,
    /// The user
    #[arg(short, long)]
    pub username: Option<String>,
    /// The password; others can read it there: --password-stdin is better
    #[arg(short, long, value_parser = secret, conflicts_with = "password_stdin")]
    pub password: Option<Secret>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
}

// The parser of a flag, which clap wants to be fallible.
#[allow(clippy::unnecessary_wraps)]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

// `ctl logout`
#[derive(Debug, Args)]
pub struct Logout {
    /// The registry [default: docker.io]
    pub server: Option<String>,
}

// `ctl pull`
#[derive(Debug, Args)]
pub struct Pull {
    /// The image, "name[:tag][@digest]"
    pub image: String,
    /// All tags of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// The images of all platforms, whatever --platform says
    #[arg(long)]
    pub all_platforms: bool,
    /// The image of this platform, "linux/arm64"
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", env = "DOCKER_DEFAULT_PLATFORM")]
    pub platform: Option<String>,
    /// Print the name only
    #[arg(short, long)]
    pub quiet: bool,
    /// Taken as Docker takes it, and of no effect
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub disable_content_trust: Option<bool>,
}

// `ctl search`
#[derive(Debug, Args)]
pub struct Search {
    /// What to look for, in Docker Hub or in the registry that is named before it
    #[arg(value_name = "[REGISTRY/]TERM")]
    pub term: String,
    /// Only these: "is-official=true|false", "is-automated=true|false", "stars=LEAST"
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Format of the output: "table", "json", or a template for each, in columns behind "table"
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// The most repositories that the registry is asked for, up to 100
    #[arg(long, value_name = "NUMBER", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// Do not cut descriptions
    #[arg(long)]
    pub no_trunc: bool,
}

/// How layers are compressed that are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PushCompression {
    /// gzip: every client reads it
    Gzip,
    /// zstd: smaller and faster
    Zstd,
    /// Not at all
    None,
}

/// Form of manifests and indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ManifestFormat {
    /// OCI's
    Oci,
    /// Docker's, which knows no zstd
    #[value(alias = "v2s2")]
    Docker,
}

// `ctl push`
#[derive(Debug, Args)]
pub struct Push {
    /// The image, "name[:tag]"
    pub image: String,
    /// All tags of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Only the image of this platform, "linux/arm64"
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// How layers are compressed that have no compressed form yet [default: the registry's setting, else gzip]
    #[arg(long, value_enum)]
    pub compression: Option<PushCompression>,
    /// Form of manifests there, for old clients [default: their own]
    #[arg(long, value_enum)]
    pub format: Option<ManifestFormat>,
    /// Compress all layers as --compression says, those too that are compressed in another way
    #[arg(long, requires = "compression")]
    pub force_compression: bool,
    /// Print the name only
    #[arg(short, long)]
    pub quiet: bool,
    /// Taken as Docker takes it, and of no effect
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub disable_content_trust: Option<bool>,
}
