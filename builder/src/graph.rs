//! What must be built: what every stage starts from and reads, and which stages the target needs.
//! Everything that can be refused without running anything is refused here. ONBUILD triggers of images are known only when
//! the image is: what they read is looked up by the same rules when it comes to that.

use std::collections::{BTreeMap, BTreeSet};

use strata_dockerfile::{Dockerfile, Flag, Instruction, Kind, Span, Stage, Word, mount, nearest};
use strata_types::Platform;

use crate::contexts::{Contexts, Named};
use crate::error::Error;
use crate::scope::Globals;

/// Where a stage starts, or a `--from` reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// Another stage.
    Stage(usize),
    /// An image of the store.
    Image(String),
    /// A directory of the client, or something that is elsewhere, by its name among the contexts.
    Context(String),
}

impl From<&Named> for Origin {
    fn from(context: &Named) -> Self {
        match context {
            Named::Local(local) => Self::Context(local.name.clone()),
            Named::Remote { name, .. } => Self::Context(name.clone()),
            Named::Image(name) => Self::Image(name.clone()),
        }
    }
}

/// What is known of a stage before anything runs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where it starts.
    pub base: Origin,
    /// The platform that its FROM names.
    pub platform: Option<Platform>,
    /// Stages that it starts from or reads.
    pub needs: BTreeSet<usize>,
    /// A named context took its place: it is that, and its instructions do not count.
    pub is_replaced: bool,
}

/// The part of a Dockerfile that a target needs.
#[derive(Debug)]
pub struct Graph {
    /// The stage to build.
    pub target: usize,
    /// Every stage of the file, needed or not.
    pub plans: Vec<Plan>,
    /// Stages that the target needs.
    pub needed: BTreeSet<usize>,
}

impl Graph {
    /// Prunes a Dockerfile to a target; empty: its last stage.
    pub fn plan(file: &Dockerfile, target: &str, globals: &Globals, contexts: &Contexts) -> Result<Self, Error> {
        let target = match target {
            "" => file.stages.len() - 1,
            name => find_target(file, name)?,
        };
        let plans =
            file.stages.iter().map(|stage| plan(file, stage, globals, contexts)).collect::<Result<Vec<_>, _>>()?;
        refuse_circles(file, &plans, contexts)?;
        let mut needed = BTreeSet::new();
        let mut pending = vec![target];
        while let Some(index) = pending.pop() {
            if needed.insert(index) {
                pending.extend(&plans[index].needs);
                if plans[index].is_replaced {
                    continue;
                }
                for instruction in &file.stages[index].instructions {
                    read_stages(file, contexts, index, instruction)?;
                }
            }
        }
        Ok(Self { target, plans, needed })
    }
}

fn plan(file: &Dockerfile, stage: &Stage, globals: &Globals, contexts: &Contexts) -> Result<Plan, Error> {
    let replacement = stage.name.as_ref().and_then(|name| contexts.find(&name.value));
    if let Some(context) = replacement {
        return Ok(Plan { base: context.into(), platform: None, needs: BTreeSet::new(), is_replaced: true });
    }
    let name = globals.expand(file, &stage.base)?;
    if name.is_empty() {
        return Err(mistake(file, stage.base.span, "the base image is empty after expansion"));
    }
    let platform = stage.platform.as_ref().map(|flag| platform(file, flag, globals)).transpose()?;
    let base = base(file, &name, stage.index, contexts);
    let mut needs = BTreeSet::new();
    if let Origin::Stage(earlier) = base {
        needs.insert(earlier);
    }
    for instruction in &stage.instructions {
        for word in sources(instruction) {
            if let Origin::Stage(other) = source(file, contexts, &word)? {
                needs.insert(other);
            }
        }
    }
    Ok(Plan { base, platform, needs, is_replaced: false })
}

/// The platform that a FROM names.
fn platform(file: &Dockerfile, flag: &Flag<String>, globals: &Globals) -> Result<Platform, Error> {
    let text = globals.expand_text(file, &flag.value, flag.value_span)?;
    if text.is_empty() {
        return Err(mistake(file, flag.value_span, "the platform is empty after expansion"));
    }
    Platform::parse(&text).map_err(|problem| mistake(file, flag.value_span, problem.to_string()))
}

/// What a FROM names: a context, of stages only earlier ones, by name only. A number there is an image.
fn base(file: &Dockerfile, name: &str, before: usize, contexts: &Contexts) -> Origin {
    if name == "scratch" {
        return Origin::Scratch;
    }
    if let Some(context) = contexts.find(name) {
        return context.into();
    }
    match file.stage_named(name, before) {
        Some(stage) => Origin::Stage(stage.index),
        None => Origin::Image(name.to_owned()),
    }
}

