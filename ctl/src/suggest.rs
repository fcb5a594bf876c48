//! "did you mean …": the closest name of what is there, for a container, an image, a network, a secret or a volume that is not.

use crate::command::{images, info, network, ps, secret, version, volume};
use crate::error::{Error, NO_METHOD, Result};
use crate::platform::Choice;
use crate::render::name;

tokio::task_local! {
    /// Where the command works.
    static CHOICE: Choice;
}

/// Runs a command; what it misses may then be looked up where it works.
pub async fn within<T>(choice: Choice, command: impl Future<Output = T>) -> T {
    CHOICE.scope(choice, command).await
}

/// Adds the closest name, when the error is about something that is not there. Whatever hinders that hinders no more: the
/// error stays as it is.
pub async fn complete(error: Error) -> Error {
    if error.reason == NO_METHOD {
        return explain_versions(error).await;
    }
    let Some((kind, wanted)) = error.missing() else { return error };
    let names = match CHOICE.try_with(Clone::clone) {
        Ok(choice) => names(&choice, kind).await.unwrap_or_default(),
        Err(_) => return error,
    };
    match closest(wanted, &names) {
        Some(near) => {
            // As people call it.
            let hint = format!("did you mean {}?", near.strip_suffix(":latest").unwrap_or(near));
            error.hint_first(hint)
        }
        None => error,
    }
}

/// Adds which of `ctl` and the services is the older one.
async fn explain_versions(error: Error) -> Error {
    let Ok(choice) = CHOICE.try_with(Clone::clone) else { return error };
    let told = async { info::services(&choice.open()?).await };
    let services = told.await.unwrap_or_default();
    let hints = services.iter().filter_map(|info| version::difference(&info.name, &info.version));
    let before = error.hints.len();
    let error = hints.fold(error, Error::hint);
    match error.hints.len() > before {
        true => error,
        false => error.hint(
            "the service is of another make of this version, which may run since before an update; \
             `ctl info` shows its process, and the next `ctl` starts it anew once that has ended",
        ),
    }
}

/// Names of what there is of a kind.
pub async fn names(choice: &Choice, kind: &str) -> Result<Vec<String>> {
    let platform = choice.open()?;
    match kind {
        "container" => Ok(ps::list(&platform, true).await?.into_iter().map(|container| container.name).collect()),
        "image" => {
            let images = images::all(&platform, "").await?;
            Ok(images.iter().flat_map(|image| &image.names).map(|full| name::familiar(full)).collect())
        }
        "network" => {
            let networks = network::list(&platform).await?.into_iter().filter_map(|network| network.spec);
            let mut names: Vec<String> = networks.map(|spec| spec.name).collect();
            names.extend(["bridge", "host", "none"].map(str::to_owned));
            names.sort();
            names.dedup();
            Ok(names)
        }
        "secret" => Ok(secret::all(&platform).await?.into_iter().map(|secret| secret.name).collect()),
        "volume" => Ok(volume::all(&platform, false).await?.into_iter().map(|volume| volume.name).collect()),
        _ => Ok(Vec::new()),
    }
}

/// The name that is likely meant: one or a few letters away; or, of an image, one that differs in its tag alone.
fn closest<'a>(wanted: &str, names: &'a [String]) -> Option<&'a str> {
    let others = || names.iter().map(String::as_str).filter(|name| *name != wanted);
    if let Some(near) = strata_dockerfile::nearest(wanted, others()) {
        return Some(near);
    }
    let (repository, tag) = split(wanted);
    let same = others().find(|name| split(name).0 == repository && split(name).1.is_some());
    // Without a tag, what is misspelt is compared without the tags of the others.
    let bare = || others().map(|name| split(name).0);
    let near = || strata_dockerfile::nearest(repository, bare()).filter(|_| tag.is_none());
    same.or_else(|| near().and_then(|near| others().find(|name| split(name).0 == near)))
}

/// "debian:12": the repository, and the tag if there is one.
fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_found_and_a_far_one_is_not() {
        let names = ["web", "database", "debian:12", "reg.example:5000/app:1"].map(str::to_owned);
        for (wanted, expected) in [
            ("wbe", Some("web")),
            ("databse", Some("database")),
            ("debian:13", Some("debian:12")),
            ("debian:bookworm", Some("debian:12")),
            ("debain", Some("debian:12")),
            ("reg.example:5000/ap:1", Some("reg.example:5000/app:1")),
            ("reg.example:5000/app:latest", Some("reg.example:5000/app:1")),
            ("nothing-like-it", None),
            ("web", None),
            ("", None),
        ] {
            assert_eq!(closest(wanted, &names), expected, "{wanted}");
        }
    }

    #[tokio::test]
    async fn outside_of_a_command_an_error_stays_as_it_is() {
        let error = complete(Error::new("no such thing")).await;

        assert_eq!(error.hints, Vec::<String>::new());
    }
}
