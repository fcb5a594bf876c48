//! `ctl commit`

use clap::{ArgAction, Args};

// `ctl commit`
#[derive(Debug, Args)]
pub struct Commit {
    /// Who made it, "Ada <ada@example.org>"
    #[arg(short, long)]
    pub author: Option<String>,
    /// Instruction for the config: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or
    /// WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Comment for the history
    #[arg(short, long)]
    pub message: Option<String>,
    /// Let the container go on meanwhile
    #[arg(long)]
    pub no_pause: bool,
    /// Let the container stand still meanwhile
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
        action = ArgAction::Set)]
    pub pause: bool,
    /// The container
    pub container: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}
