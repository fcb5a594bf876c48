//! Image names as people type them: "debian:bookworm" for "docker.io/library/debian:bookworm".

use strata_types::Reference;

/// The short form of a full name.
pub fn familiar(full: &str) -> String {
    Reference::parse(full).map_or_else(|_| full.to_owned(), |reference| reference.familiar())
}

/// The columns REPOSITORY and TAG of a full name.
pub fn repository_and_tag(full: &str) -> (String, String) {
    match Reference::parse(full) {
        Ok(reference) => (reference.familiar_name(), reference.tag().unwrap_or("<none>").to_owned()),
        Err(_) => (full.to_owned(), "<none>".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_they_are_typed() {
        assert_eq!(familiar("docker.io/library/debian:bookworm"), "debian:bookworm");
        assert_eq!(
            repository_and_tag("registry.example:5000/team/app:1"),
            ("registry.example:5000/team/app".to_owned(), "1".to_owned())
        );
    }
}
