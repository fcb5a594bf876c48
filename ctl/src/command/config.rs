//! `ctl config show`

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use strata_rpc::paths;
use toml::Value;

use crate::args::{Config, ConfigShow, Format};
use crate::error::{Error, Result};
use crate::render;
use crate::render::list::{self, Row};
use crate::settings::{SETTINGS, Setting, VARIABLES};

/// Names of the files, in the order in which they are shown.
const FILES: [&str; 4] = ["strata", "store", "builder", "runtime"];

/// Shows settings.
pub fn run(command: &Config) -> Result<u8> {
    let Config::Show(args) = command;
    let files: Vec<&str> = args.file.map_or(FILES.to_vec(), |file| vec![file.name()]);
    if args.defaults && args.format.is_none() {
        let texts: Vec<String> = files.iter().map(|file| defaults(file)).collect();
        render::text(&texts.join("\n"))?;
        return Ok(0);
    }
    let mut shown = Vec::new();
    for file in files {
        shown.extend(of_file(file, args.defaults)?);
    }
    if args.file.is_none() {
        shown.extend(variables(args));
    }
    let row = |one: Shown| Row {
        cells: vec![one.file.clone(), one.key.clone(), one.value.clone(), one.origin.clone()],
        fields: json!({
            "File": one.file, "Key": one.key, "Value": one.value, "Origin": one.origin, "Description": one.what,
        }),
    };
    let format = args.format.clone().unwrap_or(Format::Table);
    list::print(&format, &["FILE", "KEY", "VALUE", "ORIGIN"], shown.into_iter().map(row).collect())?;
    Ok(0)
}

/// A setting as it is shown.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    file: String,
    key: String,
    value: String,
    origin: String,
    what: String,
}

/// A file as it could be, with what holds without it.
pub fn defaults(file: &str) -> String {
    let mut text = format!("# {file}.toml\n");
    let mut tables: Vec<&str> = Vec::new();
    for setting in SETTINGS.iter().filter(|setting| setting.file == file) {
        if !tables.contains(&setting.table) {
            tables.push(setting.table);
        }
    }
    // What stands at the top comes before all tables.
    tables.sort_by_key(|table| !table.is_empty());
    for table in tables {
        let is_example = is_example(table);
        let mark = if is_example { "# " } else { "" };
        match table.starts_with("[[") {
            _ if table.is_empty() => {}
            true => text.push_str(&format!("\n{mark}{table}\n")),
            false => text.push_str(&format!("\n{mark}[{table}]\n")),
        }
        for setting in SETTINGS.iter().filter(|setting| setting.file == file && setting.table == table) {
            text.push_str(&format!("# {}\n", setting.what));
            match setting.default {
                Some(value) => text.push_str(&format!("{mark}{} = {value}\n", setting.key)),
                None => text.push_str(&format!("# {} =\n", setting.key)),
            }
        }
    }
    text
}

/// A table of which there are as many as somebody writes.
fn is_example(table: &str) -> bool {
    table.starts_with("[[") || table.contains("\"NAME\"")
}

fn of_file(file: &str, is_defaults: bool) -> Result<Vec<Shown>> {
    let path = paths::config(file);
    let mut written = if is_defaults { BTreeMap::new() } else { read(&path)? };
    let origin = path.display().to_string();
    let mut shown = Vec::new();
    for setting in SETTINGS.iter().filter(|setting| setting.file == file && !is_example(setting.table)) {
        let key = full_key(setting);
        let (value, origin) = match (written.remove(&key), setting.default) {
            (Some(value), _) => (value, origin.clone()),
            (None, Some(value)) => (value.to_owned(), "default".to_owned()),
            (None, None) => ("-".to_owned(), "default".to_owned()),
        };
        shown.push(Shown { file: format!("{file}.toml"), key, value, origin, what: setting.what.to_owned() });
    }
    // Tables of which there are as many as somebody writes; and what no service would take.
    shown.extend(written.into_iter().map(|(key, value)| Shown {
        file: format!("{file}.toml"),
        key,
        value,
        origin: origin.clone(),
        what: String::new(),
    }));
    Ok(shown)
}

fn full_key(setting: &Setting) -> String {
    if setting.table.is_empty() { setting.key.to_owned() } else { format!("{}.{}", setting.table, setting.key) }
}

/// What a file says: values by their full keys. None without the file.
fn read(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::new(format!("cannot read {}: {error}", path.display()))),
    };
    let table: toml::Table =
        text.parse().map_err(|error| Error::new(format!("invalid configuration {}: {error}", path.display())))?;
    let mut found = BTreeMap::new();
    flatten("", &Value::Table(table), &mut found);
    Ok(found)
}

fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let Value::Table(table) = value else {
        found.insert(path.to_owned(), value.to_string());
        return;
    };
    for (key, value) in table {
        let is_bare = key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        let key = if is_bare { key.clone() } else { format!("{key:?}") };
        let path = if path.is_empty() { key } else { format!("{path}.{key}") };
        // A table that stands where a value is known is that value.
        match SETTINGS.iter().any(|setting| full_key(setting) == path) && !is_known_table(&path) {
            true => drop(found.insert(path, value.to_string())),
            false => flatten(&path, value, found),
        }
    }
}

fn is_known_table(path: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.table == path || setting.table.starts_with(&format!("{path}.")))
}

fn variables(args: &ConfigShow) -> impl Iterator<Item = Shown> {
    let is_defaults = args.defaults;
    VARIABLES.iter().map(move |variable| {
        // Of several in one row the first that is set.
        let set = variable.name.split(", ").find_map(std::env::var_os).filter(|_| !is_defaults);
        let (value, origin) = match set {
            // A proxy's URL may hold a password.
            Some(_) if variable.name.contains("PROXY") => ("(set)".to_owned(), "environment"),
            Some(value) => (value.to_string_lossy().into_owned(), "environment"),
            None if variable.default.is_empty() => ("-".to_owned(), "default"),
            None => (variable.default.to_owned(), "default"),
        };
        let (key, origin) = (variable.name.to_owned(), origin.to_owned());
        Shown { file: "environment".to_owned(), key, value, origin, what: variable.what.to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_files_that_could_be() {
        for file in FILES {
            let text = defaults(file);
            let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{file}: {error}\n{text}"));
            let mut found = BTreeMap::new();
            flatten("", &Value::Table(table), &mut found);
            let known =
                SETTINGS.iter().filter(|one| one.file == file && one.default.is_some() && !is_example(one.table));

            assert_eq!(found.len(), known.count(), "{file}: {found:?}");
        }
    }

    #[test]
    fn what_a_file_says_is_shown_with_the_file() {
        let mut found = BTreeMap::new();
        let text = "[registries]\nattempts = 2\n[registries.host.\"r.example:5000\"]\nplain_http = true\n";
        flatten("", &Value::Table(text.parse().unwrap()), &mut found);

        let expected = [("registries.attempts", "2"), ("registries.host.\"r.example:5000\".plain_http", "true")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
}
