//! `ps`: the processes of a container, as ids or as the host's `ps` shows them.

use std::{path::Path, process::Command};

use crate::state::State;

/// Where programs of the host are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Lists the processes of a container.
#[derive(clap::Args)]
pub struct Ps {
    /// Form of the list.
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Name of the container.
    id: String,
    /// Options for the host's ps, which must show a column PID.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Ps {
    pub fn run(&self, root: &Path) -> Result<(), String> {
        let pids = State::load(root, &self.id)?.pids()?;
        if self.format == "json" {
            return super::say(&format!("{}\n", serde_json::json!(pids)));
        }
        let options = if self.options.is_empty() { vec!["-ef".to_owned()] } else { self.options.clone() };
        // Where the caller stands is no place to look for it.
        let output = Command::new("ps")
            .args(&options)
            .env("PATH", PATH)
            .current_dir("/")
            .output()
            .map_err(|error| format!("cannot run ps: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!("ps failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        super::say(&select(&text, &pids)?)
    }
}

/// Returns the title and the lines whose column PID is one of `pids`.
fn select(text: &str, pids: &[i32]) -> Result<String, String> {
    let title = text.lines().next().unwrap_or_default();
    let column = title.split_whitespace().position(|word| word == "PID").ok_or("ps shows no column PID")?;
    let of = |line: &&str| line.split_whitespace().nth(column)?.parse().ok().filter(|pid| pids.contains(pid));
    let lines = text.lines().skip(1).filter(|line| of(line).is_some());
    Ok(std::iter::once(title).chain(lines).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_selected_by_the_column_of_ids_alone() {
        let text = "UID   PID PPID CMD\nroot    7    1 a 42\nroot   42    7 b\n";

        assert_eq!(select(text, &[42]).unwrap(), "UID   PID PPID CMD\nroot   42    7 b\n");
        assert!(select("UID\n", &[1]).unwrap_err().contains("no column PID"));
    }
}
