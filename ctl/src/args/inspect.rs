//! `ctl inspect`.

use clap::Args;

use super::Format;

/// `ctl inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// Images or containers
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Format of the output: "json", or a template for each
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Look only for "image" or "container"
    #[arg(long = "type", value_parser = ["image", "container"])]
    pub kind: Option<String>,
}
