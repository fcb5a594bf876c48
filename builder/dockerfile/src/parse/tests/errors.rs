//! What people read when a Dockerfile is wrong.

use crate::parse;

fn rendered(text: &str) -> String {
    match parse(text, "Dockerfile") {
        Ok(file) => panic!("{text:?} was accepted: {file:?}"),
        Err(error) => error.render(),
    }
}

#[test]
fn a_misspelt_instruction_is_shown_with_a_caret_and_a_suggestion() {
    assert_eq!(
        rendered("FROM a\n\n    RNU echo hi\n"),
        "Dockerfile:3:5: unknown instruction \"RNU\"\n 3 |     RNU echo hi\n   |     ^^^\ndid you mean \"RUN\"?"
    );
}

#[test]
fn a_misspelt_flag_is_shown_with_a_caret_and_a_suggestion() {
    assert_eq!(
        rendered("FROM a\nCOPY \\\n  --chwon=1:1 a b\n"),
        "Dockerfile:3:3: unknown flag \"--chwon\" of COPY\n 3 |   --chwon=1:1 a b\n   |   ^^^^^^^\n\
         did you mean \"--chown\"?"
    );
}

#[test]
fn a_lost_continuation_is_guessed() {
    assert_eq!(
        rendered("FROM a\nRUN x\n  && y\n"),
        "Dockerfile:3:3: unknown instruction \"&&\"\n 3 |   && y\n   |   ^^\ndoes the line above lack its \\ at the end?"
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = rendered("FROM a\n\u{1b}[31mRUN\tx\n");

    assert!(!text.contains(['\u{1b}', '\t']), "{text:?}");
}

#[test]
fn long_lines_are_cut_around_the_caret() {
    let text = rendered(&format!("FROM a\nENV {}=1 oops {}\n", "a".repeat(500), "b".repeat(500)));

    assert!(text.lines().all(|line| line.chars().count() < 200), "{text}");
    let caret = text.lines().nth(2).unwrap().find('^').unwrap();
    assert!(text.lines().nth(1).unwrap()[caret..].starts_with("oops"), "{text}");
}

#[test]
fn columns_count_characters() {
    let text = rendered("FROM a\nLABEL ü=ö nope\n");

    assert!(text.starts_with("Dockerfile:2:11: "), "{text}");
    assert!(text.contains("\n   |           ^^^^\n"), "{text}");
}

#[test]
fn every_mistake_points_at_its_place() {
    let cases = [
        ("", "1:1: the file holds no instructions"),
        ("# only comments\n", "2:1: the file holds no instructions"),
        ("ARG a\n", "2:1: the file holds no FROM"),
        ("RUN a\nFROM b", "1:1: RUN before the first FROM: only ARG may stand there"),
        ("FROM", "1:1: FROM requires an image or a stage"),
        ("FROM a b", "1:8: FROM takes one image, or an image, AS and a name"),
        ("FROM a AS", "1:8: FROM takes one image, or an image, AS and a name"),
        ("FROM a AS b c", "1:8: FROM takes one image, or an image, AS and a name"),
        ("FROM a AS 1b", "1:11: invalid stage name \"1b\": it must start with a letter"),
        ("FROM a AS b/c", "1:11: invalid stage name \"b/c\""),
        ("FROM --platfrom=x a", "1:6: unknown flag \"--platfrom\" of FROM"),
        ("FROM --platform a", "1:6: flag --platform needs a value"),
        ("# escape=x\nFROM a", "1:10: invalid escape character \"x\": it must be \\ or `"),
        ("# escape=`\n# escape=`\nFROM a", "2:1: only one escape directive can be used"),
        ("# syntax=a\n#syntax=b\nFROM a", "2:1: only one syntax directive can be used"),
        ("# check=nonsense\nFROM a", "1:9: invalid check option \"nonsense\""),
        ("# check=error=maybe\nFROM a", "1:9: invalid value \"maybe\" of the check option error"),
        ("// syntax=a\n// syntax=b\nFROM a", "2:1: only one syntax directive can be used"),
        ("{\"syntax\": \"a/b\", \"x\": 1}", "1:1: the file is a definition in JSON for the frontend \"a/b\""),
        ("FROM a\n\\\n", "2:1: a continued line without an instruction"),
        ("FROM a\nRUN", "2:1: RUN requires at least one argument"),
        ("FROM a\nRUN []", "2:5: RUN requires a command"),
        ("FROM a\nRUN [\"a\", 1]", "2:11: a list in JSON form may hold strings only"),
        ("FROM a\nRUN --mount=type=bidn,target=/x y", "2:13: invalid value \"bidn\" of mount option \"type\""),
        ("FROM a\nRUN --network=hots x", "2:15: invalid --network=hots: it must be one of default, none, host"),
        ("FROM a\nRUN --network=none --network=host x", "2:20: flag --network is given twice"),
        ("FROM a\nRUN <<EOF\nx\n", "2:5: this heredoc is never ended: no line is \"EOF\""),
        ("FROM a\nRUN <<A <<B\nx\nA\n", "2:9: this heredoc is never ended: no line is \"B\""),
        ("FROM a\nCOPY", "2:1: COPY requires at least one source and a destination"),
        ("FROM a\nCOPY x", "2:6: COPY requires at least one source and a destination, but has one argument"),
        ("FROM a\nADD [\"x\"]", "2:6: ADD requires at least one source and a destination, but has one argument"),
        ("FROM a\nCOPY x <<EOF\nEOF", "2:8: COPY cannot write to a heredoc: it can only be a source"),
        ("FROM a\nCOPY [\"x\", \"<<EOF\"]", "2:12: COPY cannot write to a heredoc: it can only be a source"),
        ("FROM a\nRUN --mount=target=/x,from=$y z", "2:13: variables do not expand in mount option \"from\""),
        ("FROM a\nRUN --mount=target=$x,from=$y z", "2:13: variables do not expand in mount option \"from\""),
        ("FROM a\nCOPY << EOF /x\nEOF", "2:6: COPY cannot use this heredoc"),
        ("FROM a\nCOPY --from=$x a b", "2:13: variables do not expand in --from"),
        ("FROM a\nCOPY --chmod=999 a b", "2:14: invalid mode \"999\""),
        ("FROM a\nCOPY --link= a b", "2:6: flag --link needs a value after ="),
        ("FROM a\nCOPY --link=yes a b", "2:13: flag --link must be true or false, not \"yes\""),
        ("FROM a\nCOPY --chown=1 --chown=2 a b", "2:16: flag --chown is given twice"),
        ("FROM a\nADD --from=b c d", "2:5: unknown flag \"--from\" of ADD"),
        ("FROM a\nENV", "2:1: ENV requires at least one argument"),
        ("FROM a\nENV x", "2:5: ENV \"x\" has no value: write ENV x=value"),
        ("FROM a\nENV x=1 y", "2:9: \"y\" lacks a =: ENV takes name=value pairs"),
        ("FROM a\nENV =1", "2:5: the name of an ENV cannot be empty"),
        ("FROM a\nLABEL a=b =1", "2:11: the name of a LABEL cannot be empty"),
        ("FROM a\nENV --x=1 y=2", "2:5: unknown flag \"--x\" of ENV"),
        ("FROM a\nARG", "2:1: ARG requires at least one argument"),
        ("FROM a\nARG =1", "2:5: the name of an ARG cannot be empty"),
        ("FROM a\nCMD", "2:1: CMD requires at least one argument"),
        ("FROM a\nEXPOSE", "2:1: EXPOSE requires at least one argument"),
        ("FROM a\nUSER", "2:1: USER requires exactly one argument"),
        ("FROM a\nVOLUME [\"\"]", "2:9: the path of a VOLUME cannot be empty"),
        ("FROM a\nVOLUME []", "2:1: VOLUME requires at least one argument"),
        ("FROM a\nSHELL /bin/sh -c", "2:7: SHELL requires its arguments in JSON form"),
        ("FROM a\nSHELL []", "2:1: SHELL requires at least one argument"),
        ("FROM a\nHEALTHCHECK", "2:1: HEALTHCHECK requires CMD or NONE"),
        ("FROM a\nHEALTHCHECK NONE x", "2:18: HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CMD", "2:13: HEALTHCHECK CMD requires a command"),
        ("FROM a\nHEALTHCHECK CMDD x", "2:13: HEALTHCHECK requires CMD or NONE, not \"CMDD\""),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x", "2:24: invalid duration \"5\""),
        ("FROM a\nHEALTHCHECK --timeout=1us CMD x", "2:23: duration \"1us\" is too short"),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", "2:23: invalid number of retries \"-1\""),
        ("FROM a\nONBUILD", "2:1: ONBUILD requires an instruction"),
        ("FROM a\nONBUILD FROM b", "2:9: FROM cannot be an ONBUILD trigger"),
        ("FROM a\nONBUILD onbuild RUN b", "2:9: ONBUILD cannot be an ONBUILD trigger"),
        ("FROM a\nONBUILD MAINTAINER b", "2:9: MAINTAINER cannot be an ONBUILD trigger"),
        ("FROM a\nONBUILD RNU b", "2:9: unknown instruction \"RNU\""),
        ("FROM a\nONBUILD COPY b", "2:14: COPY requires at least one source and a destination"),
    ];
    for (text, expected) in cases {
        let first = rendered(text).lines().next().unwrap_or_default().to_owned();
        let expected = format!("Dockerfile:{expected}");
        assert!(first.starts_with(&expected), "{text:?}\n  got: {first}\n want: {expected}");
    }
}

#[test]
fn a_line_that_is_too_long_is_shown_and_the_longest_is_read() {
    let line = |length: usize| format!("FROM a\nENV a={}\nUSER b\n", "x".repeat(length - "ENV a=".len()));

    assert!(parse(&line(65_535), "Dockerfile").is_ok());
    let text = rendered(&line(65_536));
    assert!(text.starts_with("Dockerfile:2:1: this line is longer than 65535 bytes\n"), "{text}");
    assert!(text.len() < 1000, "{text}");
}

#[test]
fn a_delimiter_with_blanks_is_explained() {
    let text = rendered("FROM a\nRUN <<EOF\nx\n  EOF\n");

    assert!(text.ends_with("\"EOF\" must stand alone on its line, without blanks"), "{text}");
}
