//! `ctl image explore`. Thresholds are called as those of `dive --ci`.

use clap::Args;

use crate::explore::rules::{parse_bytes, parse_share};

// `ctl image explore`
#[derive(Debug, Args)]
pub struct Explore {
    /// The image
    pub image: String,
    /// Print a summary, also on a terminal
    #[arg(long, conflicts_with = "json")]
    pub plain: bool,
    /// Print everything as one JSON document
    #[arg(long)]
    pub json: bool,
    /// Check the thresholds; exit with 1 if one is not kept
    #[arg(long)]
    pub ci: bool,
    /// Least share of the image's bytes that can be seen, 0 to 1
    #[arg(long, requires = "ci", default_value = "0.9", value_name = "SHARE", value_parser = parse_share)]
    pub lowest_efficiency: Option<f64>,
    /// Most bytes that later layers overwrote or removed: 20MB, say [default: no limit]
    #[arg(long, requires = "ci", value_name = "BYTES", value_parser = parse_bytes)]
    pub highest_wasted_bytes: Option<u64>,
    /// Most wasted bytes as a share of what is above the bottom layer, 0 to 1
    #[arg(long, requires = "ci", default_value = "0.1", value_name = "SHARE", value_parser = parse_share)]
    pub highest_user_wasted_percent: Option<f64>,
}
