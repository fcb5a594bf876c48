//! Image user strings to ids: `USER`, `--user`. Numbers are parsed once, strictly, and never looked up
//! as names (CVE-2016-3697, CVE-2026-46680); nothing falls back to root.
//! The bytes of passwd and group come from the caller, who reads them only from regular files.

/// The most bytes of a passwd or group file that are looked at (CVE-2026-47262).
pub const MAX_FILE_BYTES: usize = 10 << 20;

/// The kernel's limit of supplementary groups. include/uapi/linux/limits.h, NGROUPS_MAX
const MAX_GROUPS: usize = 65536;

/// Why a user string gave no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// One side of the colon is empty, or there are two colons, or a character no name has.
    #[error("user {user:?} is not of the form name, uid, name:group or uid:gid")]
    Malformed {
        /// The string as given.
        user: String,
    },
    /// It looks like a number and is not one in 0..=4294967294 without sign, prefix or leading zero.
    #[error("{what} {text:?} is not a decimal id from 0 to 4294967294")]
    Number {
        /// "user" or "group".
        what: &'static str,
        /// The text as given.
        text: String,
    },
    /// The image's passwd has no such user.
    #[error("no user {name:?} in the image's /etc/passwd")]
    NoUser {
        /// The name looked for.
        name: String,
    },
    /// The image's group file has no such group.
    #[error("no group {name:?} in the image's /etc/group")]
    NoGroup {
        /// The name looked for.
        name: String,
    },
    /// The line of this name has an id that is no id.
    #[error("the line of {name:?} in the image's {file} has no valid id")]
    Line {
        /// The file in the image.
        file: &'static str,
        /// The name at the start of the line.
        name: String,
    },
    /// The file is larger than anything sensible.
    #[error("the image's {file} has {size} bytes, more than {MAX_FILE_BYTES}")]
    TooLarge {
        /// The file in the image.
        file: &'static str,
        /// Its size.
        size: usize,
    },
    /// The user is in more groups than the kernel takes.
    #[error("user {user:?} is in more than {MAX_GROUPS} groups")]
    TooManyGroups {
        /// The string as given.
        user: String,
    },
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id inside the container.
    pub uid: u32,
    /// Primary group id inside the container.
    pub gid: u32,
    /// Supplementary groups, ascending, always with `gid` (CVE-2022-36109).
    pub additional_gids: Vec<u32>,
    /// The home directory that passwd names, else `/`.
    pub home: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self { uid: 0, gid: 0, additional_gids: vec![0], home: "/".to_owned() }
    }
}

/// One usable line of passwd.
struct Account<'a> {
    name: &'a str,
    gid: u32,
    home: &'a str,
    uid: u32,
}

/// Resolves `user` against the image's passwd and group; the empty string is uid 0.
///
/// Without a group, the primary group is passwd's (0 if it has no line) and the supplementary groups are
/// those that list the user. With a group there are no others, as in Docker.
pub fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, Error> {
    check_size("/etc/passwd", passwd)?;
    check_size("/etc/group", group)?;
    let (user_part, group_part) = split(if user.is_empty() { "0" } else { user })?;

    let (uid, account) = match parse_id("user", user_part)? {
        Some(uid) => (uid, account_of_uid(uid, passwd)),
        None => {
            let account = account_of_name(user_part, passwd)?;
            (account.uid, Some(account))
        }
    };
    let home = account.as_ref().map(|account| account.home).filter(|home| home.starts_with('/')).unwrap_or("/");
    let (gid, mut additional_gids) = match (group_part, &account) {
        (Some(group_part), _) => (resolve_group(group_part, group)?, Vec::new()),
        (None, Some(account)) => (account.gid, groups_listing(account.name, group)),
        (None, None) => (0, Vec::new()),
    };
    additional_gids.push(gid);
    additional_gids.sort_unstable();
    additional_gids.dedup();
    if additional_gids.len() > MAX_GROUPS {
        return Err(Error::TooManyGroups { user: user.to_owned() });
    }
    Ok(Identity { uid, gid, additional_gids, home: home.to_owned() })
}

/// Resolves one group, as of `--group-add`: a number, or a name of the image's group file.
pub fn resolve_group(text: &str, group: &[u8]) -> Result<u32, Error> {
    check_size("/etc/group", group)?;
    if let Some(gid) = parse_id("group", text)? {
        return Ok(gid);
    }
    let fields = lines(group).find(|fields| fields[0] == text);
    let fields = fields.ok_or_else(|| Error::NoGroup { name: text.to_owned() })?;
    let gid = fields.get(2).and_then(|id| strict_id(id));
    gid.ok_or_else(|| Error::Line { file: "/etc/group", name: text.to_owned() })
}

fn split(user: &str) -> Result<(&str, Option<&str>), Error> {
    let malformed = || Error::Malformed { user: user.to_owned() };
    if user.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err(malformed());
    }
    match user.split_once(':') {
        None => Ok((user, None)),
        Some((name, group)) if !name.is_empty() && !group.is_empty() && !group.contains(':') => Ok((name, Some(group))),
        Some(_) => Err(malformed()),
    }
}

/// Returns the id if `text` is meant as a number, `None` if it is a name.
fn parse_id(what: &'static str, text: &str) -> Result<Option<u32>, Error> {
    let bytes = text.as_bytes();
    let signed = matches!(bytes.first(), None | Some(b'+' | b'-' | b' '));
    let prefixed = bytes.len() > 1 && bytes[0] == b'0' && bytes[1].is_ascii_alphabetic();
    if !signed && !prefixed && !bytes.iter().all(u8::is_ascii_digit) {
        return Ok(None);
    }
    strict_id(text).map(Some).ok_or_else(|| Error::Number { what, text: text.to_owned() })
}

/// Parses decimal digits without a leading zero; `u32::MAX` means "no change" to the kernel and is no id.
pub fn strict_id(text: &str) -> Option<u32> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    text.parse().ok().filter(|id| canonical && *id != u32::MAX)
}

fn check_size(file: &'static str, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > MAX_FILE_BYTES { Err(Error::TooLarge { file, size: bytes.len() }) } else { Ok(()) }
}

/// Iterates over the lines that are text, each split at its colons.
fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    file.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

fn account<'a>(fields: &[&'a str]) -> Option<Account<'a>> {
    let [name, _, uid, gid, rest @ ..] = fields else { return None };
    let home = rest.get(1).copied().unwrap_or("");
    Some(Account { name, uid: strict_id(uid)?, gid: strict_id(gid)?, home })
}

fn account_of_uid(uid: u32, passwd: &[u8]) -> Option<Account<'_>> {
    lines(passwd).filter_map(|fields| account(&fields)).find(|account| account.uid == uid)
}

fn account_of_name<'a>(name: &str, passwd: &'a [u8]) -> Result<Account<'a>, Error> {
    let fields = lines(passwd).find(|fields| fields[0] == name);
    let fields = fields.ok_or_else(|| Error::NoUser { name: name.to_owned() })?;
    account(&fields).ok_or_else(|| Error::Line { file: "/etc/passwd", name: name.to_owned() })
}

fn groups_listing(name: &str, group: &[u8]) -> Vec<u32> {
    let lists = |fields: &Vec<&str>| fields.get(3).is_some_and(|members| members.split(',').any(|one| one == name));
    lines(group).filter(lists).filter_map(|fields| strict_id(fields[2])).collect()
}

#[cfg(test)]
mod tests;
