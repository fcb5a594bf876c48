//! Flags of `ctl image cp`.

use clap::Args;

// `ctl image cp`
#[derive(Debug, Args)]
pub struct ImageCopy {
    /// The image, where it is; without a context that in use
    #[arg(value_name = "[CONTEXT:]IMAGE")]
    pub source: String,
    /// Where it shall be, and under which name; "CONTEXT:" keeps the name
    #[arg(value_name = "[CONTEXT:]IMAGE")]
    pub target: String,
    /// The images of all platforms, whatever --platform says
    #[arg(long)]
    pub all_platforms: bool,
    /// The image of this platform, "linux/arm64" [default: that of the target's host]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", env = "DOCKER_DEFAULT_PLATFORM")]
    pub platform: Option<String>,
    /// Move compressed layers as they are, so that the target can push them without the registry they are from
    #[arg(long)]
    pub keep_compressed: bool,
    /// Print the name only
    #[arg(short, long)]
    pub quiet: bool,
}
