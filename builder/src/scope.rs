//! Variables of a stage: ARGs and ENVs, and how words expand with them.
//! An ARG of a stage takes its value from the build arguments, its default, the global ARG of the name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use strata_dockerfile::expand::{self, ExpandError};
use strata_dockerfile::{ArgDeclaration, Dockerfile, Span, Word};
use strata_types::{ContainerConfig, Platform};

use crate::error::Error;

/// ARGs that say what an SBOM covers: never variables of a step.
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];
/// The time that an image claims for everything in it, in seconds since 1970.
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// ARGs that need no declaration and are in no cache key and no history.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// What the caller and the machine give to every stage.
#[derive(Debug, Clone)]
pub struct Globals {
    build_args: BTreeMap<String, String>,
    /// Global ARGs with a value.
    values: BTreeMap<String, String>,
    escape: char,
}

/// The variables at one point of a stage: what instructions expand and RUN sees. ENV and ARG set the same variables, the
/// later one counts; the config of the image has those of ENV alone.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Name and value, in the order of their first setting.
    env: Vec<(String, String)>,
    /// What ARG declared, in order, each name once.
    args: Vec<(String, Option<String>)>,
    escape: char,
}

fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

/// What is built for, what builds, and which stage is the target.
fn platform_args(target: &Platform, stage: &str) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (prefix, platform) in [("TARGET", target), ("BUILD", &Platform::host())] {
        let variant = platform.variant.clone().unwrap_or_default();
        args.insert(format!("{prefix}PLATFORM"), platform.to_string());
        args.insert(format!("{prefix}OS"), platform.os.clone());
        args.insert(format!("{prefix}OSVERSION"), String::new());
        args.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        args.insert(format!("{prefix}VARIANT"), variant);
    }
    args.insert("TARGETSTAGE".to_owned(), if stage.is_empty() { "default" } else { stage }.to_owned());
    args
}

impl Globals {
    /// Evaluates the ARGs before the first FROM, for a target; empty: the last stage.
    pub fn new(
        file: &Dockerfile,
        build_args: BTreeMap<String, String>,
        platform: &Platform,
        target: &str,
    ) -> Result<Self, Error> {
        let last = file.stages.last().and_then(|stage| stage.name.as_ref()).map_or("", |name| name.as_str());
        let mut values = platform_args(platform, if target.is_empty() { last } else { target });
        for (name, value) in values.iter_mut() {
            if let Some(given) = build_args.get(name) {
                *value = given.clone();
            }
        }
        let mut globals = Self { build_args, values, escape: file.directives.escape };
        for declaration in &file.global_args {
            let name = declaration.name.value.clone();
            let value = match (globals.build_args.get(&name), &declaration.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(globals.expand(file, default)?),
                (None, None) => None,
            };
            if let Some(value) = value {
                globals.values.insert(name, value);
            }
        }
        Ok(globals)
    }

    /// The time that the image claims for everything in it, where SOURCE_DATE_EPOCH is set.
    pub fn epoch(&self) -> Option<Timestamp> {
        let text = self.build_args.get(EPOCH).or_else(|| self.values.get(EPOCH))?;
        Timestamp::from_second(text.parse().ok()?).ok()
    }

    /// What SOURCE_DATE_EPOCH is, where it is no number: the name of something that has a time.
    pub fn epoch_in_words(&self) -> Option<&str> {
        let text = self.build_args.get(EPOCH).or_else(|| self.values.get(EPOCH))?;
        (!text.is_empty() && self.epoch().is_none()).then_some(text)
    }

    /// Says what time SOURCE_DATE_EPOCH names; `None`: what it names has no time.
    pub fn set_epoch(&mut self, time: Option<Timestamp>) {
        let text = time.map_or_else(String::new, |time| time.as_second().to_string());
        self.build_args.insert(EPOCH.to_owned(), text);
    }

    /// The error for a SOURCE_DATE_EPOCH that names nothing.
    pub fn wrong_epoch(&self, file: &Dockerfile) -> Error {
        let text = self.epoch_in_words().unwrap_or_default();
        let problem =
            format!("{EPOCH} {text:?} is no number of seconds since 1970, and no context or stage that has a time");
        match file
            .global_args
            .iter()
            .rev()
            .find(|arg| arg.name.as_str() == EPOCH && !self.build_args.contains_key(EPOCH))
        {
            Some(arg) => Error::Dockerfile(Box::new(file.diagnostic(arg.span, problem))),
            None => Error::Invalid { field: "build_args", problem },
        }
    }

