//! Whatever a client sends is an answer or an error, never a panic (security research, rows 102 and 106).

use prost::Message;
use strata_dockerfile::{Dockerfile, Kind};

use super::*;
use crate::graph::Graph;
use crate::scope::{Globals, Scope};

/// Mutated definitions in a run; STRATA_MUTATIONS says otherwise.
const MUTATIONS: usize = 20_000;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// The next, below `limit`; SplitMix64.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }

    /// Changes bytes in a few places: another byte, a piece of the same text, one less, a word that means something.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const WORDS: [&str; 24] = [
            "FROM ",
            "RUN ",
            "COPY ",
            "ENV ",
            "ARG ",
            "ONBUILD ",
            "HEALTHCHECK ",
            "CMD ",
            "<<EOF",
            "\nEOF\n",
            "${",
            "}",
            ":-",
            "\\\n",
            "\"",
            "'",
            "[\"",
            "\"]",
            "--mount=",
            "--from=",
            "# escape=`\n",
            "\u{feff}",
            "\0",
            "é",
        ];
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(5) {
                0 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => {
                    let from = self.below(bytes.len() + 1);
                    let length = self.below(40).min(bytes.len() - from);
                    let piece = bytes[from..from + length].to_vec();
                    bytes.splice(at..at, piece);
                }
                3 => bytes.truncate(at),
                _ => {
                    let word = WORDS[self.below(WORDS.len())];
                    bytes.splice(at..at, word.bytes());
                }
            }
        }
    }
}

fn definitions() -> Vec<pb::BuildStart> {
    let mistakes = include_str!("../../dockerfile/corpus/mistakes.txt");
    let texts = mistakes.split("==== ").skip(1).filter_map(|case| case.split_once('\n')?.1.split_once("\n----\n"));
    let texts = texts.map(|(text, _)| text.to_owned());
    let whole = "# syntax=docker/dockerfile:1\n# escape=\\\nARG V=1 W\nFROM --platform=$BUILDPLATFORM debian:$V AS base\n\
        ARG A=${V:-2} B\nENV a=$A b=\"c d\" \\\n  # comment\n  e='f'\nRUN --mount=type=cache,target=/c,id=x --network=none <<EOF\nmake\nEOF\n\
        COPY --from=base --chown=1:2 --chmod=u=rwX --exclude=*.o a* ${V}/ /d/\nADD <<-'X' <<Y /e/\n\t1\n\tX\n$V\nY\n\
        ONBUILD COPY <<Z /f\n3\nZ\nHEALTHCHECK --interval=1m30s --retries=3 CMD [\"x\", \"y\"]\nEXPOSE 80 443/udp 8000-8010\n\
        VOLUME [\"/v\"]\nSHELL [\"/bin/sh\", \"-c\"]\nSTOPSIGNAL RTMIN+3\nUSER a:b\nWORKDIR /x/${A%1}/${A//a/b}\nLABEL a.b=\"c\"\nCMD x\n";
    let start = |dockerfile: String| pb::BuildStart {
        names: vec!["a:b".to_owned()],
        dockerfile: dockerfile.into(),
        dockerfile_name: "Dockerfile".to_owned(),
        ignore_file: Bytes::from_static(b"*\n!src/**/*.c\n[a-z]?\n"),
        ignore_file_name: ".dockerignore".to_owned(),
        context_root: vec![7; 32].into(),
        build_args: [("V".to_owned(), "3".to_owned())].into(),
        contexts: vec![pb::NamedContext {
            name: "base".to_owned(),
            source: Some(pb::named_context::Source::Image("debian".to_owned())),
        }],
        ..pb::BuildStart::default()
    };
    texts.chain([whole.to_owned()]).map(start).collect()
}

/// All that is done with a definition before anything runs.
fn digest(start: pb::BuildStart) -> Result<(), Error> {
    let request = read_start(start)?;
    if let Ok(contexts) = request.contexts() {
        let _ = contexts.main.map(|main| main.ignore.matches("src/a/b.c"));
    }
    let file = match strata_dockerfile::parse(&request.dockerfile, &request.dockerfile_name) {
        Ok(file) => file,
        Err(diagnostic) => {
            assert!(request.dockerfile.get(diagnostic.span.start..diagnostic.span.end).is_some());
            let _ = diagnostic.render();
            return Err(Error::Dockerfile(Box::new(diagnostic)));
        }
    };
    let platform = request.platform.clone().unwrap_or_else(Platform::host);
    let globals = Globals::new(&file, request.build_args.clone(), &platform, &request.target)?;
    expand(&file, &globals)?;
    Graph::plan(&file, &request.target, &globals, &request.contexts()?)?;
    Ok(())
}

