//! `ctl builder`: the build cache.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Build, Format};

/// `ctl builder`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Builder {
    /// Build an image from a Dockerfile, as `ctl build` does
    Build(Box<Build>),
    /// Keep an eye on what RUN --mount=type=cache keeps
    #[command(subcommand)]
    Cache(CacheMounts),
    /// Show what the build cache holds
    Du(CacheDu),
    /// Remove build cache
    Prune(CachePrune),
}

/// `ctl builder cache`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum CacheMounts {
    /// List cache mounts
    Ls(CacheLs),
    /// Write a cache mount as a tar
    Export(CacheExport),
    /// Make a cache mount of a tar, in place of what has its id
    Import(CacheImport),
    /// Remove cache mounts that no build uses
    Rm(CacheRm),
}

// `ctl builder cache ls`
#[derive(Debug, Args)]
pub struct CacheLs {
    /// Keys only
    #[arg(short, long)]
    pub quiet: bool,
    /// Format of the output
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

// `ctl builder cache export`
#[derive(Debug, Args)]
pub struct CacheExport {
    /// Id of the mount, or its key or how that begins
    #[arg(value_name = "ID")]
    pub mount: String,
    /// The file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

// `ctl builder cache import`
#[derive(Debug, Args)]
pub struct CacheImport {
    /// Id of the mount
    #[arg(value_name = "ID")]
    pub id: String,
    /// The tar [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
}

// `ctl builder cache rm`
#[derive(Debug, Args)]
pub struct CacheRm {
    /// Ids of mounts, or their keys or how those begin
    #[arg(value_name = "ID", required = true)]
    pub mounts: Vec<String>,
}

// `ctl builder du`
#[derive(Debug, Args)]
pub struct CacheDu {
    /// Show everything about each record
    #[arg(long)]
    pub verbose: bool,
    /// Only these: "id=KEY", "description~=TEXT", "inuse", "shared", "private", "until=24h"
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

// `ctl builder prune`
#[derive(Debug, Args)]
pub struct CachePrune {
    /// What images share, too
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Show everything about each record
    #[arg(long)]
    pub verbose: bool,
    /// Only these: "id=KEY", "description~=TEXT", "shared", "private", "until=24h"
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// So much stays in any case
    #[arg(long, alias = "keep-storage", value_name = "BYTES")]
    pub reserved_space: Option<String>,
    /// Remove until no more is used
    #[arg(long, value_name = "BYTES")]
    pub max_used_space: Option<String>,
    /// Remove until so much of the disk is free
    #[arg(long, value_name = "BYTES")]
    pub min_free_space: Option<String>,
}
