//! Where an image is: "CONTEXT:IMAGE". Images have colons as well, so what stands before the first one is a context only
//! where there is one of that name; of a target it must be one unless it cannot be.

use crate::contexts::{self, Contexts};
use crate::error::{Error, Result};

/// An image of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The context.
    pub context: String,
    /// The image, as it was typed.
    pub image: String,
    /// What may have been meant as a context, and is none.
    unknown: Option<String>,
}

impl Place {
    fn new(context: &str, image: &str) -> Self {
        Self { context: context.to_owned(), image: image.to_owned(), unknown: None }
    }

    /// Where the image is. Without a known context it is in the current one: "app:1.0" is an image.
    pub fn source(text: &str, current: &str, contexts: &Contexts) -> Result<Self> {
        match text.split_once(':') {
            Some((context, "")) if is_known(contexts, context) => {
                Err(Error::usage(format!("{text:?} names no image")).hint("write CONTEXT:IMAGE"))
            }
            Some((context, image)) if is_known(contexts, context) => Ok(Self::new(context, image)),
            Some((left, _)) => Ok(Self { unknown: Some(left.to_owned()), ..Self::new(current, text) }),
            None => Ok(Self::new(current, text)),
        }
    }

    /// Where the image shall be. A mistyped context must not become the name of an image.
    pub fn target(text: &str, current: &str, contexts: &Contexts, source: &Self) -> Result<Self> {
        let place = match text.split_once(':') {
            Some((context, "")) if is_known(contexts, context) => Self::new(context, &source.image),
            Some((context, image)) if is_known(contexts, context) => Self::new(context, image),
            Some((left, right)) if !is_image(left, right, &source.image) => {
                return Err(Error::usage(format!("there is no context {left:?}"))
                    .hint("`ctl context ls` lists the contexts")
                    .hint(format!("{current}:{text} is the image {text} in the context {current:?}")));
            }
            _ => Self::new(current, text),
        };
        if place.context == source.context {
            let error = format!("source and target are in the same context, {:?}", place.context);
            return Err(Error::usage(error)
                .hint("`ctl tag` gives an image a further name")
                .hint("write CONTEXT:IMAGE for another one; `ctl context ls` lists them"));
        }
        Ok(place)
    }

    /// An error of this context's store, with its name.
    pub fn failed(&self, error: Error) -> Error {
        let reason = error.reason.clone();
        let error = Error { message: format!("{}: {}", self.context, error.message), ..error };
        match (&self.unknown, reason.as_str()) {
            (Some(unknown), "FAULT_IMAGE_NOT_FOUND") => {
                error.hint(format!("there is no context {unknown:?} either; `ctl context ls` lists the contexts"))
            }
            _ => error,
        }
    }
}

fn is_known(contexts: &Contexts, name: &str) -> bool {
    name == contexts::DEFAULT || contexts.contexts.contains_key(name)
}

/// Can what stands around a colon be nothing but an image, or is it named as the source is?
fn is_image(left: &str, right: &str, source: &str) -> bool {
    let port = right.split_once('/').map_or("", |(port, _)| port);
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let tag = source.rfind(':').filter(|at| !source[*at..].contains('/'));
    let repository = tag.map_or(source, |at| &source[..at]);
    is_port || left.contains(['/', '@']) || left == repository
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::contexts::Named;

    fn contexts() -> Contexts {
        let endpoint = "unix:/x".to_owned();
        let named = Named { store: endpoint.clone(), builder: endpoint.clone(), runtime: endpoint, ..Named::default() };
        Contexts {
            current: "here".to_owned(),
            contexts: BTreeMap::from(["here", "prod"].map(|n| (n.into(), named.clone()))),
        }
    }

    fn both(source: &str, target: &str) -> Result<[(String, String); 2]> {
        let contexts = contexts();
        let source = Place::source(source, "here", &contexts)?;
        let target = Place::target(target, "here", &contexts, &source)?;
        Ok([(source.context, source.image), (target.context, target.image)])
    }

    #[test]
    fn a_context_is_what_is_known_as_one() {
        for (source, target, expected) in [
            ("app", "prod:app", [("here", "app"), ("prod", "app")]),
            ("app:1.0", "prod:app:1.0", [("here", "app:1.0"), ("prod", "app:1.0")]),
            ("app:1.0", "prod:", [("here", "app:1.0"), ("prod", "app:1.0")]),
            ("here:app:1", "default:x:2", [("here", "app:1"), ("default", "x:2")]),
            ("prod:app:1.0", "app", [("prod", "app:1.0"), ("here", "app")]),
            ("prod:app:1.0", "app:1.0", [("prod", "app:1.0"), ("here", "app:1.0")]),
            ("prod:r.example/app", "r.example/app:3", [("prod", "r.example/app"), ("here", "r.example/app:3")]),
            ("prod:a", "localhost:5000/a:1", [("prod", "a"), ("here", "localhost:5000/a:1")]),
            ("app@sha256:00", "prod:app", [("here", "app@sha256:00"), ("prod", "app")]),
        ] {
            let found = both(source, target).unwrap_or_else(|error| panic!("{source} {target}: {}", error.message));
            assert_eq!(found, expected.map(|(context, image)| (context.to_owned(), image.to_owned())), "{source}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_name() {
        for (source, target, expected) in [
            ("prod:app", "stagng:app", "there is no context \"stagng\""),
            ("app", "app:2", "source and target are in the same context, \"here\""),
            ("prod:app", "prod:other", "source and target are in the same context, \"prod\""),
            ("prod:", "here:app", "\"prod:\" names no image"),
        ] {
            assert_eq!(both(source, target).expect_err("refused").message, expected, "{source} {target}");
        }
    }

    #[test]
    fn a_source_that_is_not_found_may_be_a_context_that_is_none() {
        let place = Place::source("prdo:app", "here", &contexts()).expect("it may be an image");
        let mut error = Error::new("no such image: prdo:app");
        error.reason = "FAULT_IMAGE_NOT_FOUND".to_owned();

        let error = place.failed(error);

        assert_eq!(error.message, "here: no such image: prdo:app");
        assert!(error.hints.iter().any(|hint| hint.contains("no context \"prdo\"")), "{:?}", error.hints);
    }
}