/// Expands what a file declares, as its stages would.
fn expand(file: &Dockerfile, globals: &Globals) -> Result<(), Error> {
    for stage in &file.stages {
        let mut scope = Scope::new(globals);
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(declarations) => {
                    for declaration in declarations {
                        scope.declare(file, globals, declaration)?;
                    }
                }
                Kind::Env(pairs) | Kind::Label(pairs) => {
                    for pair in pairs {
                        let value = scope.expand(file, &pair.value)?;
                        scope.set(&pair.key.value, &value);
                    }
                }
                Kind::Expose(words) => {
                    for word in words {
                        for text in scope.expand_words(file, word)? {
                            let _ = strata_dockerfile::meta::parse_port(&text);
                        }
                    }
                }
                Kind::Onbuild(onbuild) => drop(strata_dockerfile::parse_trigger(&onbuild.expression, "trigger")),
                _ => {}
            }
        }
    }
    Ok(())
}

#[test]
fn mutated_build_definitions_are_answered_without_a_panic() {
    let rounds = std::env::var("STRATA_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(MUTATIONS);
    let definitions = definitions();
    let mut numbers = Numbers(102);
    let mut accepted = 0;

    for _ in 0..rounds {
        let mut start = definitions[numbers.below(definitions.len())].clone();
        if numbers.below(2) == 0 {
            let mut text = start.dockerfile.to_vec();
            numbers.mutate(&mut text);
            start.dockerfile = text.into();
            accepted += usize::from(digest(start).is_ok());
        } else {
            let message = pb::BuildRequest { event: Some(pb::build_request::Event::Start(start)) };
            let mut encoding = message.encode_to_vec();
            numbers.mutate(&mut encoding);
            let Ok(message) = pb::BuildRequest::decode(&encoding[..]) else { continue };
            match message.event {
                Some(pb::build_request::Event::Start(start)) => accepted += usize::from(digest(start).is_ok()),
                other => drop(read_event(other)),
            }
        }
    }

    assert!(
        accepted > rounds / 1000,
        "only {accepted} of {rounds} were accepted: the mutations are too wild to reach far"
    );
}

#[test]
fn mutated_directories_are_read_or_refused() {
    let name = |name: &str, node| pb::ContextEntry {
        name: Bytes::copy_from_slice(name.as_bytes()),
        mode: 0o644,
        node: Some(node),
        attributes: vec![pb::ContextAttribute { name: "user.a".to_owned(), value: Bytes::from_static(b"b") }],
    };
    let file = pb::context_entry::Node::File(pb::ContextFile { blake3: vec![1; 32].into(), size_bytes: 3 });
    let link = pb::context_entry::Node::Symlink(Bytes::from_static(b"target"));
    let directory = pb::context_entry::Node::Directory(vec![2; 32].into());
    let special = pb::context_entry::Node::Special(pb::ContextSpecial { r#type: 0o010_000, major: 0, minor: 0 });
    let entries = vec![name("a", file), name("b", link), name("c", directory), name("d", special)];
    let whole = pb::ContextDirectory { entries }.encode_to_vec();
    let mut numbers = Numbers(101);

    for _ in 0..MUTATIONS {
        let mut encoding = whole.clone();
        numbers.mutate(&mut encoding);
        let Ok(read) = context::Directory::decode(&encoding) else { continue };
        for entry in &read.entries {
            assert!(
                !entry.name.is_empty() && !entry.name.contains(&b'/') && entry.name != b".." && entry.mode <= 0o7777
            );
        }
    }
}

#[test]
fn values_of_enums_that_nobody_knows_are_refused() {
    let start = || definitions().remove(0);
    for value in [-1, 17, i32::MAX, i32::MIN] {
        for wrong in [pb::BuildStart { network: value, ..start() }, pb::BuildStart { pull: value, ..start() }] {
            let error = read_start(wrong).expect_err("an unknown value");
            assert_eq!(strata_rpc::fault::Fault::code(&error), tonic::Code::InvalidArgument, "{error}");
        }
    }
}
