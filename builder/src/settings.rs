//! Build arguments that mean something to the builder itself, and the settings of checks in the file: what cannot be
//! done yet is refused here, before anything runs.

use std::collections::BTreeMap;

use strata_dockerfile::mount::parse_bool;
use strata_dockerfile::{Check, Dockerfile};

use crate::error::Error;

/// What an error says of settings whose effect is not there.
const ALONE: &str = "the build itself does not need it";

/// Reads the settings; what is asked for and not there is an error that says so.
pub fn check(file: &Dockerfile, build_args: &BTreeMap<String, String>) -> Result<(), Error> {
    let switch = |name: &str| match build_args.get(name).map(String::as_str) {
        None | Some("") => Ok(false),
        Some(text) => parse_bool(text).ok_or_else(|| invalid(name, format!("{text:?} is neither true nor false"))),
    };
    if switch("BUILDKIT_MULTI_PLATFORM")? {
        return Err(refused("BUILDKIT_MULTI_PLATFORM", "an index of images for several platforms"));
    }
    if switch("BUILDKIT_INLINE_CACHE")? {
        return Err(refused("BUILDKIT_INLINE_CACHE", "a cache inside the image"));
    }
    match build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
        Some(text) => {
            let check =
                Check::parse(text).map_err(|problem| invalid("BUILDKIT_DOCKERFILE_CHECK", problem.to_string()))?;
            match check.is_error {
                true => Err(refused("BUILDKIT_DOCKERFILE_CHECK", "checks of a Dockerfile that fail the build")),
                false => Ok(()),
            }
        }
        None => check_directive(file),
    }
}

/// The directive counts where no build argument takes its place.
fn check_directive(file: &Dockerfile) -> Result<(), Error> {
    let Some(word) = &file.directives.check else { return Ok(()) };
    // The parser has refused what cannot be read.
    if !Check::parse(&word.value).is_ok_and(|check| check.is_error) {
        return Ok(());
    }
    let message = "checks of a Dockerfile that fail the build are not available yet";
    let diagnostic =
        file.diagnostic(word.span, message).with_suggestion("take error=true away: the build itself does not need it");
    Err(Error::Unsupported(Box::new(diagnostic)))
}

fn invalid(name: &str, problem: String) -> Error {
    Error::Invalid { field: "build_args", problem: format!("{name}: {problem}") }
}

fn refused(name: &str, effect: &str) -> Error {
    Error::UnsupportedArgument { name: name.to_owned(), problem: format!("{effect} is not available yet; {ALONE}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, args: &[(&str, &str)]) -> Result<(), String> {
        let file = strata_dockerfile::parse(text, "Dockerfile").expect("the text is a Dockerfile");
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(&file, &args).map_err(|error| error.to_string())
    }

    fn given(name: &str, value: &str) -> Result<(), String> {
        checked("FROM x\n", &[(name, value)])
    }

    #[test]
    fn what_has_no_effect_yet_is_refused_by_name() {
        for (name, value) in [
            ("BUILDKIT_MULTI_PLATFORM", "1"),
            ("BUILDKIT_MULTI_PLATFORM", "true"),
            ("BUILDKIT_INLINE_CACHE", "1"),
            ("BUILDKIT_DOCKERFILE_CHECK", "skip=all;error=true"),
        ] {
            let said = given(name, value).expect_err(name);
            assert!(said.contains(name) && said.contains("not available yet"), "{said}");
        }
    }

    #[test]
    fn what_changes_nothing_is_accepted() {
        for (name, value) in [
            ("BUILDKIT_MULTI_PLATFORM", "false"),
            ("BUILDKIT_MULTI_PLATFORM", ""),
            ("BUILDKIT_INLINE_CACHE", "0"),
            ("BUILDKIT_DOCKERFILE_CHECK", "skip=all;experimental=all"),
            ("BUILDKIT_SYNTAX", "docker/dockerfile:1"),
            ("BUILDKIT_BUILD_NAME", "x"),
            ("BUILDKIT_SBOM_SCAN_CONTEXT", "true"),
            ("BUILDKIT_SBOM_SCAN_STAGE", "a,b"),
        ] {
            assert_eq!(given(name, value), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        for (name, value) in [("BUILDKIT_MULTI_PLATFORM", "maybe"), ("BUILDKIT_DOCKERFILE_CHECK", "nonsense")] {
            let said = given(name, value).expect_err(name);
            assert!(said.contains(name) && said.contains(value), "{said}");
        }
    }

    #[test]
    fn a_check_directive_that_fails_builds_is_refused_where_it_stands() {
        assert_eq!(checked("# check=skip=all\nFROM x\n", &[]), Ok(()));
        let said = checked("# check=error=true\nFROM x\n", &[]).expect_err("it asks for an error");
        assert!(said.starts_with("Dockerfile:1:9: "), "{said}");
        assert_eq!(checked("# check=error=true\nFROM x\n", &[("BUILDKIT_DOCKERFILE_CHECK", "error=false")]), Ok(()));
    }
}
