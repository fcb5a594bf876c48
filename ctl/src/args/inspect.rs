//! `ctl inspect`.

use clap::{Args, ValueEnum};

use super::Format;

// `ctl inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// Containers, images, networks and volumes
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Format of the output: "json", or a template for each
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Show how much containers have written
    #[arg(short, long)]
    pub size: bool,
    /// Platform of images to look for, where one has several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Look only for such things
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<InspectKind>,
}

/// What can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InspectKind {
    /// Containers
    Container,
    /// Images
    Image,
    /// Networks
    Network,
    /// Volumes
    Volume,
}
