//! What the options of a log say of each line: labels and variables of the container, and a tag.

use std::collections::BTreeMap;

use regex::Regex;

use super::{Rules, options::Options, tag::Tag};
use crate::{record::Record, spec::Root};

/// Digits of a short id.
const SHORT: usize = 12;

/// Which labels and variables are told.
#[derive(Debug)]
pub struct Selection {
    labels: Names,
    variables: Names,
}

#[derive(Debug)]
struct Names {
    all: Vec<String>,
    pattern: Option<Regex>,
}

impl Names {
    fn of(options: &Options<'_>, list: &str, pattern: &str) -> Result<Self, String> {
        let all = options.get(list).unwrap_or_default().split(',').map(str::trim);
        let regex = |text: &str| Regex::new(text).map_err(|_| format!("{pattern}={text:?} is no regular expression"));
        Ok(Self {
            all: all.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            pattern: options.get(pattern).map(regex).transpose()?,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.all.iter().any(|one| one == name) || self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
    }
}

impl Selection {
    /// Reads "labels", "labels-regex", "env" and "env-regex".
    pub fn of(options: &Options<'_>) -> Result<Self, String> {
        Ok(Self {
            labels: Names::of(options, "labels", "labels-regex")?,
            variables: Names::of(options, "env", "env-regex")?,
        })
    }
}

/// A container as its log knows it.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Its record.
    pub record: &'a Record,
    /// Its host name.
    pub hostname: &'a str,
}

impl Facts<'_> {
    /// A field of a tag.
    pub fn field(&self, name: &str) -> String {
        let record = self.record;
        let image_id = record.image_id.as_str();
        match name {
            "ID" => self.short_id().to_owned(),
            "FullID" => record.id.to_string(),
            "Name" => record.name.to_string(),
            "ImageID" => image_id.trim_start_matches("sha256:").chars().take(SHORT).collect(),
            "ImageFullID" => image_id.to_owned(),
            "ImageName" => self.image_name().to_owned(),
            "DaemonName" => "strata".to_owned(),
            "Command" => record.process.args.join(" "),
            "Hostname" => self.hostname.to_owned(),
            _ => String::new(),
        }
    }

    /// The id in 12 digits.
    pub fn short_id(&self) -> &str {
        &self.record.id.as_str()[..SHORT]
    }

    /// The image by the name that was asked for.
    pub fn image_name(&self) -> &str {
        match &self.record.spec.root {
            Root::Image(name) => name,
            Root::Snapshot(_) => "",
        }
    }
}

impl Rules {
    /// Labels and variables that are told of each line.
    pub fn named(&self, facts: &Facts<'_>) -> BTreeMap<String, String> {
        let labels = facts.record.spec.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let variables = facts.record.process.env.iter().filter_map(|pair| pair.split_once('='));
        let labels = labels.filter(|(name, _)| self.selection.labels.has(name));
        let variables = variables.filter(|(name, _)| self.selection.variables.has(name));
        labels.chain(variables).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// What is in each line of a file: these, and the tag if one was asked for.
    pub fn attributes(&self, facts: &Facts<'_>) -> BTreeMap<String, String> {
        let mut all = self.named(facts);
        if let Some(tag) = &self.tag {
            all.insert("tag".to_owned(), tag.fill(facts));
        }
        all
    }

    /// The name by which receivers know the container: a word.
    pub fn tag(&self, facts: &Facts<'_>) -> String {
        let tag = self.tag.clone().unwrap_or_else(Tag::usual).fill(facts);
        // RFC 5424: what is not known is a dash.
        let tag = if tag.is_empty() { "-" } else { tag.as_str() };
        tag.chars().map(|letter| if letter.is_whitespace() || letter.is_control() { '_' } else { letter }).collect()
    }
}
