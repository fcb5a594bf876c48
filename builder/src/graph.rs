//! What must be built: the stages that the target needs, and what each of them starts from and reads.
//! Everything that can be refused without running anything is refused here.

use std::collections::BTreeMap;

use strata_dockerfile::{Dockerfile, Flag, Instruction, Kind, Span};
use strata_types::Platform;

use crate::error::Error;
use crate::scope::Globals;

/// Where a stage starts, or a COPY --from reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image of the store.
    Image(String),
}

/// The part of a Dockerfile that a target needs.
#[derive(Debug)]
pub struct Graph {
    /// The stage to build.
    pub target: usize,
    /// Stages that are needed, by index: where each starts.
    pub stages: BTreeMap<usize, Origin>,
    /// Platforms of stages whose FROM names one.
    pub platforms: BTreeMap<usize, Platform>,
    /// Number of each step: (stage, 0) is its FROM, (stage, n + 1) its instruction n.
    pub steps: BTreeMap<(usize, usize), u32>,
}

impl Graph {
    /// Prunes a Dockerfile to a target; empty: its last stage.
    pub fn plan(file: &Dockerfile, target: &str, globals: &Globals) -> Result<Self, Error> {
        let target = match target {
            "" => file.stages.len() - 1,
            name => find_target(file, name)?,
        };
        let (mut stages, mut platforms) = (BTreeMap::new(), BTreeMap::new());
        let mut pending = vec![target];
        while let Some(index) = pending.pop() {
            if stages.contains_key(&index) {
                continue;
            }
            let stage = &file.stages[index];
            if let Some(flag) = &stage.platform {
                platforms.extend(platform(file, flag, globals)?.map(|platform| (index, platform)));
            }
            let base = globals.expand(file, &stage.base)?;
            if base.is_empty() {
                return Err(mistake(file, stage.base.span, "the base image is empty after expansion"));
            }
            let origin = origin(file, &base, index);
            if let Origin::Stage(earlier) = origin {
                pending.push(earlier);
            }
            for instruction in &stage.instructions {
                check(file, instruction)?;
                if let Some(Origin::Stage(earlier)) = copy_origin(file, instruction, index) {
                    pending.push(earlier);
                }
            }
            stages.insert(index, origin);
        }
        let steps = number(file, &stages);
        Ok(Self { target, stages, platforms, steps })
    }
}

/// The platform that a FROM names; none where its variables expand to nothing.
fn platform(file: &Dockerfile, flag: &Flag<String>, globals: &Globals) -> Result<Option<Platform>, Error> {
    let text = globals.expand_text(file, &flag.value, flag.value_span)?;
    if text.is_empty() {
        return Ok(None);
    }
    Platform::parse(&text).map(Some).map_err(|problem| mistake(file, flag.value_span, &problem.to_string()))
}

fn number(file: &Dockerfile, stages: &BTreeMap<usize, Origin>) -> BTreeMap<(usize, usize), u32> {
    let mut steps = BTreeMap::new();
    for (&index, origin) in stages {
        if matches!(origin, Origin::Image(_)) {
            steps.insert((index, 0), steps.len() as u32 + 1);
        }
        for (at, instruction) in file.stages[index].instructions.iter().enumerate() {
            if makes_layer(&instruction.kind) {
                steps.insert((index, at + 1), steps.len() as u32 + 1);
            }
        }
    }
    steps
}

