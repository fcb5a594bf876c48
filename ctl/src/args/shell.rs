//! `ctl completion` and `ctl man`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

// `ctl completion`
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell: `source <(ctl completion bash)`
    pub shell: CompletionShell,
}

/// Shells that ask for completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletionShell {
    /// bash: `source <(ctl completion bash)`, in ~/.bashrc for every time
    Bash,
    /// fish: `ctl completion fish | source`
    Fish,
    /// zsh: `source <(ctl completion zsh)`, after compinit
    Zsh,
}

// `ctl man`
#[derive(Debug, Args)]
pub struct Man {
    /// Directory to write to, "/usr/local/share/man"
    pub directory: PathBuf,
}
