//! WWW-Authenticate (RFC 9110, 11.6.1): what a registry wants to see.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// The most challenges of one answer that are looked at.
const MOST: usize = 8;
/// The longest header that is read, in bytes.
const LONGEST: usize = 8 * 1024;

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password.
    Basic,
    /// A token of a token server.
    Bearer {
        /// Where to ask for it; a URL, unchecked.
        realm: String,
        /// The service that the token is for.
        service: Option<String>,
        /// What the token must allow, separated by spaces.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenges of an answer that are understood, in order.
    pub(crate) fn parse(headers: &HeaderMap) -> Vec<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        values.filter(|value| value.len() <= LONGEST).flat_map(parse_one).take(MOST).collect()
    }
}

/// A scheme with its parameters, names in lower case.
type Parts = (String, Vec<(String, String)>);

fn parse_one(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Parts> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        let (word, after) = rest.split_at(end);
        let after_space = after.trim_start_matches([' ', '\t']);
        if let (Some(value), Some((_, parameters))) = (after_space.strip_prefix('='), found.last_mut()) {
            let Some((value, left)) = parse_value(value.trim_start_matches([' ', '\t'])) else { break };
            parameters.push((word.to_ascii_lowercase(), value));
            rest = left;
        } else {
            found.push((word.to_ascii_lowercase(), Vec::new()));
            rest = after;
        }
    }
    found.into_iter().filter_map(understand).collect()
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// A token or a quoted string, and what follows it.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Unquoted URLs and scopes are seen in the wild: what ends them is a comma or a space.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn understand((scheme, parameters): Parts) -> Option<Challenge> {
    let of = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer { realm: of("realm")?, service: of("service"), scope: of("scope") }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(WWW_AUTHENTICATE, text.parse().unwrap());
        }
        Challenge::parse(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) }
    }

    #[test]
    fn challenges_of_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            parse(&[hub]),
            [bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push"))]
        );
        assert_eq!(parse(&["basic Realm=\"x\""]), [Challenge::Basic]);
        assert_eq!(
            parse(&["BEARER realm=https://a.example/t , service=s"]),
            [bearer("https://a.example/t", Some("s"), None)]
        );
        assert_eq!(
            parse(&[r#"Negotiate, Basic realm="a, b=c", Bearer realm="r\"q""#]),
            [Challenge::Basic, bearer("r\"q", None, None)]
        );
        assert_eq!(parse(&["Basic", "Bearer realm=\"r\""]), [Challenge::Basic, bearer("r", None, None)]);
    }

    #[test]
    fn malformed_headers_give_no_challenge_and_no_panic() {
        for text in [
            "",
            ",",
            "=",
            "Bearer",
            "Bearer scope=\"x\"",
            "Bearer realm=\"unclosed",
            "Digest nonce=1",
            "é",
            "\"",
            "Bearer realm=\"a\\",
        ] {
            let mut headers = HeaderMap::new();
            if let Ok(value) = reqwest::header::HeaderValue::from_bytes(text.as_bytes()) {
                headers.insert(WWW_AUTHENTICATE, value);
            }
            assert_eq!(Challenge::parse(&headers), [], "{text:?}");
        }
        assert_eq!(parse(&[&format!("Bearer realm=\"{}\"", "a".repeat(LONGEST))]), []);
        assert_eq!(parse(&[&"Basic,".repeat(100)]).len(), MOST);
    }
}
