//! `ctl build`: docker's flags.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Network, PullWhen};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A live view on a terminal, plain lines elsewhere
    #[value(alias = "tty")]
    Auto,
    /// Plain lines
    Plain,
}

/// `ctl build`
#[derive(Debug, Args)]
pub struct Build {
    /// Directory of the build context
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Name of the image, "name[:tag]"
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tag: Vec<String>,
    /// The Dockerfile; "-" is standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Set a build argument; without a value it is taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Add a label to the image
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Take nothing from the cache
    #[arg(long)]
    pub no_cache: bool,
    /// Network of RUN steps
    #[arg(long, value_enum, default_value = "host")]
    pub network: Network,
    /// Pull images that the build starts from, though they are there: "missing" and "never" by name
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_value = "missing",
        default_missing_value = "always")]
    pub pull: PullWhen,
    /// Platform to build for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", env = "DOCKER_DEFAULT_PLATFORM")]
    pub platform: Option<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS")]
    pub progress: ProgressMode,
    /// Print the image id only
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the image id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
}