    /// Expands a word of a FROM.
    pub fn expand(&self, file: &Dockerfile, word: &Word) -> Result<String, Error> {
        self.expand_text(file, &word.value, word.span)
    }

    /// Expands the value of a flag of a FROM.
    pub fn expand_text(&self, file: &Dockerfile, text: &str, span: Span) -> Result<String, Error> {
        expand::expand(text, self.escape, &|name| self.values.get(name).cloned())
            .map_err(|problem| Error::Dockerfile(Box::new(file.diagnostic(span, problem.to_string()))))
    }

    /// Proxies among the build arguments: they reach RUN without a declaration, in upper case and in lower case however
    /// they were written. Of two spellings the one in lower case counts.
    pub fn proxies(&self) -> impl Iterator<Item = (String, String)> {
        let given = |proxy: &str| self.build_args.iter().rfind(|(name, _)| proxy.eq_ignore_ascii_case(name));
        let found = PROXIES.into_iter().filter_map(move |proxy| Some((proxy, given(proxy)?.1)));
        let found = found.filter(|(_, value)| !value.is_empty());
        found.flat_map(|(proxy, value)| [(proxy.to_owned(), value.clone()), (proxy.to_lowercase(), value.clone())])
    }

    /// Build arguments that no ARG of the file declares.
    pub fn unused<'a>(&'a self, declared: &'a [&'a str]) -> impl Iterator<Item = &'a String> {
        let is_known = move |name: &str| {
            declared.contains(&name)
                || is_proxy(name)
                || name.starts_with("BUILDKIT_")
                || name == "SOURCE_DATE_EPOCH"
                || name.starts_with("TARGET")
                || name.starts_with("BUILD")
        };
        self.build_args.keys().filter(move |name| !is_known(name))
    }
}

impl Scope {
    /// Nothing is set yet.
    pub fn new(globals: &Globals) -> Self {
        Self { env: Vec::new(), args: Vec::new(), escape: globals.escape }
    }

    /// Takes in the environment of what a stage starts from. What a stage below declared stays.
    pub fn start(&mut self, config: &ContainerConfig) {
        for (name, value) in config.env.iter().filter_map(|pair| pair.split_once('=')) {
            if self.get(name).is_none() {
                self.set(name, value);
            }
        }
    }

    /// Sets a variable, as ENV does.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.env.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.env.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Declares an ARG; returns "name" or "name=value", as the history shows it.
    pub fn declare(
        &mut self,
        file: &Dockerfile,
        globals: &Globals,
        declaration: &ArgDeclaration,
    ) -> Result<String, Error> {
        let name = declaration.name.value.clone();
        let value = match (globals.build_args.get(&name), &declaration.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.expand(file, default)?),
            (None, None) => globals.values.get(&name).cloned(),
        };
        if let Some(value) = value.as_deref().filter(|_| !NO_VARIABLES.contains(&name.as_str())) {
            self.set(&name, value);
        }
        let shown = value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}"));
        match self.args.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.args.push((name, value)),
        }
        Ok(shown)
    }

    /// What ARG declared, in order, with the values that RUN sees: "NAME=value", as the history of a RUN shows them.
    pub fn declared(&self) -> Vec<String> {
        let value = |name: &str, own: &Option<String>| {
            self.get(name).map(str::to_owned).or_else(|| own.clone()).unwrap_or_default()
        };
        self.args.iter().map(|(name, own)| format!("{name}={}", value(name, own))).collect()
    }

    /// The environment of a RUN: "NAME=value" each.
    pub fn environment(&self) -> Vec<String> {
        self.env.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Looks a variable up.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Expands a word.
    pub fn expand(&self, file: &Dockerfile, word: &Word) -> Result<String, Error> {
        expand::expand(&word.value, self.escape, &|name| self.get(name).map(str::to_owned))
            .map_err(|problem| mistake(file, word, &problem))
    }

    /// Expands a word that may become several: EXPOSE.
    pub fn expand_words(&self, file: &Dockerfile, word: &Word) -> Result<Vec<String>, Error> {
        expand::expand_words(&word.value, self.escape, &|name| self.get(name).map(str::to_owned))
            .map_err(|problem| mistake(file, word, &problem))
    }

    /// Expands the body of a heredoc.
    pub fn expand_document(&self, file: &Dockerfile, heredoc: &strata_dockerfile::Heredoc) -> Result<String, Error> {
        if !heredoc.expand {
            return Ok(heredoc.text());
        }
        expand::expand_document(&heredoc.text(), &|name| self.get(name).map(str::to_owned))
            .map_err(|problem| Error::Dockerfile(Box::new(file.diagnostic(heredoc.marker_span, problem.to_string()))))
    }
}

