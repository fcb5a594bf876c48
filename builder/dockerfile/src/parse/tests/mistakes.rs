//! The whole text of every mistake, as people see it: `corpus/mistakes.txt` holds Dockerfiles and what is said of each.

use std::{fs, path::Path};

use crate::parse;

const CASE: &str = "==== ";
const SAID: &str = "\n----\n";

/// `STRATA_WRITE=1` writes what is said instead of comparing it.
#[test]
fn what_is_said_of_every_mistake_is_as_recorded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/mistakes.txt");
    let text = fs::read_to_string(&path).unwrap();
    let mut expected = String::new();
    for case in text.split(CASE).skip(1) {
        let (name, rest) = case.split_once('\n').expect("a case has a name");
        let (dockerfile, _) = rest.split_once(SAID).unwrap_or_else(|| panic!("{name} has no ----"));
        let said = match parse(dockerfile, "Dockerfile") {
            Ok(file) => panic!("{name} is no mistake: {file:#?}"),
            Err(error) => error.render(),
        };
        expected.push_str(&format!("{CASE}{name}\n{dockerfile}{SAID}{said}\n\n"));
    }
    let expected = format!("{}\n", expected.trim_end());

    if std::env::var_os("STRATA_WRITE").is_some() {
        fs::write(&path, expected).unwrap();
    } else {
        assert_eq!(text, expected, "run with STRATA_WRITE=1, and look at what has changed");
    }
}

#[test]
fn every_mistake_has_a_caret_below_its_place_and_a_hint_where_one_helps() {
    let text = include_str!("../../../corpus/mistakes.txt");
    let said = text.split(CASE).skip(1).map(|case| case.split_once(SAID).unwrap().1.trim_end());
    let mut hints = 0;
    for said in said {
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("Dockerfile:"), "{said}");
        assert!(lines[2].contains('^'), "{said}");
        hints += usize::from(lines.len() > 3);
    }

    assert!(hints >= 80, "only {hints} mistakes have a hint");
}
