//! URLs of sources, taken apart: `scheme://user@host/path?query#fragment`, and `user@host:path` as ssh has it.

use super::RemoteError;

/// How a source is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`
    Http,
    /// `https://`
    Https,
    /// `ssh://`, and `user@host:path`
    Ssh,
    /// `git://`
    Git,
}

/// What stands before the `@` of a URL.
#[derive(Clone, PartialEq, Eq)]
pub struct UserInfo {
    /// The name.
    pub name: String,
    /// The password, if there is one.
    pub password: Option<String>,
}

impl std::fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserInfo(…)")
    }
}

/// A URL in its parts.
#[derive(Debug, Clone)]
pub(super) struct Url {
    pub scheme: Scheme,
    /// It was written `user@host:path`.
    pub is_short: bool,
    pub user: Option<UserInfo>,
    /// With the port, as written.
    pub host: String,
    /// As written.
    pub path: String,
    /// As written, without "?".
    pub query: Option<String>,
    /// As written, without "#".
    pub fragment: Option<String>,
}

impl Url {
    /// `None`: it is a path.
    pub fn parse(text: &str) -> Result<Option<Self>, RemoteError> {
        let protocol = text
            .split_once("://")
            .filter(|(name, _)| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let Some((protocol, rest)) = protocol else { return Ok(Self::short(text)).and_then(checked) };
        let scheme = match protocol.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "ssh" => Scheme::Ssh,
            "git" => Scheme::Git,
            _ => return Err(RemoteError::Protocol { protocol: protocol.to_owned(), url: redact(text) }),
        };
        let malformed = |problem| RemoteError::Malformed { url: redact(text), problem };
        if text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return Err(malformed("it holds a blank or a control character"));
        }
        let (rest, fragment) = split(rest, '#');
        let (rest, query) = split(rest, '?');
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user_info(user)), host),
            None => (None, authority),
        };
        if host.is_empty() || host.starts_with(':') {
            return Err(malformed("it names no host"));
        }
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)) {
            return Err(malformed("its host is not the name or the address of one"));
        }
        let (host, path) = (host.to_owned(), path.to_owned());
        let (query, fragment) = (query.map(str::to_owned), fragment.map(str::to_owned));
        checked(Some(Self { scheme, is_short: false, user, host, path, query, fragment }))
    }

    /// `user@host:path?query#fragment`
    fn short(text: &str) -> Option<Self> {
        let (user, rest) = text.split_once('@')?;
        let (host, rest) = rest.split_once(':')?;
        let is_name = |text: &str, more: &[u8]| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if !is_name(user, b"-_") || !is_name(host, b"-.") {
            return None;
        }
        let (rest, fragment) = split(rest, '#');
        let (path, query) = split(rest, '?');
        Some(Self {
            scheme: Scheme::Ssh,
            is_short: true,
            user: Some(UserInfo { name: user.to_owned(), password: None }),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            fragment: fragment.map(str::to_owned),
        })
    }

    /// It is reached by http or https.
    pub fn is_web(&self) -> bool {
        matches!(self.scheme, Scheme::Http | Scheme::Https)
    }

    /// The host without its port.
    pub fn host_name(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.host,
        }
    }

    /// The URL without its fragment, without the credentials of a web server, and without the query unless that is part of
    /// what is asked for.
    pub fn plain(&self, with_query: bool) -> String {
        let user = match &self.user {
            Some(user) if !self.is_web() => format!("{}@", user.name),
            _ => String::new(),
        };
        if self.is_short {
            return format!("{user}{}:{}", self.host, self.path);
        }
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Ssh => "ssh",
            Scheme::Git => "git",
        };
        let query = self.query.as_ref().filter(|_| with_query).map_or(String::new(), |query| format!("?{query}"));
        format!("{scheme}://{user}{}{}{query}", self.host, self.path)
    }

    /// The keys of the query with their values, decoded.
    pub fn pairs(&self) -> Vec<(String, Option<String>)> {
        let query = self.query.as_deref().unwrap_or_default();
        let pair = |part: &str| match part.split_once('=') {
            Some((key, value)) => (decoded(key, true), Some(decoded(value, true)).filter(|value| !value.is_empty())),
            None => (decoded(part, true), None),
        };
        query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
    }
}

/// Refuses what a program would take for an option.
fn checked(url: Option<Url>) -> Result<Option<Url>, RemoteError> {
    let Some(found) = &url else { return Ok(None) };
    let name = found.user.as_ref().map_or("", |user| user.name.as_str());
    // A web server sees its path as a path only.
    let path = if found.is_web() { "" } else { found.path.trim_start_matches('/') };
    for (part, text) in [("user", name), ("host", &found.host), ("path", path)] {
        if text.starts_with('-') {
            return Err(RemoteError::Option { part, url: found.plain(true) });
        }
    }
    Ok(url)
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn user_info(text: &str) -> UserInfo {
    let (name, password) = split(text, ':');
    UserInfo { name: decoded(name, false), password: password.map(|password| decoded(password, false)) }
}

/// Resolves `%XX`, and in a query `+`. What is not UTF-8 then becomes replacement characters.
pub(super) fn decoded(text: &str, is_query: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| (*byte as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
                continue;
            }
            (b'+', ..) if is_query => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text with the credentials of the URLs in it taken out, for histories, progress and messages.
pub fn redact(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c == '/' || c == '?' || c == '#' || c.is_whitespace() || c == '"' || c == '\'');
        let (authority, after) = after.split_at(end.unwrap_or(after.len()));
        match authority.rsplit_once('@') {
            // The name of a user of ssh is no secret, and needed to know what is meant.
            Some((user, host)) if !user.contains(':') && before.ends_with("ssh://") => {
                shown.push_str(user);
                shown.push('@');
                shown.push_str(host);
            }
            Some((_, host)) => {
                shown.push_str("xxxxx@");
                shown.push_str(host);
            }
            None => shown.push_str(authority),
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}