fn mistake(file: &Dockerfile, word: &Word, problem: &ExpandError) -> Error {
    Error::Dockerfile(Box::new(file.diagnostic(word.span, problem.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_dockerfile::Kind;

    fn globals(text: &str, args: &[(&str, &str)]) -> (Dockerfile, Globals) {
        let file = strata_dockerfile::parse(text, "Dockerfile").expect("the text is a Dockerfile");
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let globals = Globals::new(&file, args, &Platform::host(), "").expect("nothing is wrong with it");
        (file, globals)
    }

    /// The scope after all ARGs of the first stage, and what the history shows of them.
    fn declared(text: &str, args: &[(&str, &str)]) -> (Scope, Vec<String>) {
        let (file, globals) = globals(text, args);
        let mut scope = Scope::new(&globals);
        let mut shown = Vec::new();
        for instruction in &file.stages[0].instructions {
            let Kind::Arg(declarations) = &instruction.kind else { continue };
            for declaration in declarations {
                shown.push(scope.declare(&file, &globals, declaration).expect("it expands"));
            }
        }
        (scope, shown)
    }

    #[test]
    fn an_arg_takes_the_given_value_then_its_default_then_the_global_one() {
        let text = "ARG a=global
ARG b=global
ARG c=global
FROM x
ARG a=own
ARG b
ARG c=own
ARG d
";

        let (scope, shown) = declared(text, &[("c", "given")]);

        assert_eq!(shown, ["a=own", "b=global", "c=given", "d"]);
        assert_eq!(scope.declared(), ["a=own", "b=global", "c=given", "d="]);
        assert_eq!(scope.environment(), ["a=own", "b=global", "c=given"]);
    }

    #[test]
    fn names_of_one_arg_see_those_before_them() {
        let (_, shown) = declared(
            "FROM x
ARG a=1 b=$a$a
",
            &[],
        );

        assert_eq!(shown, ["a=1", "b=11"]);
    }

    #[test]
    fn what_an_sbom_covers_is_no_variable() {
        let (scope, shown) = declared(
            "FROM x
ARG BUILDKIT_SBOM_SCAN_STAGE=true
",
            &[],
        );

        assert_eq!(shown, ["BUILDKIT_SBOM_SCAN_STAGE=true"]);
        assert!(scope.environment().is_empty());
    }

    #[test]
    fn proxies_are_known_in_any_case_and_reach_steps_in_both() {
        let args = [
            ("Http_Proxy", "mixed"),
            ("NO_PROXY", "upper"),
            ("no_proxy", "lower"),
            ("ftp_proxy", ""),
            ("x_proxy", "x"),
        ];
        let (_, globals) = globals("FROM x\n", &args);

        let proxies: Vec<String> = globals.proxies().map(|(name, value)| format!("{name}={value}")).collect();

        assert_eq!(proxies, ["HTTP_PROXY=mixed", "http_proxy=mixed", "NO_PROXY=lower", "no_proxy=lower"]);
        assert_eq!(globals.unused(&[]).collect::<Vec<_>>(), ["x_proxy"]);
    }

    #[test]
    fn the_epoch_is_a_number() {
        let (_, globals) = globals(
            "FROM x
",
            &[("SOURCE_DATE_EPOCH", "1700000000")],
        );
        assert_eq!(globals.epoch().map(|at| at.as_second()), Some(1_700_000_000));

        let file = strata_dockerfile::parse("ARG SOURCE_DATE_EPOCH=x\nFROM y\n", "Dockerfile").expect("a Dockerfile");
        let mut globals = Globals::new(&file, BTreeMap::new(), &Platform::host(), "").expect("a name may have a time");
        assert_eq!((globals.epoch(), globals.epoch_in_words()), (None, Some("x")));
        assert!(globals.wrong_epoch(&file).to_string().contains("\"x\""));
        globals.set_epoch(Timestamp::from_second(5).ok());
        assert_eq!((globals.epoch(), globals.epoch_in_words()), (Timestamp::from_second(5).ok(), None));
        globals.set_epoch(None);
        assert_eq!((globals.epoch(), globals.epoch_in_words()), (None, None));
    }
}
