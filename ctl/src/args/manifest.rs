//! `ctl manifest`: Docker's commands for manifest lists, and podman's where Docker has none.

use clap::{Args, Subcommand};

use super::{Format, ManifestFormat};

/// `ctl manifest`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Manifest {
    /// Add images to a list
    Add(ManifestAdd),
    /// Say what an image of a list is for
    Annotate(ManifestAnnotate),
    /// Make a list of images, of the store or of registries
    Create(ManifestCreate),
    /// Print a list that was made here, or a manifest or an index as its registry has it
    Inspect(ManifestInspect),
    /// Show the lists that were made here
    Ls(ManifestLs),
    /// Send a list to its registry, with what that does not have
    Push(ManifestPush),
    /// Take images out of a list
    Remove(ManifestRemove),
    /// Delete lists
    Rm(ManifestRm),
}

// `ctl manifest add`
#[derive(Debug, Args)]
pub struct ManifestAdd {
    /// Everything that an index lists [default: its image for this host]
    #[arg(long)]
    pub all: bool,
    /// What is said of the entries
    #[command(flatten)]
    pub says: Says,
    /// The list
    pub list: String,
    /// The images
    #[arg(required = true)]
    pub images: Vec<String>,
}

// `ctl manifest annotate`
#[derive(Debug, Args)]
pub struct ManifestAnnotate {
    /// Give the annotations to the list itself
    #[arg(long)]
    pub index: bool,
    /// What is said of the entry
    #[command(flatten)]
    pub says: Says,
    /// The list
    pub list: String,
    /// The image, by name or digest
    #[arg(required_unless_present = "index")]
    pub image: Option<String>,
}

// What an entry says of its image.
#[derive(Debug, Args)]
pub struct Says {
    /// Annotation
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Architecture
    #[arg(long)]
    pub arch: Option<String>,
    /// Operating system
    #[arg(long)]
    pub os: Option<String>,
    /// Features of the operating system
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    pub os_features: Vec<String>,
    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    pub os_version: Option<String>,
    /// Variant of the architecture
    #[arg(long)]
    pub variant: Option<String>,
}

// `ctl manifest create`
#[derive(Debug, Args)]
pub struct ManifestCreate {
    /// Everything that an index lists [default: its image for this host]
    #[arg(long)]
    pub all: bool,
    /// Add to a list that is there
    #[arg(short, long)]
    pub amend: bool,
    /// The list
    pub list: String,
    /// The images
    pub images: Vec<String>,
}

// `ctl manifest inspect`
#[derive(Debug, Args)]
pub struct ManifestInspect {
    /// Print what the entries of an index stand for, as Docker does
    #[arg(short, long)]
    pub verbose: bool,
    /// The list or image
    pub image: String,
}

// `ctl manifest ls`
#[derive(Debug, Args)]
pub struct ManifestLs {
    /// Print names only
    #[arg(short, long)]
    pub quiet: bool,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

// `ctl manifest push`
#[derive(Debug, Args)]
pub struct ManifestPush {
    /// Delete the list afterwards
    #[arg(short, long, alias = "rm")]
    pub purge: bool,
    /// Form of the list and its images there, for old clients [default: their own]
    #[arg(short, long, value_enum)]
    pub format: Option<ManifestFormat>,
    /// Print the digest only
    #[arg(short, long)]
    pub quiet: bool,
    /// Podman's word for what is done anyway
    #[arg(long, hide = true)]
    pub all: bool,
    /// The list
    pub list: String,
    /// Its name at the registry [default: the same]
    pub destination: Option<String>,
}

// `ctl manifest remove`
#[derive(Debug, Args)]
pub struct ManifestRemove {
    /// The list
    pub list: String,
    /// The images, by name or digest
    #[arg(required = true)]
    pub images: Vec<String>,
}

// `ctl manifest rm`
#[derive(Debug, Args)]
pub struct ManifestRm {
    /// The lists
    #[arg(required = true)]
    pub lists: Vec<String>,
}
