//! `ctl volume`: Docker's group, and export and import.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Format, format};

/// `ctl volume`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Volume {
    /// Create a volume
    Create(VolumeCreate),
    /// Write what is in a volume as a tar
    Export(VolumeExport),
    /// Fill a volume from a tar
    Import(VolumeImport),
    /// Show details of volumes as JSON
    Inspect(VolumeInspect),
    /// List volumes
    #[command(alias = "list")]
    Ls(VolumeLs),
    /// Remove volumes that no container uses
    Prune(VolumePrune),
    /// Remove volumes
    #[command(alias = "remove")]
    Rm(VolumeRm),
}

// `ctl volume create`
#[derive(Debug, Args)]
pub struct VolumeCreate {
    /// Driver: "local", the only one
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    pub driver: String,
    /// Add a label
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Option of the driver: "type=none", "o=bind" and "device=DIR" for a directory of the host
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    /// Its name; without one the volume is anonymous
    #[arg(value_name = "VOLUME")]
    pub name: Option<String>,
}

// `ctl volume export`
#[derive(Debug, Args)]
pub struct VolumeExport {
    /// The file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The volume
    #[arg(value_name = "VOLUME")]
    pub name: String,
}

// `ctl volume import`
#[derive(Debug, Args)]
pub struct VolumeImport {
    /// What is in the volume goes
    #[arg(long)]
    pub replace: bool,
    /// The volume; it is made where there is none
    #[arg(value_name = "VOLUME")]
    pub name: String,
    /// The tar, compressed or not [default: standard input]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

// `ctl volume inspect`
#[derive(Debug, Args)]
pub struct VolumeInspect {
    /// Format of the output: "json", or a template for each
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// The volumes
    #[arg(required = true, value_name = "VOLUME")]
    pub names: Vec<String>,
}

// `ctl volume ls`
#[derive(Debug, Args)]
pub struct VolumeLs {
    /// Only these: "dangling=true", "driver=local", "label=KEY[=VALUE]", "name=TEXT"
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Print names only
    #[arg(short, long)]
    pub quiet: bool,
    /// Format of the output: "table", "json", "raw", or a template for each, in columns behind "table"
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::of_volumes)]
    pub format: Format,
}

// `ctl volume prune`
#[derive(Debug, Args)]
pub struct VolumePrune {
    /// Those with a name too
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only these: "label=KEY[=VALUE]", "label!=KEY[=VALUE]"
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
}

// `ctl volume rm`
#[derive(Debug, Args)]
pub struct VolumeRm {
    /// It does not matter whether there is one
    #[arg(short, long)]
    pub force: bool,
    /// The volumes
    #[arg(required = true, value_name = "VOLUME")]
    pub names: Vec<String>,
}
