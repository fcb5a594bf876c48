//! `ctl builder`: the build cache.

use clap::{Args, Subcommand};

use super::{Build, Format};

/// `ctl builder`
#[derive(Debug, Subcommand)]
pub enum Builder {
    /// Build an image from a Dockerfile, as `ctl build` does
    Build(Box<Build>),
    /// Show what the build cache holds
    Du(CacheDu),
    /// Remove build cache
    Prune(CachePrune),
}

/// `ctl builder du`
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

/// `ctl builder prune`
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
