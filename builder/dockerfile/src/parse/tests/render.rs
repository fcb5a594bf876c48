//! Rendering and parsing agree: a tree that is written down as a Dockerfile is read back as it was, whatever stands
//! between its words.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

use crate::ast::{
    Add, ArgDeclaration, CommandForm, Copy, Flag, Healthcheck, Heredoc, KeyValue, Kind, Onbuild, ProbeCommand, Run,
    Span, Word,
};
use crate::parse;

/// What stands between two words: blanks, or the end of a line with comments after it.
#[derive(Debug, Clone)]
struct Gaps(Vec<&'static str>);

impl Gaps {
    /// The words with gaps between them, taken in turn.
    fn join(&self, words: &[String]) -> String {
        let mut text = String::new();
        for (index, word) in words.iter().enumerate() {
            if index > 0 {
                text.push_str(self.0[index % self.0.len()]);
            }
            text.push_str(word);
        }
        text
    }
}

fn gaps() -> impl Strategy<Value = Gaps> {
    let gap = prop::sample::select(vec![" ", "  ", "\t", " \\\n  ", " \\\r\n", "\\\n# a comment\n\t", " \\ \n\n "]);
    vec(gap, 1..6).prop_map(Gaps)
}

fn word(text: &str) -> Word {
    Word::new(text.to_owned(), Span::default())
}

fn flag<T>(value: T) -> Flag<T> {
    Flag { value, span: Span::default(), value_span: Span::default() }
}

/// A word without blanks, quotes, escapes and what looks like JSON, a flag or a heredoc.
fn plain() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9$./é_:@*?=,-]{0,8}[a-zA-Z0-9/é_]".prop_filter("flags and comments", |text| !text.starts_with("--"))
}

fn words(range: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Word>> {
    vec(plain().prop_map(|text| word(&text)), range)
}

/// A word of ENV, LABEL or ARG, perhaps quoted.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        plain(),
        Just(String::new()),
        "[a-z $']{0,6}".prop_map(|text| format!("\"{text}\"")),
        "'[a-z $\"]{0,6}'",
        "[a-z]{1,3}\\\\ [a-z]{1,3}"
    ]
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z_][A-Za-z0-9_]{0,6}"
}

/// Any text as an element of a list, any line that is no list for the shell.
fn command() -> impl Strategy<Value = CommandForm> {
    prop_oneof![
        vec("\\PC{0,8}|[\\x00-\\x7f]{0,4}", 1..4).prop_map(CommandForm::Exec),
        "[a-z\"'$&|;(){}é./-]{1,6}( [a-z\"'$&|;(){}é./#-]{1,6}){0,3}"
            .prop_filter("flags", |text| !text.starts_with("--"))
            .prop_map(CommandForm::Shell),
    ]
}

fn heredoc(number: usize) -> impl Strategy<Value = Heredoc> {
    ("(\t?[a-z $<#\\\\]{0,8}\n){0,3}", any::<bool>(), any::<bool>(), option::of(0u32..30)).prop_map(
        move |(content, expand, strip_tabs, file_descriptor)| Heredoc {
            name: format!("END{number}"),
            file_descriptor,
            expand,
            strip_tabs,
            content,
            span: Span::default(),
            marker_span: Span::default(),
        },
    )
}

fn heredocs() -> impl Strategy<Value = Vec<Heredoc>> {
    prop_oneof![
        Just(vec![]),
        heredoc(1).prop_map(|one| vec![one]),
        (heredoc(1), heredoc(2)).prop_map(|(a, b)| vec![a, b])
    ]
}

fn marker(heredoc: &Heredoc) -> String {
    let number = heredoc.file_descriptor.map_or(String::new(), |number| number.to_string());
    let dash = if heredoc.strip_tabs { "-" } else { "" };
    let quote = if heredoc.expand { "" } else { "'" };
    format!("{number}<<{dash}{quote}{}{quote}", heredoc.name)
}

fn bodies(heredocs: &[Heredoc]) -> String {
    heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name)).collect()
}

/// A flag's value in quotes, which are removed when it is read.
fn text_flag() -> impl Strategy<Value = Flag<String>> {
    "[a-z0-9$:/ ]{1,8}".prop_map(flag)
}

fn flags_of<T: ToString>(name: &str, flags: impl IntoIterator<Item = T>) -> Vec<String> {
    flags.into_iter().map(|value| format!("--{name}=\"{}\"", value.to_string())).collect()
}

fn listed(form: &CommandForm) -> String {
    match form {
        CommandForm::Exec(list) => serde_json::to_string(list).unwrap(),
        CommandForm::Shell(text) => text.clone(),
    }
}

