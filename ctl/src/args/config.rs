//! `ctl config`.

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

/// `ctl config`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Config {
    /// Show every setting and variable: what holds on this host, and where that is from
    Show(ConfigShow),
}

// `ctl config show`
#[derive(Debug, Args)]
pub struct ConfigShow {
    /// Show what holds without any file, as files that could be
    #[arg(long)]
    pub defaults: bool,
    /// Format of the output: "table", "json", or a template for each
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Only this file
    pub file: Option<ConfigFile>,
}

/// A configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConfigFile {
    /// builder.toml
    Builder,
    /// runtime.toml
    Runtime,
    /// store.toml
    Store,
    /// strata.toml, which all services and ctl read
    Strata,
}

impl ConfigFile {
    /// The file's name without ".toml".
    pub fn name(self) -> &'static str {
        match self {
            Self::Builder => "builder",
            Self::Runtime => "runtime",
            Self::Store => "store",
            Self::Strata => "strata",
        }
    }
}
