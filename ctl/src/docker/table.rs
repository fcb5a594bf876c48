//! The table of README.md: Docker's commands and flags, and what of them is there. It is made of the command line itself.

use std::path::Path;

use clap::Command;

use super::{COMMANDS, why};
use crate::args::Cli;

const START: &str = "<!-- made by the tests of ctl/src/docker/table.rs -->\n";
const END: &str = "<!-- end -->";

/// Says whether a command takes a flag, under any name of it. Some are known only to be refused with a reason.
fn takes(command: &Command, flag: &str) -> bool {
    let is_refused = |arg: &clap::Arg| arg.get_help().is_some_and(|help| help.to_string().contains("and refused"));
    command.get_arguments().filter(|arg| !is_refused(arg)).any(|arg| match flag.strip_prefix("--") {
        Some(long) => {
            arg.get_long_and_visible_aliases().unwrap_or_default().contains(&long)
                || arg.get_all_aliases().unwrap_or_default().contains(&long)
        }
        None => {
            let short = flag.chars().nth(1);
            arg.get_short() == short
                || short.is_some_and(|short| arg.get_all_short_aliases().unwrap_or_default().contains(&short))
        }
    })
}

/// One line for each command.
fn table() -> String {
    let mut text = String::from("| Docker | here | flags | not there |\n|---|---|---|---|\n");
    let all = Cli::whole();
    for (name, flags) in COMMANDS {
        let found = name.split_whitespace().try_fold(&all, |at, word| at.find_subcommand(word));
        let shown = if name.is_empty() { "before the command".to_owned() } else { format!("`{name}`") };
        let Some(command) = found else {
            let reason = why(name, "").unwrap_or("not yet");
            text.push_str(&format!("| {shown} | no: {reason} | | |\n"));
            continue;
        };
        let (there, missing): (Vec<&str>, Vec<&str>) = flags.split_whitespace().partition(|flag| takes(command, flag));
        let there = there.iter().map(|flag| format!("`{flag}`")).collect::<Vec<_>>().join(" ");
        // A short form goes with the long one that has the reason.
        let reasons = missing.iter().filter(|flag| flag.len() > 2 || missing.len() == 1).map(|flag| {
            let reason = why(name, flag).unwrap_or("not yet");
            format!("`{flag}`: {reason}")
        });
        text.push_str(&format!("| {shown} | yes | {there} | {} |\n", reasons.collect::<Vec<_>>().join("; ")));
    }
    text
}

#[test]
fn the_table_of_the_readme_says_what_the_command_line_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(START).expect("README.md has a place for the table");
    let (_, after) = rest.split_once(END).expect("the table has an end");
    let expected = format!("{before}{START}{}{END}{after}", table());

    if std::env::var_os("STRATA_WRITE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }

    assert!(
        std::fs::read_to_string(&path).unwrap() == expected,
        "the table is not that of the command line; `STRATA_WRITE=1 cargo test --release --workspace --bins table` writes it"
    );
}

#[test]
fn no_reason_is_given_for_what_is_there_or_what_docker_has_not() {
    let all = Cli::whole();
    for (of, _) in super::WHY {
        let (name, flag) =
            of.split_once("--").map_or((*of, None), |(name, flag)| (name.trim(), Some(format!("--{flag}"))));
        assert!(COMMANDS.iter().any(|(own, _)| *own == name), "Docker has no {name:?}");
        let found = name.split_whitespace().try_fold(&all, |at, word| at.find_subcommand(word));
        match (found, flag) {
            (Some(command), Some(flag)) => assert!(!takes(command, &flag), "{of} is there"),
            (Some(_), None) => panic!("{of} is there"),
            (None, _) => {}
        }
    }
}