fn run() -> impl Strategy<Value = Kind> {
    let flags = (
        option::of(prop::sample::select(vec!["default", "none", "host"])),
        vec("[a-z/]{1,5}", 0..3),
        vec("[a-z]{1,5}(/[a-z]{1,5}(=[a-z0-9]{1,3})?)?", 0..2),
    );
    (command(), heredocs(), flags).prop_map(|(form, heredocs, (network, targets, devices))| {
        let form = match (heredocs.is_empty(), form) {
            (true, form) => form,
            (false, CommandForm::Exec(_)) => {
                CommandForm::Shell(heredocs.iter().map(marker).collect::<Vec<_>>().join(" "))
            }
            (false, CommandForm::Shell(_)) => {
                let markers: Vec<String> = heredocs.iter().map(marker).collect();
                CommandForm::Shell(format!("cat {} | sort", markers.join(" ")))
            }
        };
        let mounts = targets.iter().map(|target| flag(format!("target=/{target}"))).collect();
        let devices = devices.into_iter().map(flag).collect();
        Kind::Run(Run { form, heredocs, mounts, network: network.map(|n| flag(n.to_owned())), security: None, devices })
    })
}

fn copy() -> impl Strategy<Value = Kind> {
    let flags = (
        option::of("[a-z0-9/:]{1,8}"),
        option::of(text_flag()),
        option::of(prop::sample::select(vec!["644", "u=rwX,go=rX", "$M"])),
        vec(text_flag(), 0..3),
    );
    let switches = (option::of(any::<bool>()), option::of(any::<bool>()));
    (words(1..4), heredocs(), plain(), flags, switches).prop_map(
        |(sources, heredocs, destination, (from, chown, chmod, exclude), (link, parents))| {
            Kind::Copy(Copy {
                sources,
                from: from.filter(|_| heredocs.is_empty()).map(flag),
                heredocs,
                destination: word(&destination),
                chown,
                chmod: chmod.map(|mode| flag(mode.to_owned())),
                link: link.map(flag),
                parents: parents.map(flag),
                exclude,
            })
        },
    )
}

fn add() -> impl Strategy<Value = Kind> {
    let switches = (option::of(any::<bool>()), option::of(any::<bool>()), option::of(any::<bool>()));
    (words(0..3), heredocs(), plain(), option::of(text_flag()), switches, vec(text_flag(), 0..3)).prop_map(
        |(mut sources, heredocs, destination, checksum, (link, keep_git_dir, unpack), exclude)| {
            if heredocs.is_empty() && sources.is_empty() {
                sources.push(word("https://example.org/a"));
            }
            Kind::Add(Add {
                sources,
                heredocs,
                destination: word(&destination),
                chown: None,
                chmod: None,
                link: link.map(flag),
                keep_git_dir: keep_git_dir.map(flag),
                checksum,
                unpack: unpack.map(flag),
                exclude,
            })
        },
    )
}

fn healthcheck() -> impl Strategy<Value = Kind> {
    let seconds = || option::of((1u64..5000).prop_map(|n| flag(std::time::Duration::from_secs(n))));
    let probe = (command(), seconds(), seconds(), seconds(), seconds(), option::of((0u32..9).prop_map(flag)));
    let probe = probe.prop_map(|(command, interval, timeout, start_period, start_interval, retries)| {
        Healthcheck::Probe(Box::new(ProbeCommand { command, interval, timeout, start_period, start_interval, retries }))
    });
    prop_oneof![Just(Healthcheck::None), probe].prop_map(Kind::Healthcheck)
}

fn pairs() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair =
        (name(), value()).prop_map(|(key, value)| KeyValue { key: word(&key), value: word(&value), is_legacy: false });
    let legacy = (name(), "[a-z$\"=]{1,6}( [a-z$'=]{1,6})?")
        .prop_map(|(key, value)| vec![KeyValue { key: word(&key), value: word(&value), is_legacy: true }]);
    prop_oneof![vec(pair, 1..4), legacy]
}

fn declarations() -> impl Strategy<Value = Vec<ArgDeclaration>> {
    let one = (name(), option::of(value())).prop_map(|(name, default)| ArgDeclaration {
        name: word(&name),
        default: default.map(|text| word(&text)),
        span: Span::default(),
        description: None,
    });
    vec(one, 1..4)
}