/// The instruction makes a layer, and so is a step.
pub fn makes_layer(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

/// Name of a step, for people: `[builder 2/6] RUN make`.
pub fn step_name(file: &Dockerfile, stage: usize, at: usize, text: &str) -> String {
    let stage = &file.stages[stage];
    let layers = stage.instructions.iter().filter(|i| makes_layer(&i.kind)).count() + 1;
    let number = 1 + stage.instructions.iter().take(at).filter(|i| makes_layer(&i.kind)).count();
    let name = match &stage.name {
        Some(name) => format!("{} ", name.value),
        None if file.stages.len() > 1 => format!("stage-{} ", stage.index),
        None => String::new(),
    };
    format!("[{name}{number}/{layers}] {text}")
}

fn find_target(file: &Dockerfile, name: &str) -> Result<usize, Error> {
    if let Some(stage) = file.stage(name, file.stages.len()) {
        return Ok(stage.index);
    }
    let known: Vec<&str> = file.stages.iter().filter_map(|s| s.name.as_ref().map(|n| n.value.as_str())).collect();
    let known =
        if known.is_empty() { "no stage has a name".to_owned() } else { format!("there are {}", known.join(", ")) };
    Err(Error::Invalid { field: "target", problem: format!("{} has no stage {name:?}; {known}", file.source.name()) })
}

fn origin(file: &Dockerfile, name: &str, before: usize) -> Origin {
    if name == "scratch" {
        return Origin::Scratch;
    }
    // A FROM names stages by name only: a number there is an image.
    let wanted = name.to_lowercase();
    let is_named = |stage: &&strata_dockerfile::Stage| stage.name.as_ref().is_some_and(|n| n.value == wanted);
    match file.stages[..before].iter().rev().find(is_named) {
        Some(stage) => Origin::Stage(stage.index),
        None => Origin::Image(name.to_owned()),
    }
}

/// What the `--from` of a COPY names. `None`: the context.
pub fn copy_origin(file: &Dockerfile, instruction: &Instruction, stage: usize) -> Option<Origin> {
    let Kind::Copy(copy) = &instruction.kind else { return None };
    let from = copy.from.as_ref()?;
    Some(match file.stage(&from.value, stage) {
        Some(earlier) => Origin::Stage(earlier.index),
        None => Origin::Image(from.value.clone()),
    })
}

fn mistake(file: &Dockerfile, span: Span, message: &str) -> Error {
    Error::Dockerfile(Box::new(file.diagnostic(span, message)))
}

fn unsupported(file: &Dockerfile, span: Span, message: impl Into<String>) -> Error {
    Error::Unsupported(Box::new(file.diagnostic(span, message)))
}

/// Refuses what has no effect yet, and what cannot be meant.
fn check(file: &Dockerfile, instruction: &Instruction) -> Result<(), Error> {
    let refuse = |span: Span, what: &str| Err(unsupported(file, span, format!("{what} is not available yet")));
    match &instruction.kind {
        Kind::Healthcheck(_) => refuse(instruction.name_span, "HEALTHCHECK"),
        Kind::Onbuild(_) => refuse(instruction.name_span, "ONBUILD"),
        Kind::Run(run) => {
            let span = |flags: &[Flag<String>]| flags.first().map(|flag| flag.span);
            match (span(&run.mounts), &run.security, span(&run.devices)) {
                (Some(span), _, _) => refuse(span, "RUN --mount"),
                (_, Some(security), _) => refuse(security.span, "RUN --security"),
                (_, _, Some(span)) => refuse(span, "RUN --device"),
                _ => Ok(()),
            }
        }
        Kind::Copy(copy) => {
            if let Some(from) = &copy.from {
                check_from(file, instruction, from)?;
            }
            let flag = |name: &'static str, flag: &Option<Flag<bool>>| flag.as_ref().map(|f| (f.span, name));
            let found = flag("COPY --link", &copy.link).or(flag("COPY --parents", &copy.parents));
            match (found, copy.exclude.first()) {
                (Some((span, name)), _) => refuse(span, name),
                (None, Some(exclude)) => refuse(exclude.span, "COPY --exclude"),
                (None, None) => Ok(()),
            }
        }
        Kind::Add(add) => {
            let flag = |name: &'static str, flag: &Option<Flag<bool>>| flag.as_ref().map(|f| (f.span, name));
            let found = flag("ADD --link", &add.link)
                .or(flag("ADD --keep-git-dir", &add.keep_git_dir))
                .or(flag("ADD --unpack", &add.unpack));
            match (found, &add.checksum, add.exclude.first()) {
                (Some((span, name)), _, _) => refuse(span, name),
                (None, Some(checksum), _) => refuse(checksum.span, "ADD --checksum"),
                (None, None, Some(exclude)) => refuse(exclude.span, "ADD --exclude"),
                (None, None, None) => match add.sources.iter().find(|source| is_remote(&source.value)) {
                    Some(source) => refuse(source.span, "ADD of a URL"),
                    None => Ok(()),
                },
            }
        }
        _ => Ok(()),
    }
}

/// A source that is not in the build context. What starts with a variable is known only when its step is reached.
pub fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "git@", "ssh://"].iter().any(|prefix| source.starts_with(prefix))
}

