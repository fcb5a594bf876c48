//! What a request is about: its path and query, taken apart. Names of repositories have slashes in them, so the path is
//! read from its end.

use super::Fault;
use super::name::{Name, Repository, Tag};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/token`
    Token,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(Repository),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(Repository, Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(Repository, Name),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Repository),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(Repository, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(Repository, Name),
}

/// By what a manifest is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Name),
    /// Something that can be neither, so that nothing has it.
    Neither(String),
}

impl Route {
    /// What can be done there, as an Allow header says it.
    pub fn methods(&self) -> &'static str {
        match self {
            Self::Base => "GET, HEAD",
            Self::Token | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => "GET",
            Self::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Self::Blob(..) => "GET, HEAD, DELETE",
            Self::Uploads(_) => "POST",
            Self::Upload(..) => "GET, PATCH, PUT, DELETE",
        }
    }

    /// Reads a path, which is still percent-encoded, as the query may name a host.
    pub fn parse(path: &str, query: &Query) -> Result<Self, Fault> {
        let path = decode(path);
        let rest = path.strip_prefix("/v2").ok_or(Fault::NotFound)?;
        match rest {
            "" | "/" => return Ok(Self::Base),
            "/token" => return Ok(Self::Token),
            "/_catalog" => return Ok(Self::Catalog),
            _ => {}
        }
        let rest = rest.strip_prefix('/').ok_or(Fault::NotFound)?;
        let repository = |path: &str| Repository::parse(path, query.first("ns"));
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(repository(name)?));
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
            return Ok(Self::Uploads(repository(name)?));
        }
        // What follows the last of these words has no slash in it: a repository may be called "blobs/uploads/x".
        if let Some((name, id)) = rest.rsplit_once("/blobs/uploads/")
            && !id.contains('/')
        {
            return Ok(Self::Upload(repository(name)?, id.to_owned()));
        }
        if let Some((name, digest)) = rest.rsplit_once("/blobs/") {
            let repository = repository(name)?;
            return Ok(Self::Blob(repository, Name::parse(digest)?));
        }
        if let Some((name, reference)) = rest.rsplit_once("/manifests/") {
            let repository = repository(name)?;
            return Ok(Self::Manifest(repository, Reference::parse(reference)?));
        }
        if let Some((name, digest)) = rest.rsplit_once("/referrers/") {
            let repository = repository(name)?;
            return Ok(Self::Referrers(repository, Name::parse(digest)?));
        }
        Err(Fault::NotFound)
    }
}

impl Reference {
    fn parse(text: &str) -> Result<Self, Fault> {
        if text.contains(':') {
            return Ok(Self::Digest(Name::parse(text)?));
        }
        Ok(Tag::parse(text).map_or_else(|| Self::Neither(text.chars().take(150).collect()), Self::Tag))
    }
}

/// The parameters of a query, decoded, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows the question mark.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let plus = |text: &str| decode(&text.replace('+', " "));
        Self(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (plus(k), plus(v))).collect())
    }

    /// The first value of a parameter.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Resolves percent-encoding; what is malformed, or no UTF-8, stays visibly wrong.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| hex::decode(digits).ok()) {
            Some(byte) => {
                decoded.extend(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Encodes a text for a query.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/:".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Result<Route, Fault> {
        Route::parse(path, &Query::default())
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let named = |path: &str| Repository::parse(path, None).unwrap();
        let digest = format!("sha256:{}", "ab".repeat(32));
        let name = Name::parse(&digest).unwrap();
        for (path, expected) in [
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/token", Route::Token),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/b/tags/list", Route::Tags(named("a/b"))),
            ("/v2/tags/list/tags/list", Route::Tags(named("tags/list"))),
            ("/v2/a/blobs/uploads/", Route::Uploads(named("a"))),
            ("/v2/a/blobs/uploads", Route::Uploads(named("a"))),
            ("/v2/a/blobs/uploads/id7", Route::Upload(named("a"), "id7".to_owned())),
            ("/v2/a/manifests/v1", Route::Manifest(named("a"), Reference::Tag(Tag::parse("v1").unwrap()))),
            ("/v2/a/manifests/b/manifests/v1", {
                Route::Manifest(named("a/manifests/b"), Reference::Tag(Tag::parse("v1").unwrap()))
            }),
            ("/v2/a/manifests/.v1", Route::Manifest(named("a"), Reference::Neither(".v1".to_owned()))),
        ] {
            assert_eq!(route(path).unwrap(), expected, "{path}");
        }
        assert_eq!(route(&format!("/v2/a/blobs/{digest}")).unwrap(), Route::Blob(named("a"), name.clone()));
        let encoded = digest.replace(':', "%3A");
        assert_eq!(route(&format!("/v2/a/blobs/{encoded}")).unwrap(), Route::Blob(named("a"), name.clone()));
        assert_eq!(route(&format!("/v2/a/referrers/{digest}")).unwrap(), Route::Referrers(named("a"), name));
    }

    #[test]
    fn what_is_no_path_of_the_api_is_refused() {
        for path in ["/", "/v1/", "/v2x", "/v2/a", "/v2/a/tags", "/v2//tags/list", "/v2/a/blobs/x", "/v2/%00/tags/list"]
        {
            assert!(route(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_query_is_decoded_and_encoded() {
        let query = Query::parse("tag=a&tag=b%2Bc&last=x+y&n&=&z=%zz");

        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b+c"]);
        assert_eq!((query.first("last"), query.first("n"), query.first("z")), (Some("x y"), Some(""), Some("%zz")));
        assert_eq!(query.first("none"), None);
        let text = "application/vnd.a+json; v=1&é";
        assert_eq!(Query::parse(&format!("q={}", encode(text))).first("q"), Some(text));
    }
}
