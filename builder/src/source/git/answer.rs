//! What a repository says of its references. It is somebody else's machine: nothing of it is believed that does not look
//! as it must.

use strata_dockerfile::remote::is_commit;

use crate::source::Failure;

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The object that the reference names: a commit, or a tag with a message of its own.
    pub object: String,
    /// The commit behind it, if that is known.
    pub commit: Option<String>,
    /// The whole name of the reference. `None`: only a commit was named.
    pub reference: Option<String>,
}

/// Reads what `ls-remote --symref` says. A branch wins over a tag of the same name, as in git-checkout.
pub(super) fn resolve(said: &str, name: Option<&str>) -> Result<Resolved, Failure> {
    let lines: Vec<(&str, &str)> = said.lines().filter_map(|line| line.split_once('\t')).collect();
    let named = |wanted: &str| lines.iter().find(|(_, name)| *name == wanted).map(|(object, _)| *object);
    let Some(name) = name else {
        let symbolic = lines.iter().find(|(what, name)| *name == "HEAD" && what.starts_with("ref: "));
        let branch = symbolic.map(|(what, _)| what["ref: ".len()..].to_owned());
        let head = lines.iter().find(|(what, name)| *name == "HEAD" && !what.starts_with("ref: "));
        let Some((id, _)) = head else { return Err(Failure::NoDefault) };
        let branch = branch.map(|name| branch_name(&name)).transpose()?;
        return Ok(Resolved { object: object(id)?, commit: None, reference: branch });
    };
    let candidates = [
        format!("refs/{}", name.trim_start_matches("refs/")),
        format!("refs/heads/{}", name.trim_start_matches("refs/heads/")),
        format!("refs/tags/{}", name.trim_start_matches("refs/tags/")),
    ];
    let found = candidates.into_iter().find_map(|reference| Some((named(&reference)?, reference)));
    let Some((id, reference)) = found else { return Err(Failure::NoReference { name: name.to_owned() }) };
    let id = object(id)?;
    // A tag with a message is an object of its own, and its commit is told beside it.
    let peeled = named(&format!("{reference}^{{}}")).filter(|_| reference.starts_with("refs/tags/"));
    let commit = Some(peeled.map_or_else(|| Ok(id.clone()), object)?);
    Ok(Resolved { object: id, commit, reference: Some(reference) })
}

/// The commit, or the tag, must be what was said.
pub(super) fn check(found: &Resolved, checksum: Option<&str>) -> Result<(), Failure> {
    let Some(expected) = checksum else { return Ok(()) };
    let mut is = vec![found.object.as_str()];
    is.extend(found.commit.as_deref().filter(|commit| *commit != found.object));
    match is.iter().any(|id| id.starts_with(expected)) {
        true => Ok(()),
        false => Err(Failure::Checksum { expected: expected.to_owned(), found: is.join(", a tag of ") }),
    }
}

/// An object id, and nothing else.
pub(super) fn object(text: &str) -> Result<String, Failure> {
    match is_commit(text) {
        true => Ok(text.to_owned()),
        false => Err(Failure::Nonsense { what: "a commit", found: text.chars().take(80).collect() }),
    }
}

/// The name of a branch, and nothing that git would take for something else.
fn branch_name(name: &str) -> Result<String, Failure> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./+#@=,".contains(c);
    let short = name.strip_prefix("refs/heads/").filter(|short| {
        !short.is_empty() && !short.starts_with('-') && !short.contains("..") && short.chars().all(is_plain)
    });
    match short {
        Some(_) => Ok(name.to_owned()),
        None => Err(Failure::Nonsense { what: "a default branch", found: name.chars().take(80).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

    fn resolved(said: &str, name: Option<&str>) -> Result<Resolved, String> {
        resolve(said, name).map_err(|failure| failure.to_string())
    }

    #[test]
    fn head_names_the_default_branch() {
        let said = format!("ref: refs/heads/main\tHEAD\n{A}\tHEAD\n");

        let found = resolved(&said, None).expect("HEAD leads somewhere");

        assert_eq!((found.object.as_str(), found.reference.as_deref()), (A, Some("refs/heads/main")));
        assert!(resolved("", None).expect_err("an empty repository").contains("default"));
    }

    /// buildkit f83dedd8d: HEAD of a hostile server is given to git.
    #[test]
    fn row_107_a_default_branch_that_looks_like_an_option_is_refused() {
        for head in
            ["--upload-pack=x", "refs/heads/--upload-pack=x", "refs/heads/a b", "refs/heads/a..b", "refs/tags/a"]
        {
            let said = format!("ref: {head}\tHEAD\n{A}\tHEAD\n");
            let refused = resolved(&said, None).expect_err(head);
            assert!(refused.contains("default branch"), "{refused}");
        }
        for id in ["--all", "aaaa", &A.to_uppercase()] {
            let refused = resolved(&format!("{id}\trefs/heads/x\n"), Some("x")).expect_err(id);
            assert!(refused.contains("a commit"), "{refused}");
        }
    }

    #[test]
    fn a_branch_wins_over_a_tag_and_a_tag_is_what_it_names() {
        let said = format!("{A}\trefs/heads/v1\n{B}\trefs/tags/v1\n{C}\trefs/tags/v1^{{}}\n{B}\trefs/heads/x/v1\n");
        for (name, object, commit, reference) in [
            ("v1", A, A, "refs/heads/v1"),
            ("heads/v1", A, A, "refs/heads/v1"),
            ("tags/v1", B, C, "refs/tags/v1"),
            ("refs/tags/v1", B, C, "refs/tags/v1"),
            ("refs/heads/v1", A, A, "refs/heads/v1"),
            ("x/v1", B, B, "refs/heads/x/v1"),
        ] {
            let found = resolved(&said, Some(name)).expect(name);
            let expected =
                Resolved { object: object.into(), commit: Some(commit.into()), reference: Some(reference.into()) };
            assert_eq!(found, expected, "{name}");
        }
        assert!(resolved(&said, Some("v2")).expect_err("there is none").contains("\"v2\""));
    }

    #[test]
    fn a_checksum_begins_the_commit_or_the_tag() {
        let tag = Resolved { object: B.into(), commit: Some(C.into()), reference: None };

        for right in ["b", "bbb", B, "c", C] {
            assert!(check(&tag, Some(right)).is_ok(), "{right}");
        }
        assert!(check(&tag, None).is_ok());
        let said = check(&tag, Some("bc")).expect_err("neither begins so").to_string();
        assert!(said.contains(B) && said.contains(C) && said.contains("\"bc\"") || said.contains(" bc,"), "{said}");
    }
}