/// A `--from` may not name the stage itself or a later one, nor hold a variable.
fn check_from(file: &Dockerfile, instruction: &Instruction, from: &Flag<String>) -> Result<(), Error> {
    if from.value.contains('$') {
        return Err(mistake(file, from.value_span, "variables do not expand in --from"));
    }
    let wanted = from.value.to_lowercase();
    let here = file.stages.iter().find(|stage| stage.instructions.iter().any(|i| i.span == instruction.span));
    let before = here.map_or(0, |stage| stage.index);
    if file.stage(&from.value, before).is_none()
        && file.stages.iter().any(|stage| stage.name.as_ref().is_some_and(|name| name.value == wanted))
    {
        return Err(mistake(file, from.value_span, "--from names a stage that comes later, or this one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, target: &str) -> Result<Graph, Error> {
        let file = strata_dockerfile::parse(text, "Dockerfile").expect("the text is a Dockerfile");
        let globals = Globals::new(&file, BTreeMap::new(), &Platform::host())?;
        Graph::plan(&file, target, &globals)
    }

    #[test]
    fn stages_that_the_target_does_not_need_are_pruned() {
        let text = "FROM debian AS a\nRUN one\nFROM debian AS b\nRUN two\nFROM a\nCOPY --from=0 /x /y\n";

        let graph = plan(text, "").expect("nothing is wrong with it");

        assert_eq!(graph.stages.keys().copied().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(graph.stages[&2], Origin::Stage(0));
    }

    #[test]
    fn global_args_expand_in_from() {
        let graph = plan("ARG V=bookworm\nFROM debian:$V\n", "").expect("nothing is wrong with it");

        assert_eq!(graph.stages[&0], Origin::Image("debian:bookworm".to_owned()));
    }

    #[test]
    fn a_stage_is_for_the_platform_that_its_from_names() {
        let text = "FROM --platform=$BUILDPLATFORM a AS b\nFROM --platform=$NOTHING c AS d\n\
                    FROM --platform=linux/arm/v6 e\nCOPY --from=b / /\nCOPY --from=d / /\n";

        let graph = plan(text, "").expect("nothing is wrong with it");

        let arm = Platform::parse("linux/arm/v6").expect("a platform");
        assert_eq!(graph.platforms, BTreeMap::from([(0, Platform::host()), (2, arm)]));
        let error = plan("FROM --platform=a/b/c/d x\n", "").expect_err("it has four parts");
        assert_eq!(error.diagnostic().map(|at| (at.line, at.column)), Some((1, 17)));
    }

    #[test]
    fn what_has_no_effect_yet_is_refused_where_it_stands() {
        for (text, line, column) in [
            ("FROM a\nRUN --mount=type=cache,target=/x true\n", 2, 5),
            ("FROM a\nHEALTHCHECK NONE\n", 2, 1),
            ("FROM a\nCOPY --link a b\n", 2, 6),
        ] {
            let error = plan(text, "").expect_err(text);
            let diagnostic = error.diagnostic().expect(text);
            assert_eq!((diagnostic.line, diagnostic.column), (line, column), "{text}");
        }
    }

    #[test]
    fn an_unused_stage_may_use_what_is_not_there_yet() {
        let text = "FROM a AS x\nHEALTHCHECK NONE\nFROM b\nRUN true\n";

        assert!(plan(text, "").is_ok());
    }
}
