//! What a guest is told to do, and how that went.

use std::path::PathBuf;

/// A command for a guest.
#[derive(Debug, Clone)]
pub struct Job {
    /// One word.
    pub name: &'static str,
    /// A line for the shell.
    pub command: String,
    /// The test binary of ours that it calls.
    pub binary: Option<PathBuf>,
    /// Files of this host that it takes along, and where it finds them.
    pub files: Vec<(PathBuf, &'static str)>,
}

/// How a job went.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Exit status; None: the guest ended before it did.
    pub status: Option<i32>,
    /// Both streams.
    pub output: String,
    /// How long it took, in seconds.
    pub seconds: u32,
}

impl Job {
    /// A command.
    pub fn new(name: &'static str, command: &str) -> Self {
        Self { name, command: command.to_owned(), binary: None, files: Vec::new() }
    }

    /// The same, with a file of this host, which it finds under an absolute path.
    pub fn with(mut self, source: PathBuf, target: &'static str) -> Self {
        self.files.push((source, target));
        self
    }

    /// Those tests of ours whose names contain one of `filters`, from the binary that cargo made of `source`.
    pub fn tests(name: &'static str, source: &str, filters: &[&str]) -> Self {
        let binary = strata_tests::test_binary(source);
        let command = format!("exec '{}' --color=never {}", binary.display(), filters.join(" "));
        Self { name, command, binary: Some(binary), files: Vec::new() }
    }
}

impl Done {
    /// How many tests passed.
    pub fn passed(&self) -> u32 {
        let number = |line: &str| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok();
        self.output.lines().filter_map(number).sum()
    }
}
