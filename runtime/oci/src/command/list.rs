//! `list`: every container below the root directory.

use std::{fs, io::ErrorKind, path::Path};

use serde_json::{Value, json};

use crate::state::State;

/// Lists the containers.
#[derive(clap::Args)]
pub struct List {
    /// Form of the list.
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Prints names only.
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub fn run(&self, root: &Path) -> Result<(), String> {
        let documents = documents(root)?;
        if self.quiet {
            return super::say(&documents.iter().map(|one| format!("{}\n", text(one, "id"))).collect::<String>());
        }
        if self.format == "json" {
            return super::say(&format!("{}\n", json!(documents)));
        }
        let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned).to_vec();
        let rows = documents.iter().map(|one| {
            ["id", "pid", "status", "bundle", "created", "owner"].iter().map(|name| text(one, name)).collect()
        });
        super::say(&table(&std::iter::once(head).chain(rows).collect::<Vec<Vec<String>>>()))
    }
}

/// Returns the documents by name; a container that goes away meanwhile is not listed.
fn documents(root: &Path) -> Result<Vec<Value>, String> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", root.display())),
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let states = names.iter().filter_map(|name| State::load(root, name).ok());
    Ok(states
        .map(|state| {
            let mut document = state.document();
            document["owner"] = json!(state.owner());
            document
        })
        .collect())
}

fn text(document: &Value, name: &str) -> String {
    document[name].as_str().map_or_else(|| document[name].to_string(), str::to_owned)
}

fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}
