//! The table in README.md says what the tests say.

use std::{fs, path::Path};

const BEGIN: &str =
    "<!-- conformance: written by `STRATA_WRITE=1 cargo test -p strata-oci --test conformance table` -->";
const END: &str = "<!-- end of conformance -->";

/// `STRATA_WRITE=1` writes the table instead of comparing it.
#[test]
fn the_table_of_the_readme_is_that_of_the_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("README.md has the beginning of the table");
    let (_, after) = rest.split_once(END).expect("README.md has the end of the table");
    let rows = rows(&root.join("tests/conformance"));
    let table = format!("{BEGIN}\n\n| Specification | Claim | Test |\n|---|---|---|\n{rows}\n{END}");
    let expected = format!("{before}{table}{after}");

    if std::env::var_os("STRATA_WRITE").is_some() {
        fs::write(&path, expected).unwrap();
    } else {
        assert!(text == expected, "the table is not up to date: run with STRATA_WRITE=1");
    }
}

fn rows(tests: &Path) -> String {
    let mut rows = Vec::new();
    collect(tests, "", &mut rows);
    assert!(!rows.is_empty());
    rows.sort();
    rows.concat()
}

/// Adds the rows of the files of a directory, whose tests are in modules of that name.
fn collect(directory: &Path, module: &str, rows: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let module = format!("{module}{}::", name.trim_end_matches(".rs"));
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &module, rows);
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(claim) = line.trim().strip_prefix("/// Spec: ") else { continue };
            let function = lines[index..].iter().find_map(|line| line.trim().strip_prefix("fn "));
            let function = function.and_then(|line| line.split('(').next()).expect("a claim stands above a test");
            let (section, claim) = claim.split_once(": ").expect("Spec: DOCUMENT, SECTION: CLAIM");
            rows.push(format!("| {section} | {claim} | `{module}{function}` |\n"));
        }
    }
}