/// What a `--from` or a mount's `from` names: a context, any stage by name or number, else an image.
pub fn source(file: &Dockerfile, contexts: &Contexts, word: &Word) -> Result<Origin, Error> {
    let name = word.value.as_str();
    if name.contains('$') {
        // COPY --from is refused by the parser.
        let hint = "name a stage with FROM … AS, where global ARGs expand, and mount from that";
        let diagnostic = file.diagnostic(word.span, "variables do not expand in from").with_suggestion(hint);
        return Err(Error::Dockerfile(Box::new(diagnostic)));
    }
    if let Some(context) = contexts.find(name) {
        return Ok(context.into());
    }
    if let Some(stage) = file.stage(name, file.stages.len()) {
        return Ok(Origin::Stage(stage.index));
    }
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        let last = file.stages.len() - 1;
        return Err(mistake(file, word.span, format!("there is no stage {name}: the last one is {last}")));
    }
    Ok(match name {
        "scratch" => Origin::Scratch,
        name => Origin::Image(name.to_owned()),
    })
}

/// What an instruction reads besides the build context: `--from` of COPY, `from` of mounts.
pub fn sources(instruction: &Instruction) -> Vec<Word> {
    let word = |flag: &Flag<String>| Word::new(flag.value.clone(), flag.value_span);
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().map(word).collect(),
        Kind::Run(run) => {
            let from = |flag: &Flag<String>| Some(Word::new(mount::source_of(&flag.value)?, flag.value_span));
            run.mounts.iter().filter_map(from).collect()
        }
        _ => Vec::new(),
    }
}

/// The stages that an instruction of a stage reads: only earlier ones, as everywhere in a Dockerfile.
pub fn read_stages(
    file: &Dockerfile,
    contexts: &Contexts,
    stage: usize,
    instruction: &Instruction,
) -> Result<Vec<usize>, Error> {
    let mut read = Vec::new();
    for word in sources(instruction) {
        let Origin::Stage(other) = source(file, contexts, &word)? else { continue };
        if other >= stage {
            let name = title(&file.stages[other]);
            let message = format!("stage {name} comes later: only what stands above can be read");
            let hint = format!("move stage {name} up, before {}", title(&file.stages[stage]));
            let diagnostic = file.diagnostic(word.span, message).with_suggestion(hint);
            return Err(Error::Dockerfile(Box::new(diagnostic)));
        }
        read.push(other);
    }
    Ok(read)
}

/// Refuses stages that need themselves, directly or through others.
fn refuse_circles(file: &Dockerfile, plans: &[Plan], contexts: &Contexts) -> Result<(), Error> {
    let mut edges: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (index, plan) in plans.iter().enumerate() {
        for &other in &plan.needs {
            if leads_to(&edges, other, index) {
                let stage = &file.stages[index];
                let is_it =
                    |word: &Word| source(file, contexts, word).is_ok_and(|origin| origin == Origin::Stage(other));
                let at = stage.instructions.iter().flat_map(sources).find(is_it).map_or(stage.span, |word| word.span);
                let (one, two) = (title(stage), title(&file.stages[other]));
                let message = match index == other {
                    true => format!("stage {one} needs itself"),
                    false => format!("stages {one} and {two} need each other"),
                };
                return Err(mistake(file, at, message));
            }
            edges.entry(index).or_default().insert(other);
        }
    }
    Ok(())
}

/// Whether following the edges from `from` one arrives at `to`.
pub fn leads_to(edges: &BTreeMap<usize, BTreeSet<usize>>, from: usize, to: usize) -> bool {
    let (mut seen, mut pending) = (BTreeSet::new(), vec![from]);
    while let Some(index) = pending.pop() {
        if index == to {
            return true;
        }
        if seen.insert(index) {
            pending.extend(edges.get(&index).into_iter().flatten());
        }
    }
    false
}

/// Name of a stage for people: its own, or its number.
pub fn title(stage: &Stage) -> String {
    stage.name.as_ref().map_or_else(|| stage.index.to_string(), |name| name.value.clone())
}

