//! Variables of a stage: ARGs and ENVs, and how words expand with them.
//! ENV beats ARG; an ARG of a stage takes its value from the build arguments, its default, the global ARG of the name.

use std::collections::BTreeMap;

use strata_dockerfile::expand::{self, ExpandError};
use strata_dockerfile::{ArgDeclaration, Dockerfile, Span, Word};
use strata_types::{ContainerConfig, Platform};

use crate::error::Error;

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

/// The variables at one point of a stage.
#[derive(Debug, Clone)]
pub struct Scope {
    args: Vec<(String, Option<String>)>,
    escape: char,
}

fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| *proxy == name || proxy.to_lowercase() == name)
}

/// What is built for, and what builds.
fn platform_args(target: &Platform) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (prefix, platform) in [("TARGET", target), ("BUILD", &Platform::host())] {
        let variant = platform.variant.clone().unwrap_or_default();
        args.insert(format!("{prefix}PLATFORM"), platform.to_string());
        args.insert(format!("{prefix}OS"), platform.os.clone());
        args.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        args.insert(format!("{prefix}VARIANT"), variant);
    }
    args
}

impl Globals {
    /// Evaluates the ARGs before the first FROM.
    pub fn new(file: &Dockerfile, build_args: BTreeMap<String, String>, platform: &Platform) -> Result<Self, Error> {
        let mut values = platform_args(platform);
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

    /// Expands a word of a FROM.
    pub fn expand(&self, file: &Dockerfile, word: &Word) -> Result<String, Error> {
        self.expand_text(file, &word.value, word.span)
    }

    /// Expands the value of a flag of a FROM.
    pub fn expand_text(&self, file: &Dockerfile, text: &str, span: Span) -> Result<String, Error> {
        expand::expand(text, self.escape, &|name| self.values.get(name).cloned())
            .map_err(|problem| Error::Dockerfile(Box::new(file.diagnostic(span, problem.to_string()))))
    }

    /// Build arguments that are proxies: they reach RUN without a declaration.
    pub fn proxies(&self) -> impl Iterator<Item = (&String, &String)> {
        self.build_args.iter().filter(|(name, _)| is_proxy(name))
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
    /// No ARG is declared yet.
    pub fn new(globals: &Globals) -> Self {
        Self { args: Vec::new(), escape: globals.escape }
    }

    /// Declares an ARG; returns "name" or "name=value", as the history shows it.
    pub fn declare(
        &mut self,
        file: &Dockerfile,
        globals: &Globals,
        config: &ContainerConfig,
        declaration: &ArgDeclaration,
    ) -> Result<String, Error> {
        let name = declaration.name.value.clone();
        let default = match &declaration.default {
            Some(word) => Some(self.expand(file, config, word)?),
            None => None,
        };
        let shown = match &default {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        };
        let given = globals.build_args.get(&name).cloned();
        let value = given.or(default).or_else(|| globals.values.get(&name).cloned());
        self.args.retain(|(other, _)| *other != name);
        self.args.push((name, value));
        Ok(shown)
    }

    /// ARGs with a value that no ENV hides, in order: what RUN sees, what its key and history hold.
    pub fn visible_args(&self, config: &ContainerConfig) -> Vec<(&str, &str)> {
        let with_value = self.args.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)));
        with_value.filter(|(name, _)| config.env_get(name).is_none()).collect()
    }

    /// Looks a variable up.
    pub fn get(&self, config: &ContainerConfig, name: &str) -> Option<String> {
        if let Some(value) = config.env_get(name) {
            return Some(value.to_owned());
        }
        self.args.iter().find(|(other, _)| other == name).and_then(|(_, value)| value.clone())
    }

    /// Expands a word.
    pub fn expand(&self, file: &Dockerfile, config: &ContainerConfig, word: &Word) -> Result<String, Error> {
        expand::expand(&word.value, self.escape, &|name| self.get(config, name))
            .map_err(|problem| mistake(file, word, &problem))
    }

    /// Expands a word that may become several: EXPOSE.
    pub fn expand_words(&self, file: &Dockerfile, config: &ContainerConfig, word: &Word) -> Result<Vec<String>, Error> {
        expand::expand_words(&word.value, self.escape, &|name| self.get(config, name))
            .map_err(|problem| mistake(file, word, &problem))
    }

    /// Expands the body of a heredoc.
    pub fn expand_document(
        &self,
        file: &Dockerfile,
        config: &ContainerConfig,
        heredoc: &strata_dockerfile::Heredoc,
    ) -> Result<String, Error> {
        if !heredoc.expand {
            return Ok(heredoc.text());
        }
        expand::expand_document(&heredoc.text(), self.escape, &|name| self.get(config, name))
            .map_err(|problem| Error::Dockerfile(Box::new(file.diagnostic(heredoc.marker_span, problem.to_string()))))
    }
}

fn mistake(file: &Dockerfile, word: &Word, problem: &ExpandError) -> Error {
    Error::Dockerfile(Box::new(file.diagnostic(word.span, problem.to_string())))
}
