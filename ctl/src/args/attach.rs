//! What connects `ctl` to a process: `ctl attach`, and the flags that other commands share with it.

use clap::{ArgAction, Args, ValueEnum};

// `ctl attach`
#[derive(Debug, Args)]
pub struct Attach {
    /// Do not attach to standard input
    #[arg(long)]
    pub no_stdin: bool,
    #[command(flatten)]
    pub attaching: Attaching,
    /// The container
    pub container: String,
}

// How one attaches to a container.
#[derive(Debug, Args)]
pub struct Attaching {
    #[command(flatten)]
    pub keys: DetachKeys,
    /// Pass signals on to the process, unless it has a terminal
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true
    )]
    pub sig_proxy: bool,
}

// How one leaves a terminal.
#[derive(Debug, Args)]
pub struct DetachKeys {
    /// Keys that leave a terminal, and the process alone [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamName {
    /// Standard input
    Stdin,
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}
