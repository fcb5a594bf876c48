//! `--secret`: where each secret is; it is read when the builder asks for it.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::Bytes;
use strata_proto::builder::v1 as pb;

use crate::args::fields;
use crate::error::{Error, Result};

/// The largest secret, in bytes, as in Docker.
const LARGEST: u64 = 500 << 10;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Variable(String),
}

/// The secrets of a build, by id.
#[derive(Debug, Default)]
pub struct Secrets(HashMap<String, Place>);

impl Secrets {
    /// Reads the flags; a file that is not there is an error before anything is built.
    pub fn of(flags: &[String]) -> Result<Self> {
        let mut all = HashMap::new();
        for flag in flags {
            let (id, place) = parse(flag, |name| std::env::var_os(name).is_some())?;
            if let Place::File(path) = &place {
                let failed = |why: String| Error::new(format!("secret {id:?}: cannot read {}: {why}", path.display()));
                let found = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
                if found.is_dir() || found.len() > LARGEST {
                    return Err(failed(format!("it is a directory, or larger than {LARGEST} bytes")));
                }
            }
            all.insert(id, place);
        }
        Ok(Self(all))
    }

    /// There are some.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers a question of the builder.
    pub async fn answer(&self, pb::NeedSecret { number, id }: pb::NeedSecret) -> pb::BuildSecret {
        let (value, problem) = match self.0.get(&id) {
            None => (None, String::new()),
            Some(Place::Variable(name)) => {
                let value = std::env::var_os(name).unwrap_or_default();
                (Some(Bytes::from(std::os::unix::ffi::OsStringExt::into_vec(value))), String::new())
            }
            Some(Place::File(path)) => match tokio::fs::read(path).await {
                Ok(bytes) => (Some(bytes.into()), String::new()),
                Err(error) => (None, format!("cannot read {}: {error}", path.display())),
            },
        };
        pb::BuildSecret { number, value, problem }
    }
}

/// Docker's form: `id=ID[,src=FILE|,env=NAME][,type=file|env]`. With an id alone it names a variable, if there is one, else
/// a file.
fn parse(text: &str, is_set: impl Fn(&str) -> bool) -> Result<(String, Place)> {
    let wrong = |why: &str| {
        let error = Error::usage(format!("invalid --secret {text:?}: {why}"));
        error.hint("it is written as id=ID,src=FILE or id=ID,env=NAME")
    };
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    let fields = fields(text);
    for field in &fields {
        let (key, value) = field.split_once('=').ok_or_else(|| wrong(&format!("{field:?} has no value")))?;
        match key.to_lowercase().as_str() {
            "id" => id = Some(value),
            "source" | "src" => file = Some(value),
            "env" => variable = Some(value),
            "type" if matches!(value, "file" | "env") => kind = Some(value),
            "type" => return Err(wrong(&format!("the type {value:?} is neither \"file\" nor \"env\""))),
            _ => return Err(wrong(&format!("the key {key:?} is not known"))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| wrong("the id is missing"))?;
    if kind == Some("env") {
        variable = variable.or(file.take());
    }
    let place = match (file, variable) {
        (Some(_), Some(_)) => return Err(wrong("it is a file or a variable, not both")),
        (Some(file), None) => Place::File(file.into()),
        (None, Some(name)) => Place::Variable(name.to_owned()),
        (None, None) if kind == Some("env") || kind.is_none() && is_set(id) => Place::Variable(id.to_owned()),
        (None, None) => Place::File(id.into()),
    };
    match &place {
        Place::Variable(name) if !is_set(name) => Err(wrong(&format!("there is no variable {name:?}"))),
        _ => Ok((id.to_owned(), place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_docker_reads_them() {
        let file = |path: &str| Place::File(path.into());
        let variable = |name: &str| Place::Variable(name.to_owned());
        for (text, place) in [
            ("id=a,src=/x", file("/x")),
            ("id=a,source=x", file("x")),
            ("type=file,id=a,src=/x", file("/x")),
            ("id=a,env=SET", variable("SET")),
            ("id=a,type=env,src=SET", variable("SET")),
            ("id=a", file("a")),
        ] {
            assert_eq!(parse(text, |name| name == "SET").unwrap(), ("a".to_owned(), place), "{text}");
        }
        assert_eq!(parse("id=SET", |name| name == "SET").unwrap().1, variable("SET"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("src=/x", "the id is missing"),
            ("id=,src=/x", "the id is missing"),
            ("a", "\"a\" has no value"),
            ("id=a,mode=1", "the key \"mode\" is not known"),
            ("id=a,type=x", "the type \"x\" is neither"),
            ("id=a,src=x,env=SET", "not both"),
            ("id=a,env=NOT_SET", "there is no variable \"NOT_SET\""),
        ] {
            let error = parse(text, |name| name == "SET").expect_err(text);
            assert!(error.message.contains(why), "{text}: {}", error.message);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_told_at_once() {
        let error = Secrets::of(&["id=a,src=/nonexistent/secret".to_owned()]).expect_err("there is no such file");
        assert!(error.message.contains("/nonexistent/secret") && error.message.contains("\"a\""), "{}", error.message);
    }
}
