//! `ctl load` and `ctl save`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

// `ctl load`
#[derive(Debug, Args)]
pub struct Load {
    /// The archive: an OCI layout or a docker-archive, as tar (plain, gzip, bzip2, xz or zstd) or as a directory
    /// [default: standard input]
    #[arg(short, long)]
    pub input: Option<PathBuf>,
    /// Only the image of this platform, "linux/arm64" [default: all; that for this host is unpacked]
    #[arg(long)]
    pub platform: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

// `ctl save`
#[derive(Debug, Args)]
pub struct Save {
    /// The images
    #[arg(required = true)]
    pub images: Vec<String>,
    /// Where to: a file, or a directory that is empty [default: standard output]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Only the image of this platform, "linux/arm64" [default: all that is here]
    #[arg(long)]
    pub platform: Option<String>,
    /// Form of the archive
    #[arg(long, value_enum, default_value = "docker-archive")]
    pub format: ArchiveFormat,
    /// Compression of the layers of images that were built or imported here; others go as they came
    #[arg(long, value_enum, default_value = "gzip")]
    pub compression: ArchiveCompression,
}

/// Form of a saved archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArchiveFormat {
    /// An OCI layout that Docker reads too
    DockerArchive,
    /// An OCI layout
    #[value(alias = "oci-archive")]
    Oci,
    /// An OCI layout as a directory
    OciDir,
}

/// What becomes of layers that have no compressed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArchiveCompression {
    /// gzip
    Gzip,
    /// zstd
    Zstd,
    /// As they are
    None,
}
