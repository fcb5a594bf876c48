use super::*;
use crate::ast::{CommandForm, Copy, Healthcheck, Script};
use std::time::Duration;

mod errors;
mod mistakes;
mod render;

fn ok(text: &str) -> Dockerfile {
    parse(text, "Dockerfile").unwrap_or_else(|error| panic!("{text:?}:\n{}", error.render()))
}

/// Parses `line` in a stage and returns its kind.
fn kind(line: &str) -> Kind {
    let file = ok(&format!("FROM scratch\n{line}\n"));
    assert_eq!(file.stages[0].instructions.len(), 1, "{line:?}");
    file.stages[0].instructions[0].kind.clone()
}

fn copy(line: &str) -> Copy {
    match kind(line) {
        Kind::Copy(copy) => copy,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn run(line: &str) -> crate::ast::Run {
    match kind(line) {
        Kind::Run(run) => run,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn values(words: &[crate::ast::Word]) -> Vec<&str> {
    words.iter().map(|word| word.as_str()).collect()
}

#[test]
fn stages_have_names_bases_and_platforms() {
    let file = ok("ARG V=1 W\nFROM --platform=$X debian:$V AS Build\nRUN a\nfrom build as two\nFROM scratch");

    let stages: Vec<_> = file
        .stages
        .iter()
        .map(|s| (s.index, s.line, s.name.as_ref().map(|n| n.as_str()), s.base.as_str(), s.instructions.len()))
        .collect();
    assert_eq!(
        stages,
        [(0, 2, Some("build"), "debian:$V", 1), (1, 4, Some("two"), "build", 0), (2, 5, None, "scratch", 0)]
    );
    assert_eq!(file.stages[0].platform.as_ref().unwrap().value, "$X");
    let args: Vec<_> =
        file.global_args.iter().map(|a| (a.name.as_str(), a.default.as_ref().map(|d| d.as_str()))).collect();
    assert_eq!(args, [("V", Some("1")), ("W", None)]);
}

#[test]
fn stages_are_found_by_name_or_number_among_earlier_ones() {
    let file = ok("FROM a AS one\nFROM b AS two\nFROM c AS ONE\nFROM d");

    assert_eq!(file.stage("One", 2).unwrap().index, 0);
    assert_eq!(file.stage("one", 4).unwrap().index, 2);
    assert_eq!(file.stage("1", 4).unwrap().index, 1);
    assert!(file.stage_named("1", 4).is_none());
    assert_eq!(file.stage_named("TWO", 4).unwrap().index, 1);
    assert!(file.stage("two", 1).is_none());
    assert!(file.stage("3", 3).is_none());
    assert_eq!(
        file.warnings[0].to_string(),
        "Dockerfile:3:11: stage \"one\" hides the one of line 1: names should be unique"
    );
}

#[test]
fn directives_are_read_at_the_top_only() {
    let cases = [
        ("# syntax=docker/dockerfile:1\n# escape=`\nFROM a", Some("docker/dockerfile:1"), '`'),
        ("#Syntax = x extra\nFROM a", Some("x"), '\\'),
        ("\u{feff}# escape=`\nFROM a", None, '`'),
        ("#!/usr/bin/env x\n# escape=`\nFROM a", None, '`'),
        ("# comment\n# escape=`\nFROM a", None, '\\'),
        ("\n# escape=`\nFROM a", None, '\\'),
        ("# unknown=1\n# escape=`\nFROM a", None, '\\'),
        ("# escape=`\r\nFROM a", None, '`'),
        ("// syntax=a/b:1 c\nFROM a", Some("a/b:1"), '\\'),
    ];
    for (text, syntax, escape) in cases {
        let directives = ok(text).directives;
        assert_eq!((directives.syntax.as_ref().map(|w| w.as_str()), directives.escape), (syntax, escape), "{text:?}");
    }
    let check = ok("# check=skip=A error=true\nFROM a").directives.check.unwrap();
    assert_eq!(check.as_str(), "skip=A");
    let check = ok("# check=skip=A,B;error=true\nFROM a").directives.check.unwrap();
    assert_eq!(check.as_str(), "skip=A,B;error=true");
}

#[test]
fn the_escape_directive_changes_continuations() {
    let file = ok("# escape=`\nFROM a\nCOPY x C:\\\nRUN a `\n  b");

    assert_eq!(file.stages[0].instructions[1].original, "RUN a   b");
}

#[test]
fn commands_are_lists_or_text_for_the_shell() {
    let exec = |words: &[&str]| CommandForm::Exec(words.iter().map(|w| w.to_string()).collect());
    let shell = |text: &str| CommandForm::Shell(text.to_owned());
    let cases = [
        ("CMD [\"a\", \"b c\"]", exec(&["a", "b c"])),
        ("CMD []", exec(&[])),
        ("CMD echo hi", shell("echo hi")),
        ("CMD ['a']", shell("['a']")),
        ("CMD [ -f x ] && y", shell("[ -f x ] && y")),
        ("CMD [\"a\"", shell("[\"a\"")),
        ("cmd a \\\n  # note\n  b", shell("a   b")),
    ];
    for (line, expected) in cases {
        assert_eq!(kind(line), Kind::Cmd(expected), "{line:?}");
    }
}

#[test]
fn run_has_flags_and_a_command() {
    let run = run("RUN --mount=type=cache,target=/c --mount=target=/b --network=none --security=sandbox make all");

    assert_eq!(run.form, CommandForm::Shell("make all".into()));
    assert_eq!(run.mounts.len(), 2);
    assert_eq!(run.network.unwrap().value, "none");
}

#[test]
fn heredocs_of_run_become_scripts() {
    let shell = |text: &str| Script::Shell(text.to_owned());
    let cases = [
        ("RUN <<EOF\na\nb\nEOF", shell("a\nb\n")),
        ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF", shell("a\nb\n")),
        ("RUN <<-EOF\n\t#!/bin/x\n\ty\n\tEOF", Script::File { name: "EOF".into(), content: "#!/bin/x\ny\n".into() }),
        ("RUN <<EOF\n#!/bin/x\ny\nEOF", Script::File { name: "EOF".into(), content: "#!/bin/x\ny\n".into() }),
        ("RUN cat <<EOF > /x\na\nEOF", shell("cat <<EOF > /x\na\nEOF")),
        ("RUN a <<1 b <<2\nx\n1\ny\n2", shell("a <<1 b <<2\nx\n1\ny\n2")),
        ("RUN python3 <<'PY'\nprint()\nPY", shell("python3 <<'PY'\nprint()\nPY")),
        ("RUN --network=none <<EOF\na\nEOF", shell("a\n")),
        ("RUN echo $((1<<2)) <<<x", shell("echo $((1<<2)) <<<x")),
        ("RUN [\"a\", \"<<b\"]", Script::Exec(vec!["a".into(), "<<b".into()])),
        ("RUN cat <<EOF\n# not a comment\n\\\n\nEOF", shell("cat <<EOF\n# not a comment\n\\\n\nEOF")),
    ];
    for (line, expected) in cases {
        assert_eq!(run(line).script(), expected, "{line:?}");
    }
}

#[test]
fn what_follows_a_heredoc_is_parsed_again() {
    let file = ok("FROM a\nRUN <<EOF\nFROM x\nEOF\nUSER b\nCOPY <<A <<\"B\" /d/\n1\nA\n2\nB\nCMD c\n");

    let lines: Vec<_> = file.stages[0].instructions.iter().map(|i| (i.kind.name(), i.line, i.end_line)).collect();
    assert_eq!(lines, [("RUN", 2, 4), ("USER", 5, 5), ("COPY", 6, 10), ("CMD", 11, 11)]);
}

#[test]
fn copy_has_sources_a_destination_and_heredocs() {
    let plain =
        copy("COPY --from=build --chown=1:2 --chmod=755 --link --parents=false --exclude=a --exclude=b x y* /z/");
    assert_eq!(values(&plain.sources), ["x", "y*"]);
    assert_eq!(plain.destination.as_str(), "/z/");
    assert_eq!(plain.from.unwrap().value, "build");
    assert!(plain.link.unwrap().value);
    assert!(!plain.parents.unwrap().value);
    assert_eq!(plain.exclude.len(), 2);

    let json = copy("COPY [\"a b\", \"<<c\", \"/d\"]");
    assert_eq!(values(&json.sources), ["a b", "<<c"]);

    let inline = copy("COPY <<A x <<-\"B\" /d/\n$one\nA\n\ttwo\n\tB");
    assert_eq!(values(&inline.sources), ["x"]);
    let files: Vec<_> = inline.heredocs.iter().map(|h| (h.name.as_str(), h.text(), h.expand)).collect();
    assert_eq!(files, [("A", "$one\n".to_owned(), true), ("B", "two\n".to_owned(), false)]);
}

#[test]
fn add_has_its_own_flags() {
    let Kind::Add(add) = kind("ADD --checksum=sha256:ab --keep-git-dir --unpack=FALSE http://x/y /z") else { panic!() };

    assert_eq!(add.checksum.unwrap().value, "sha256:ab");
    assert!(add.keep_git_dir.unwrap().value);
    assert!(!add.unpack.unwrap().value);
}

#[test]
fn pairs_keep_quotes_and_the_legacy_form_takes_the_line() {
    let pairs = |line| match kind(line) {
        Kind::Env(pairs) | Kind::Label(pairs) => {
            pairs.into_iter().map(|p| (p.key.value, p.value.value, p.is_legacy)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let pair = |key: &str, value: &str, legacy| (key.to_owned(), value.to_owned(), legacy);
    assert_eq!(
        pairs("ENV a=b c=\"d e\" f=g\\ h"),
        [pair("a", "b", false), pair("c", "\"d e\"", false), pair("f", "g\\ h", false)]
    );
    assert_eq!(pairs("ENV a  b c=d"), [pair("a", "b c=d", true)]);
    assert_eq!(pairs("LABEL \"a b\"='c' d="), [pair("\"a b\"", "'c'", false), pair("d", "", false)]);
    assert_eq!(pairs("ENV a=b \\\n  # c=d\n  e=f"), [pair("a", "b", false), pair("e", "f", false)]);
}

#[test]
fn the_other_instructions_are_typed() {
    let words = |kind: Kind| match kind {
        Kind::Expose(words) | Kind::Volume(words) => words.into_iter().map(|w| w.value).collect::<Vec<_>>(),
        Kind::User(w) | Kind::Workdir(w) | Kind::Stopsignal(w) | Kind::Maintainer(w) => vec![w.value],
        Kind::Shell(words) => words,
        other => panic!("{other:?}"),
    };
    let cases: &[(&str, &[&str])] = &[
        ("EXPOSE 80 443/tcp  $P", &["80", "443/tcp", "$P"]),
        ("VOLUME /a /b", &["/a", "/b"]),
        ("VOLUME [\"/a b\"]", &["/a b"]),
        ("USER a:b", &["a:b"]),
        ("WORKDIR /a b", &["/a b"]),
        ("STOPSIGNAL SIGTERM", &["SIGTERM"]),
        ("MAINTAINER A B <c@d>", &["A B <c@d>"]),
        ("SHELL [\"/bin/bash\", \"-c\"]", &["/bin/bash", "-c"]),
    ];
    for (line, expected) in cases {
        assert_eq!(words(kind(line)), *expected, "{line}");
    }
}

#[test]
fn health_checks_have_durations() {
    let line = "HEALTHCHECK --interval=1m30s --retries=3 --start-period=0 CMD curl x";
    let Kind::Healthcheck(Healthcheck::Probe(probe)) = kind(line) else { panic!() };

    assert_eq!(probe.command, CommandForm::Shell("curl x".into()));
    assert_eq!(probe.interval.unwrap().value, Duration::from_secs(90));
    assert_eq!(probe.retries.unwrap().value, 3);
    assert!(probe.timeout.is_none());
    assert_eq!(kind("HEALTHCHECK none"), Kind::Healthcheck(Healthcheck::None));
}

#[test]
fn triggers_keep_their_text_and_parse_again() {
    let cases = [
        ("ONBUILD RUN a", "RUN a", "RUN"),
        ("onbuild   copy --from=x a b", "copy --from=x a b", "COPY"),
        ("ONBUILD RUN <<EOF\na\nEOF", "RUN <<EOF\na\nEOF", "RUN"),
        ("ONBUILD COPY <<A <<B /\n1\nA\n2\nB", "COPY <<A <<B /\n1\nA\n2\nB", "COPY"),
        ("ONBUILD ENV a=b \\\n c=d", "ENV a=b  c=d", "ENV"),
    ];
    for (line, expression, trigger) in cases {
        let Kind::Onbuild(onbuild) = kind(line) else { panic!("{line:?}") };
        assert_eq!((onbuild.expression.as_str(), onbuild.trigger), (expression, trigger), "{line:?}");
        let (_, instruction) = parse_trigger(&onbuild.expression, "trigger").unwrap();
        assert_eq!(instruction.kind.name(), trigger, "{line:?}");
    }
}

#[test]
fn triggers_of_images_are_checked() {
    for text in ["FROM x", "ONBUILD RUN a", "MAINTAINER x", "RUN a\nRUN b", "", "# c", "NOPE"] {
        assert!(parse_trigger(text, "trigger").is_err(), "{text:?}");
    }
}

#[test]
fn spans_cover_the_words_they_are_about() {
    let text =
        "FROM a\r\nRUN --network=none \\\r\n  make\r\nCOPY --chown=1 \\\r\n   # c\r\n  <<EOF /dest\r\nbody\r\nEOF\r\n";
    let file = ok(text);
    let at = |span: Span| &text[span.start..span.end];
    let [run, copy] = &file.stages[0].instructions[..] else { panic!() };

    assert_eq!(at(run.span), "RUN --network=none \\\r\n  make");
    assert_eq!(at(copy.span), "COPY --chown=1 \\\r\n   # c\r\n  <<EOF /dest\r\nbody\r\nEOF");
    assert_eq!(at(copy.name_span), "COPY");
    let (Kind::Run(run), Kind::Copy(copy)) = (&run.kind, &copy.kind) else { panic!() };
    assert_eq!(at(run.network.as_ref().unwrap().span), "--network=none");
    assert_eq!(at(run.network.as_ref().unwrap().value_span), "none");
    assert_eq!(at(copy.destination.span), "/dest");
    assert_eq!(at(copy.heredocs[0].span), "body\r\n");
    assert_eq!(at(copy.heredocs[0].marker_span), "<<EOF");
}

#[test]
fn comments_describe_stages_and_arguments() {
    let file = ok("# V the version\nARG V\n# unrelated\n# web serves it\nFROM a AS web\n");

    assert_eq!(file.global_args[0].description.as_deref(), Some("the version"));
    assert_eq!(file.stages[0].description.as_deref(), Some("serves it"));
}

/// All spans of a tree, found in its JSON form.
fn spans(value: &serde_json::Value, found: &mut Vec<(u64, u64)>) {
    match value {
        serde_json::Value::Object(map) => {
            let number = |key: &str| map.get(key).and_then(|v| v.as_u64());
            if let (Some(start), Some(end)) = (number("start"), number("end")) {
                found.push((start, end));
            }
            map.values().for_each(|value| spans(value, found));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| spans(value, found)),
        _ => {}
    }
}

fn check_any(text: &str) {
    match parse(text, "Dockerfile") {
        Ok(file) => {
            let mut found = Vec::new();
            spans(&serde_json::to_value(&file).unwrap(), &mut found);
            for (start, end) in found {
                assert!(start <= end && text.get(start as usize..end as usize).is_some(), "{text:?} {start}..{end}");
            }
        }
        Err(error) => {
            assert!(text.get(error.span.start..error.span.end).is_some(), "{text:?} {:?}", error.span);
            assert!(error.line >= 1 && error.column >= 1);
            let _ = error.render();
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(2000))]

    #[test]
    fn any_text_is_parsed_or_refused_with_spans_inside_it(text in "\\PC{0,60}|(?s).{0,60}") {
        check_any(&text);
    }

    #[test]
    fn texts_like_dockerfiles_are_parsed_or_refused_with_spans_inside_them(
        lines in proptest::collection::vec(
            "(FROM a( AS b)?|RUN|COPY|ADD|ENV|ONBUILD|CMD|LABEL|ARG|VOLUME|HEALTHCHECK|SHELL|# escape=`|#)\
             [ \\t]{0,2}(--[a-z]{1,3}(=[a-z\"'\\\\]{0,4})? )?(CMD |RUN |NONE)?[a-zé=$\"'\\\\`<\\[\\],{} -]{0,16}(<<-?['\"]?E['\"]?)?( \\\\)?(\r)?",
            0..6,
        ),
        ends in proptest::bool::ANY,
    ) {
        let mut text = format!("FROM x\n{}\nE", lines.join("\n"));
        if ends {
            text.push('\n');
        }
        check_any(&text);
        check_any(&lines.join("\n"));
    }
}
