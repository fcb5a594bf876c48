//! `ctl cp`

use clap::Args;

// `ctl cp`
#[derive(Debug, Args)]
pub struct Cp {
    /// Keep owners, set-id bits and attributes
    #[arg(short, long)]
    pub archive: bool,
    /// Copy what a link leads to, where the source is one
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Say nothing of what was copied
    #[arg(short, long)]
    pub quiet: bool,
    /// What to copy: CONTAINER:PATH, a path of this host, or "-", a tar on standard input
    pub source: String,
    /// Where to: CONTAINER:PATH, a path of this host, or "-", a tar on standard output
    pub destination: String,
}
