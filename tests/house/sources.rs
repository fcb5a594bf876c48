//! How sources look: one fence around `unsafe`, no room called "stuff", the names at the top level.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The one file with `unsafe` in it.
const FENCE: &str = "runtime/init/src/sys.rs";

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !name.starts_with("target") {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// Every Rust file as (path in the repository, text).
fn files() -> Vec<(String, String)> {
    let root = strata_tests::repository();
    let mut found = vec![];
    sources(&root, &mut found);
    found.sort();
    assert!(found.len() > 50, "the walk found only {} files", found.len());
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The code of a line: what is left without comments and string literals.
fn code(line: &str) -> String {
    let line = line.split("//").next().unwrap_or_default();
    line.split('"').step_by(2).collect()
}

/// Does the code use the word, as a word of its own?
fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[test]
fn unsafe_stands_behind_one_fence() {
    let mut wrong = vec![];
    for (file, text) in files() {
        for (number, line) in text.lines().enumerate().filter(|_| file != FENCE) {
            // The word in this file is the test's own.
            if has_word(&code(line), "unsafe") && !file.starts_with("tests/house/") {
                wrong.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }

    assert!(wrong.is_empty(), "unsafe outside {FENCE}:\n{}", wrong.join("\n"));
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let text = fs::read_to_string(strata_tests::repository().join(FENCE)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut blocks = 0;

    for (number, line) in lines.iter().enumerate() {
        if has_word(&code(line), "unsafe") && !line.contains("#!") && !line.contains("#[") {
            blocks += 1;
            let above = &lines[number.saturating_sub(6)..number];
            assert!(above.iter().any(|line| line.contains("SAFETY:")), "{FENCE}:{}: no SAFETY note", number + 1);
        }
    }

    assert!(blocks > 0, "{FENCE} has no unsafe block: the fence stands elsewhere");
}

#[test]
fn no_file_is_called_stuff() {
    for (file, _) in files() {
        let path = Path::new(&file);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name != "mod.rs", "{file}: a module is named by its file");
        for part in file.split('/').map(|part| part.trim_end_matches(".rs")) {
            for stuff in ["util", "utils", "common", "helper", "helpers", "misc", "manager"] {
                assert!(part != stuff, "{file} could hold anything");
            }
        }
    }
}

#[test]
fn every_file_opens_by_saying_what_lives_there() {
    // What tests.rs holds is said by the file above it.
    let named = files().into_iter().filter(|(file, _)| !file.ends_with("/tests.rs"));
    let wrong: Vec<String> = named.filter(|(_, text)| !opens(text)).map(|(file, _)| file).collect();

    assert!(wrong.is_empty(), "no //! at the top of {}", wrong.join(", "));
}

fn opens(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 10)
}

#[test]
fn the_top_level_shows_the_architecture() {
    let allowed = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "Makefile",
        "README.md",
        "builder",
        "ctl",
        "proto",
        "runtime",
        "store",
        "tests",
    ];

    for entry in fs::read_dir(strata_tests::repository()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_known = allowed.contains(&name.as_str()) || name.starts_with('.') || name.starts_with("target");
        assert!(is_known || name == "rustfmt.toml", "{name} is no part of the house");
    }
}
