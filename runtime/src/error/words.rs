//! What texts of errors say of the things that they found.

/// What is still there of a container, and why.
pub(super) fn of_hanging(hanging: &[String]) -> String {
    match hanging {
        [] => ": its end was not seen in time".to_owned(),
        [one] => format!(": {one}"),
        [one, rest @ ..] => format!(": {one}, and {} more hang in the kernel", rest.len()),
    }
}

/// The first of the containers that have something, by name, and how many more there are.
pub(super) fn holders_of(holders: &[(String, String)]) -> String {
    match holders {
        [] => "a container".to_owned(),
        [(_, name)] => format!("container {name}"),
        [(_, name), rest @ ..] => format!("container {name} and {} more", rest.len()),
    }
}

/// What is wrong with an archive, or with the place where it goes.
pub(super) fn of_archive(error: &strata_archive::Error) -> &'static str {
    if is_of_the_host(error) { "cannot read or write the files" } else { "the archive cannot be unpacked" }
}

/// The archive is not to blame.
pub(super) fn is_of_the_host(error: &strata_archive::Error) -> bool {
    use strata_archive::Error;
    matches!(error, Error::Disk { .. } | Error::Write { .. } | Error::Unarchivable { .. } | Error::Damaged { .. })
}
