//! `--chown` and the owner of WORKDIR: names are looked up in the image that is being built, numbers are taken strictly.

use strata_dockerfile::Span;

use crate::error::Error;
use crate::key::Key;
use crate::progress::Running;
use crate::solve::{Build, StageWork};

/// Column of the number of a user or group: passwd(5), group(5).
const ID: usize = 2;
/// Column of the group of a user.
const GROUP: usize = 3;

/// Resolves `user[:group]` against the stage's passwd and group. The name of a user alone gives the group that passwd says, a
/// number alone the group of the same number.
pub async fn resolve(
    build: &Build,
    work: &StageWork,
    text: &str,
    span: Span,
    running: &Running,
) -> Result<(u32, u32), Error> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let uid = id(build, work, (user, "/etc/passwd", ID), span, running).await?;
    let gid = match group {
        Some(group) => id(build, work, (group, "/etc/group", ID), span, running).await?,
        None => id(build, work, (user, "/etc/passwd", GROUP), span, running).await?,
    };
    Ok((uid, gid))
}

async fn id(
    build: &Build,
    work: &StageWork,
    (name, path, column): (&str, &str, usize),
    span: Span,
    running: &Running,
) -> Result<u32, Error> {
    if name.is_empty() {
        return Err(build.mistake(span, "the owner is written as user[:group]"));
    }
    if looks_numeric(name) {
        // What looks like a number never falls back to a name: an image could map it to root.
        let wrong = || build.mistake(span, format!("{name:?} is not an id between 0 and 4294967294"));
        let is_plain = name.bytes().all(|byte| byte.is_ascii_digit());
        let id: u32 = name.parse().ok().filter(|_| is_plain).ok_or_else(wrong)?;
        return if id == u32::MAX { Err(wrong()) } else { Ok(id) };
    }
    let question = Key::root("id").part(path).part([column as u8]).part(name).finish();
    if let Some(answer) = build.recall(&work.draft, &question).await? {
        let [a, b, c, d, ..] = answer;
        return Ok(u32::from_le_bytes([a, b, c, d]));
    }
    let layers = build.files(&work.draft, running).await?;
    let file = build.store.read_file(&layers, path).await?.unwrap_or_default();
    let found = find(&file, name, column);
    let found = found.ok_or_else(|| build.mistake(span, format!("the image's {path} has no entry {name:?}")))?;
    let mut answer = [0; 32];
    answer[..4].copy_from_slice(&found.to_le_bytes());
    build.memorize(&work.draft, &question, answer, &format!("{name} in {path}")).await?;
    Ok(found)
}

fn looks_numeric(name: &str) -> bool {
    name.trim_start_matches(['+', '-', ' ']).starts_with(|c: char| c.is_ascii_digit())
        && name.trim_start_matches(['+', '-', ' ']).bytes().all(|b| b.is_ascii_alphanumeric())
        && name.trim_start_matches(['+', '-', ' ']).bytes().next().is_some_and(|b| b.is_ascii_digit())
}

/// The number in a column of the entry of this name.
fn find(file: &[u8], name: &str, column: usize) -> Option<u32> {
    file.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        if fields.next() != Some(name.as_bytes()) {
            return None;
        }
        std::str::from_utf8(fields.nth(column - 1)?).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_their_whole_field() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nap:x:5:5::/:\napp:x:1000:1001::/app:/bin/sh\nbroken\n";

        assert_eq!((find(passwd, "app", ID), find(passwd, "app", GROUP)), (Some(1000), Some(1001)));
        assert_eq!(find(passwd, "broken", ID), None);
        assert_eq!(find(passwd, "x", ID), None);
    }

    #[test]
    fn what_starts_like_a_number_is_one() {
        for (text, expected) in [("10", true), ("+1", true), ("-1", true), ("0x1", true), ("app", false), ("a1", false)]
        {
            assert_eq!(looks_numeric(text), expected, "{text}");
        }
    }
}