fn simple() -> impl Strategy<Value = Kind> {
    let line = || "[a-z$/é:]{1,6}( [a-z$\"'/]{1,6})?".prop_map(|text| word(&text));
    prop_oneof![
        declarations().prop_map(Kind::Arg),
        command().prop_map(Kind::Cmd),
        command().prop_map(Kind::Entrypoint),
        pairs().prop_map(Kind::Env),
        pairs().prop_map(Kind::Label),
        words(1..4).prop_map(Kind::Expose),
        words(1..4).prop_map(Kind::Volume),
        vec("\\PC{1,6}", 1..4).prop_map(Kind::Shell),
        line().prop_map(Kind::User),
        line().prop_map(Kind::Workdir),
        line().prop_map(Kind::Stopsignal),
        line().prop_map(Kind::Maintainer),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    let trigger =
        (simple(), gaps()).prop_filter("MAINTAINER is no trigger", |(kind, _)| !matches!(kind, Kind::Maintainer(_)));
    // What an image keeps of a trigger is one line.
    let trigger = trigger.prop_map(|(kind, _)| {
        let expression = render(&kind, &Gaps(vec![" "]));
        Kind::Onbuild(Onbuild { trigger: kind.name(), expression })
    });
    prop_oneof![3 => simple(), 2 => run(), 2 => copy(), 1 => add(), 1 => healthcheck(), 1 => trigger]
}

/// Writes one instruction down.
fn render(kind: &Kind, gaps: &Gaps) -> String {
    let mut parts = vec![kind.name().to_owned()];
    let mut tail = String::new();
    let texts = |words: &[Word]| words.iter().map(|word| word.value.clone()).collect::<Vec<_>>();
    let switch = |name: &str, flag: &Option<Flag<bool>>| flag.as_ref().map(|flag| format!("--{name}={}", flag.value));
    match kind {
        Kind::Add(add) => {
            parts.extend(switch("link", &add.link));
            parts.extend(switch("keep-git-dir", &add.keep_git_dir));
            parts.extend(switch("unpack", &add.unpack));
            parts.extend(flags_of("checksum", add.checksum.iter().map(|flag| &flag.value)));
            parts.extend(flags_of("exclude", add.exclude.iter().map(|flag| &flag.value)));
            parts.extend(texts(&add.sources));
            parts.extend(add.heredocs.iter().map(marker));
            parts.push(add.destination.value.clone());
            tail = bodies(&add.heredocs);
        }
        Kind::Copy(copy) => {
            parts.extend(flags_of("from", copy.from.iter().map(|flag| &flag.value)));
            parts.extend(flags_of("chown", copy.chown.iter().map(|flag| &flag.value)));
            parts.extend(flags_of("chmod", copy.chmod.iter().map(|flag| &flag.value)));
            parts.extend(switch("link", &copy.link));
            parts.extend(switch("parents", &copy.parents));
            parts.extend(flags_of("exclude", copy.exclude.iter().map(|flag| &flag.value)));
            parts.extend(texts(&copy.sources));
            parts.extend(copy.heredocs.iter().map(marker));
            parts.push(copy.destination.value.clone());
            tail = bodies(&copy.heredocs);
        }
        Kind::Run(run) => {
            parts.extend(flags_of("mount", run.mounts.iter().map(|flag| &flag.value)));
            parts.extend(flags_of("network", run.network.iter().map(|flag| &flag.value)));
            parts.extend(flags_of("device", run.devices.iter().map(|flag| &flag.value)));
            parts.push(listed(&run.form));
            tail = bodies(&run.heredocs);
        }
        Kind::Healthcheck(Healthcheck::None) => parts.push("none".to_owned()),
        Kind::Healthcheck(Healthcheck::Probe(probe)) => {
            let seconds =
                |flag: &Option<Flag<std::time::Duration>>| flag.as_ref().map(|f| format!("{}s", f.value.as_secs()));
            parts.extend(flags_of("interval", seconds(&probe.interval)));
            parts.extend(flags_of("timeout", seconds(&probe.timeout)));
            parts.extend(flags_of("start-period", seconds(&probe.start_period)));
            parts.extend(flags_of("start-interval", seconds(&probe.start_interval)));
            parts.extend(flags_of("retries", probe.retries.iter().map(|flag| flag.value)));
            parts.extend(["CMD".to_owned(), listed(&probe.command)]);
        }
        Kind::Arg(list) => parts.extend(list.iter().map(|arg| match &arg.default {
            Some(default) => format!("{}={}", arg.name.value, default.value),
            None => arg.name.value.clone(),
        })),
        Kind::Env(list) | Kind::Label(list) => parts.extend(list.iter().map(|pair| {
            let equals = if pair.is_legacy { " " } else { "=" };
            format!("{}{equals}{}", pair.key.value, pair.value.value)
        })),
        Kind::Cmd(form) | Kind::Entrypoint(form) => parts.push(listed(form)),
        Kind::Expose(list) | Kind::Volume(list) => parts.extend(texts(list)),
        Kind::Shell(list) => parts.push(serde_json::to_string(list).unwrap()),
        Kind::User(word) | Kind::Workdir(word) | Kind::Stopsignal(word) | Kind::Maintainer(word) => {
            parts.push(word.value.clone())
        }
        Kind::Onbuild(onbuild) => parts.push(onbuild.expression.clone()),
    }
    gaps.join(&parts) + &tail
}

/// A tree without the places of its parts.
fn placeless(kind: &Kind) -> Value {
    let mut value = serde_json::to_value(kind).unwrap();
    strip(&mut value);
    value
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !key.ends_with("span"));
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_written_down_is_read_back(kinds in vec((kind(), gaps()), 1..5)) {
        let lines: Vec<String> = kinds.iter().map(|(kind, gaps)| render(kind, gaps)).collect();
        let text = format!("FROM scratch\n{}\n", lines.join("\n"));

        let file = parse(&text, "Dockerfile").map_err(|error| TestCaseError::fail(format!("{text}\n{}", error.render())))?;

        let read: Vec<Value> = file.stages[0].instructions.iter().map(|instruction| placeless(&instruction.kind)).collect();
        let written: Vec<Value> = kinds.iter().map(|(kind, _)| placeless(kind)).collect();
        prop_assert_eq!(read, written, "{}", text);
    }
}
