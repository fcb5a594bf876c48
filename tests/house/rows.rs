//! The rows of the builder's language: each names tests that exist, and the builder's README shows them all.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

const BEGIN: &str = "<!-- rows: written by `STRATA_WRITE=1 cargo test --release -p strata-tests --test house rows` -->";
const END: &str = "<!-- end of rows -->";

/// One claim and what proves it.
struct Row {
    subject: String,
    claim: String,
    /// `file::test` each; none where it is missing.
    tests: Vec<String>,
}

/// The rows of each section, in the order of the file.
fn sections() -> Vec<(String, Vec<Row>)> {
    let text = fs::read_to_string(strata_tests::repository().join("builder/rows.txt")).unwrap();
    let mut sections: Vec<(String, Vec<Row>)> = vec![];
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(title) => sections.push((title.to_owned(), vec![])),
            None => sections.last_mut().expect("a section comes first").1.push(row(line)),
        }
    }
    sections
}

fn row(line: &str) -> Row {
    let parts: Vec<&str> = line.split(" | ").collect();
    let [subject, claim, tests] = parts[..] else { panic!("no \"subject | claim | tests\": {line}") };
    let tests = tests.split_whitespace().filter(|test| *test != "missing").map(str::to_owned).collect();
    Row { subject: subject.to_owned(), claim: claim.to_owned(), tests }
}

#[test]
fn every_row_of_the_builders_language_names_tests_that_exist() {
    let root = strata_tests::repository();
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = vec![];

    for (_, rows) in sections() {
        for test in rows.iter().flat_map(|row| &row.tests) {
            let Some((file, name)) = test.split_once("::") else { panic!("no file::test: {test}") };
            let text = sources.entry(file.to_owned()).or_insert_with(|| read(&root, file));
            // A case of the differential test is as good as a test.
            let is_there = if file.ends_with(".txt") { has_case(text, name) } else { has_test(text, name) };
            if !is_there {
                wrong.push(test.clone());
            }
        }
    }

    assert!(wrong.is_empty(), "builder/rows.txt names tests that are not there:\n{}", wrong.join("\n"));
}

fn read(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join(file)).unwrap_or_default()
}

fn has_case(text: &str, name: &str) -> bool {
    text.lines().filter_map(|line| line.strip_prefix("@@ case ")).any(|line| line.split(' ').next() == Some(name))
}

/// Is there a test of this name? Its attribute stands above it, perhaps with others between.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let head = |line: &str| line.trim_start_matches("async ").strip_prefix("fn ").map(str::to_owned);
    let is_it = |line: &str| head(line).is_some_and(|line| line.split(['(', '<']).next() == Some(name));
    let at = lines.iter().position(|line| is_it(line));
    at.is_some_and(|at| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with('#') || line.starts_with("//"));
        above.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn the_builders_readme_shows_every_row() {
    let path = strata_tests::repository().join("builder/README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("README.md has the beginning of the rows");
    let (_, after) = rest.split_once(END).expect("README.md has the end of the rows");
    let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", table());

    if std::env::var_os("STRATA_WRITE").is_some() {
        fs::write(&path, expected).unwrap();
    } else {
        assert!(text == expected, "builder/README.md is not up to date: run with STRATA_WRITE=1");
    }
}

fn table() -> String {
    let mut text = String::new();
    for (title, rows) in sections() {
        let _ = write!(text, "\n### {title}\n\n| Subject | Claim | Test |\n|---|---|---|\n");
        for Row { subject, claim, tests } in rows {
            let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
            let tests = if tests.is_empty() { "missing".to_owned() } else { tests.join(", ") };
            let _ = writeln!(text, "| {subject} | {claim} | {tests} |");
        }
    }
    text
}
