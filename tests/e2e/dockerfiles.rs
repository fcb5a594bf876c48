//! Mistakes in a Dockerfile: where, what, and what was probably meant.

use strata_tests::{Context, House};

/// A build that fails, with these words in its error, and leaves no image.
fn fails(house: &House, dockerfile: &str, words: &[&str]) -> strata_tests::Output {
    let context = Context::new(dockerfile).file("there", "x");
    let output = house.build(&context, "wrong").fails().complains(words);
    assert_eq!(house.ctl(&["images", "-q", "wrong"]).ok().stdout, "", "no image of a failed build");
    output
}

#[test]
fn a_mistake_is_shown_with_line_column_and_caret() {
    let house = House::with_guest();

    let output = fails(&house, "FROM guest\n\nCOPPY there /x\n", &["Dockerfile:3:1", "COPPY there /x", "^", "COPY"]);
    let lines: Vec<&str> = output.stderr.lines().collect();
    let shown = lines.iter().position(|line| line.contains("COPPY there /x")).unwrap();
    let caret = lines[shown + 1].find('^').expect("a caret below the line");
    assert_eq!(caret, lines[shown].find("COPPY").unwrap(), "{output:?}");
    fails(&house, "FROM guest\nCOPY --chwon=1 there /x\n", &["Dockerfile:2:6", "--chwon", "^", "--chown"]);
    fails(&house, "FROM guest\nRUN [\"/guest\", \"noop\"]\nCOPY there\n", &["Dockerfile:3:", "COPY"]);
    fails(&house, "RUN early\nFROM guest\n", &["Dockerfile:1:1", "FROM"]);
    fails(&house, "", &["Dockerfile"]);
    fails(&house, "FROM guest\nENV\n", &["Dockerfile:2:", "ENV"]);
    fails(&house, "FROM guest\nRUN <<EOF\nnever ends\n", &["Dockerfile:2:", "EOF"]);
    fails(&house, "FROM guest\nWORKDIR ${A:?must be set}\n", &["Dockerfile:2:", "must be set"]);
    fails(&house, "FROM guest\nEXPOSE what\n", &["Dockerfile:2:", "what"]);
}

#[test]
fn what_is_not_there_yet_says_so_where_it_stands() {
    let house = House::with_guest();

    fails(&house, "FROM guest\nADD https://example.org/x /x\n", &["Dockerfile:2:", "^"]);
}

#[test]
fn a_missing_base_image_is_named() {
    let house = House::with_guest();

    fails(&house, "FROM guest\nFROM no-such:image\n", &["Dockerfile:2:", "no-such:image"]);
    fails(&house, "FROM guest\nCOPY --from=nowhere:1 /a /b\n", &["Dockerfile:2:", "nowhere:1"]);
}

#[test]
fn a_missing_source_says_whether_it_was_ignored() {
    let house = House::with_guest();

    let absent = fails(&house, "FROM guest\nCOPY absent /x\n", &["Dockerfile:2:", "absent"]);
    let error = absent.stderr.rsplit("ctl: ").next().unwrap();
    assert!(!error.contains(".dockerignore"), "{absent:?}");
    let context =
        Context::new("FROM guest\nCOPY notes.tmp /x\n").file("notes.tmp", "x").file(".dockerignore", "*.tmp\n");
    house.build(&context, "wrong").fails().complains(&["Dockerfile:2:", "notes.tmp", ".dockerignore", "*.tmp"]);
    fails(&house, "FROM guest AS a\nFROM guest\nCOPY --from=a /absent /x\n", &["Dockerfile:3:", "/absent"]);
}

#[test]
fn a_failing_step_shows_its_output_its_code_and_its_line() {
    let house = House::with_guest();

    let output = fails(
        &house,
        "FROM guest\nENV A=b\nRUN [\"/guest\", \"then\", \"say\", \"so far so good\", \"it breaks\", \"+\", \"exit\", \"42\"]\n",
        &["Dockerfile:3", "42", "so far so good", "it breaks"],
    );
    assert_eq!(output.code, 1, "{output:?}");
    fails(&house, "FROM guest\nRUN [\"/no-such-program\"]\n", &["Dockerfile:2", "/no-such-program", "127"]);
    fails(&house, "FROM guest\nRUN there is no shell\n", &["Dockerfile:2", "/bin/sh"]);
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout, "", "no container of a failed step");
}

#[test]
fn a_context_that_is_none_is_named() {
    let house = House::with_guest();

    house.ctl(&["build", "/no/such/directory"]).fails().complains(&["/no/such/directory"]);
    let empty = tempfile::tempdir_in("/var/tmp").unwrap();
    house.ctl(&["build", empty.path().to_str().unwrap()]).fails().complains(&["Dockerfile"]);
}