fn find_target(file: &Dockerfile, name: &str) -> Result<usize, Error> {
    if let Some(stage) = file.stage(name, file.stages.len()) {
        return Ok(stage.index);
    }
    let known: Vec<&str> = file.stages.iter().filter_map(|s| s.name.as_ref().map(|n| n.value.as_str())).collect();
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => "no stage has a name".to_owned(),
        None => format!("there are {}", known.join(", ")),
    };
    Err(Error::Invalid { field: "target", problem: format!("{} has no stage {name:?}; {hint}", file.source.name()) })
}

/// The instruction makes a layer, and so is a step.
pub fn makes_layer(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

fn mistake(file: &Dockerfile, span: Span, message: impl Into<String>) -> Error {
    Error::Dockerfile(Box::new(file.diagnostic(span, message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, target: &str) -> Result<Graph, Error> {
        let file = strata_dockerfile::parse(text, "Dockerfile").expect("the text is a Dockerfile");
        let globals = Globals::new(&file, BTreeMap::new(), &Platform::host(), target)?;
        Graph::plan(&file, target, &globals, &Contexts::default())
    }

    fn place(error: &Error) -> Option<(usize, usize)> {
        error.diagnostic().map(|at| (at.line, at.column))
    }

    #[test]
    fn stages_that_the_target_does_not_need_are_pruned() {
        let text = "FROM debian AS a\nRUN one\nFROM debian AS b\nRUN two\nFROM a\nCOPY --from=0 /x /y\n";

        let graph = plan(text, "").expect("nothing is wrong with it");

        assert_eq!(graph.needed, BTreeSet::from([0, 2]));
        assert_eq!(graph.plans[2].base, Origin::Stage(0));
    }

    #[test]
    fn copies_and_mounts_need_stages() {
        let text = "FROM a AS one\nCOPY --from=three / /\nFROM b AS two\nRUN --mount=from=one,target=/x true\n\
                    FROM scratch AS three\nRUN --mount=from=debian,target=/x true\n";

        let error = plan(text, "one").expect_err("stage three comes later");
        assert_eq!(place(&error), Some((2, 13)));
        let file = strata_dockerfile::parse(text, "Dockerfile").expect("the text is a Dockerfile");
        let needs = |index: usize| {
            let words = file.stages[index].instructions.iter().flat_map(sources);
            words
                .map(|word| source(&file, &Contexts::default(), &word).expect("it names something"))
                .collect::<Vec<_>>()
        };
        assert_eq!(needs(0), [Origin::Stage(2)]);
        assert_eq!(needs(1), [Origin::Stage(0)]);
        assert_eq!(needs(2), [Origin::Image("debian".to_owned())]);
    }

    #[test]
    fn stages_that_need_themselves_are_refused() {
        for (text, line, column, message) in [
            ("FROM a AS one\nCOPY --from=one / /\n", 2, 13, "stage one needs itself"),
            ("FROM a AS one\nCOPY --from=two / /\nFROM one AS two\n", 3, 1, "stages two and one need each other"),
            ("FROM a\nCOPY --from=1 / /\n", 2, 13, "there is no stage 1: the last one is 0"),
        ] {
            let error = plan(text, "").expect_err(text);
            assert_eq!(place(&error), Some((line, column)), "{text}");
            let shown = error.diagnostic().expect(text).message.clone();
            assert!(shown.starts_with(message), "{text}: {shown}");
        }
    }

    #[test]
    fn an_unknown_target_is_named_with_the_nearest() {
        let error = plan("FROM a AS builder\n", "biulder").expect_err("there is no such stage");

        assert!(error.to_string().ends_with("did you mean \"builder\"?"), "{error}");
    }

    #[test]
    fn global_args_expand_in_from() {
        let graph = plan("ARG V=bookworm\nFROM debian:$V\n", "").expect("nothing is wrong with it");

        assert_eq!(graph.plans[0].base, Origin::Image("debian:bookworm".to_owned()));
    }

    #[test]
    fn a_stage_is_for_the_platform_that_its_from_names() {
        let text = "FROM --platform=$BUILDPLATFORM a AS b\nFROM --platform=linux/arm/v6 e\n";

        let graph = plan(text, "").expect("nothing is wrong with it");

        let platforms: Vec<_> = graph.plans.iter().map(|plan| plan.platform.clone()).collect();
        let arm = Platform::parse("linux/arm/v6").expect("a platform");
        assert_eq!(platforms, [Some(Platform::host()), Some(arm)]);
        for text in ["FROM --platform=a/b/c/d x\n", "FROM --platform=$NOTHING x\n"] {
            let error = plan(text, "").expect_err(text);
            assert_eq!(place(&error), Some((1, 17)), "{text}");
        }
    }
}
