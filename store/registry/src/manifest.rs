//! Manifests and indexes: bounded, verified, and what their media type says they are.

use bytes::Bytes;
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use strata_types::{Digest, media_type};

use crate::{
    Repository,
    answer::clean,
    auth::{Access, Scopes},
    endpoint::Endpoint,
    error::{Cause, Error, Item, Result},
    session::{Call, protocol},
};

/// The largest manifest that is taken, in bytes: what every registry must take (distribution specification, "Pushing
/// Manifests").
pub const LARGEST_MANIFEST: usize = 4 << 20;

/// What is understood, best first.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Media types that say nothing: the document's own counts then.
const VAGUE: [&str; 3] = ["application/json", "application/octet-stream", "text/plain"];

/// A manifest by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// What a tag points at now.
    Tag(String),
    /// Exactly these bytes.
    Digest(Digest),
}

impl Target {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Tag(tag) => tag.clone(),
            Self::Digest(digest) => digest.to_string(),
        }
    }
}

/// A manifest or an index, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// One of the four media types of [`media_type`] that are manifests or indexes.
    pub media_type: String,
    /// Digest of `bytes`.
    pub digest: Digest,
    /// Exactly as they came.
    pub bytes: Bytes,
}

/// What a tag points at, as the registry says: nothing is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Its media type, where the registry states one.
    pub media_type: Option<String>,
    /// Its size in bytes, where the registry states one.
    pub size: Option<u64>,
}

impl Repository {
    /// What a tag points at, without fetching it: a pull of what is there already costs this alone. None where the
    /// registry does not tell the digest; [`Self::manifest`] finds it out.
    pub async fn resolve(&self, tag: &str) -> Result<Option<Resolved>> {
        let mut tries = self.tries("resolve", Item::Manifest(tag.to_owned()));
        for endpoint in self.sources.iter() {
            match self.resolve_at(endpoint, tag).await {
                Ok(found) => return Ok(found),
                Err(cause) => tries.failed(endpoint, cause)?,
            }
        }
        Err(tries.end())
    }

    async fn resolve_at(&self, endpoint: &Endpoint, tag: &str) -> Result<Option<Resolved>, Cause> {
        let answer = self.session.fetch(&self.get(endpoint, Method::HEAD, tag), &[200], 0).await?;
        let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let Some(digest) = text("docker-content-digest").and_then(|text| Digest::parse(text).ok()) else {
            return Ok(None);
        };
        let size = text("content-length").and_then(|text| text.parse().ok());
        if size.is_some_and(|size: u64| size > LARGEST_MANIFEST as u64) {
            return Err(Cause::TooLarge { host: endpoint.host.clone(), limit: LARGEST_MANIFEST });
        }
        Ok(Some(Resolved { digest, media_type: stated(&answer.headers), size }))
    }

    /// Fetches a manifest or an index.
    pub async fn manifest(&self, target: &Target) -> Result<Document> {
        let mut tries = self.tries("fetch", Item::Manifest(target.text()));
        for endpoint in self.sources.iter() {
            match self.manifest_at(endpoint, target).await {
                Ok(found) => return Ok(found),
                Err(cause) => tries.failed(endpoint, cause)?,
            }
        }
        Err(tries.end())
    }

    async fn manifest_at(&self, endpoint: &Endpoint, target: &Target) -> Result<Document, Cause> {
        let call = self.get(endpoint, Method::GET, &target.text());
        let answer = self.session.fetch(&call, &[200], LARGEST_MANIFEST).await?;
        let expected = match target {
            Target::Digest(digest) => Some(*digest),
            Target::Tag(_) => None,
        };
        verify(endpoint, expected, &answer.headers, answer.body)
    }

    /// Is the manifest there? Asks the registry itself, as a push does.
    pub async fn has_manifest(&self, digest: Digest) -> Result<bool> {
        let name = digest.to_string();
        let call = self.get(&self.own, Method::HEAD, &name);
        match self.session.fetch(&call, &[200], 0).await {
            Ok(_) => Ok(true),
            Err(Cause::NotFound { .. }) => Ok(false),
            Err(cause) => Err(Error::request("look for", self.subject(Item::Manifest(name)), cause)),
        }
    }

    /// Pushes a manifest or an index, under a tag or its digest, and answers with its digest. What it refers to must be
    /// there. Where the registry has no referrers API, the index of referrers of its subject is kept for it
    /// (distribution specification, "Pushing Manifests with Subject").
    pub async fn push_manifest(&self, target: &Target, media_type: &str, bytes: Bytes) -> Result<Digest> {
        let failed = |cause| Error::request("push", self.subject(Item::Manifest(target.text())), cause);
        let pushed = self.put(target, media_type, bytes.clone()).await.map_err(failed)?;
        if let Some((digest, is_indexed)) = pushed.subject
            && !is_indexed
        {
            self.add_referrer(digest, media_type, pushed.digest, &bytes).await.map_err(failed)?;
        }
        Ok(pushed.digest)
    }

    /// Removes a manifest (by digest) or a tag.
    pub async fn delete_manifest(&self, target: &Target) -> Result<()> {
        let failed = |cause| Error::request("delete", self.subject(Item::Manifest(target.text())), cause);
        let url = self.own.url(&format!("manifests/{}", target.text()));
        let scopes = Scopes::of(&self.own.repository, Access::Delete).and(&self.own.repository, Access::Pull);
        let call = Call::new(&self.own, Method::DELETE, url, scopes);
        self.session.fetch(&call, &[200, 202], LARGEST_MANIFEST).await.map_err(failed)?;
        Ok(())
    }

    fn get<'a>(&self, endpoint: &'a Endpoint, method: Method, name: &str) -> Call<'a> {
        let scopes = Scopes::of(&endpoint.repository, Access::Pull);
        let mut call = Call::new(endpoint, method, endpoint.url(&format!("manifests/{name}")), scopes);
        call.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        call
    }

    pub(crate) async fn put(&self, target: &Target, media_type: &str, bytes: Bytes) -> Result<Put, Cause> {
        let digest = digest_of(&bytes);
        let url = self.own.url(&format!("manifests/{}", target.text()));
        let mut call = Call::new(&self.own, Method::PUT, url, Scopes::of(&self.own.repository, Access::Push));
        let content_type =
            HeaderValue::from_str(media_type).map_err(|_| protocol(&self.own, "no media type fits in a header"))?;
        call.headers.insert(CONTENT_TYPE, content_type);
        call.body = bytes.clone();
        let answer = self.session.fetch(&call, &[200, 201, 202], LARGEST_MANIFEST).await?;
        check_name(&self.own, digest, &answer.headers)?;
        let subject = subject_of(&bytes);
        let is_indexed = answer.headers.contains_key("oci-subject");
        Ok(Put { digest, subject: subject.map(|subject| (subject, is_indexed)) })
    }

    /// A manifest of the registry itself; none where there is none. For the index of referrers.
    pub(crate) async fn own_manifest(&self, name: &str) -> Result<Option<Document>, Cause> {
        let call = self.get(&self.own, Method::GET, name);
        match self.session.fetch(&call, &[200], LARGEST_MANIFEST).await {
            Ok(answer) => verify(&self.own, None, &answer.headers, answer.body).map(Some),
            Err(Cause::NotFound { .. }) => Ok(None),
            Err(cause) => Err(cause),
        }
    }
}

/// A manifest that was pushed.
pub(crate) struct Put {
    pub(crate) digest: Digest,
    /// What it is about, and whether the registry took note of that.
    pub(crate) subject: Option<(Digest, bool)>,
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256_bytes(Sha256::digest(bytes).into())
}

fn subject_of(bytes: &[u8]) -> Option<Digest> {
    let document: Value = serde_json::from_slice(bytes).ok()?;
    Digest::parse(document.get("subject")?.get("digest")?.as_str()?).ok()
}

/// The media type of an answer, without parameters.
fn stated(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!media_type.is_empty()).then_some(media_type)
}

/// Compares the name that the registry gives to content with the content. Other algorithms than ours say nothing.
fn check_name(endpoint: &Endpoint, expected: Digest, headers: &HeaderMap) -> Result<(), Cause> {
    let Some(named) = headers.get("docker-content-digest") else { return Ok(()) };
    let named = named.to_str().unwrap_or("?");
    if named.starts_with("sha256:") && named != expected.to_string() {
        return Err(Cause::WrongName { host: endpoint.host.clone(), expected, named: clean(named) });
    }
    Ok(())
}

fn verify(
    endpoint: &Endpoint,
    expected: Option<Digest>,
    headers: &HeaderMap,
    body: Vec<u8>,
) -> Result<Document, Cause> {
    let got = digest_of(&body);
    if let Some(expected) = expected
        && expected != got
    {
        return Err(Cause::WrongDigest { host: endpoint.host.clone(), expected, got });
    }
    check_name(endpoint, got, headers)?;
    let refuse = |problem: String| Cause::Document { host: endpoint.host.clone(), problem };
    let media_type = media_type_of(stated(headers).as_deref(), &body).map_err(refuse)?;
    Ok(Document { media_type, digest: got, bytes: body.into() })
}

/// What a document is, by what the answer states, what it states itself, and what is in it: all must agree, or the same
/// bytes could be an image for one client and an index for another (CVE-2021-41190).
fn media_type_of(stated: Option<&str>, body: &[u8]) -> Result<String, String> {
    let document: Value = serde_json::from_slice(body).map_err(|error| format!("it is not JSON ({error})"))?;
    let Some(fields) = document.as_object() else { return Err("it is not a JSON object".into()) };
    if fields.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Err("it is a schema 1 manifest, which Docker gave up in 2019; push the image anew".into());
    }
    let own = fields.get("mediaType").and_then(Value::as_str);
    let stated = stated.filter(|stated| !VAGUE.contains(stated));
    if let (Some(stated), Some(own)) = (stated, own)
        && stated != own
    {
        return Err(format!("it is sent as {} and calls itself {}", clean(stated), clean(own)));
    }
    let has = |name: &str| fields.contains_key(name);
    let (is_index, is_manifest) = (has("manifests"), has("layers") || has("config"));
    if is_index && is_manifest {
        return Err("it is both a manifest and an index".into());
    }
    let media_type = stated.or(own).map(str::to_owned);
    // An OCI document need not state what it is, and some servers of files do not know.
    let media_type = media_type.unwrap_or_else(|| match is_index {
        true => media_type::OCI_INDEX.to_owned(),
        false => media_type::OCI_MANIFEST.to_owned(),
    });
    if media_type::is_index(&media_type) && is_index || media_type::is_manifest(&media_type) && is_manifest {
        return Ok(media_type);
    }
    Err(format!("it is sent as {} and is none", clean(&media_type)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVE-2021-41190, row 72.
    #[test]
    fn header_document_and_contents_must_agree() {
        const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        const INDEX: &str = r#"{"schemaVersion":2,"manifests":[]}"#;
        let docker = format!(r#"{{"mediaType":"{}","config":{{}},"layers":[]}}"#, media_type::DOCKER_MANIFEST);
        for (stated, body, expected) in [
            (Some(media_type::OCI_MANIFEST), MANIFEST, Some(media_type::OCI_MANIFEST)),
            (Some(media_type::DOCKER_INDEX), INDEX, Some(media_type::DOCKER_INDEX)),
            (None, INDEX, Some(media_type::OCI_INDEX)),
            (None, MANIFEST, Some(media_type::OCI_MANIFEST)),
            (Some("text/plain"), docker.as_str(), Some(media_type::DOCKER_MANIFEST)),
            (Some(media_type::OCI_MANIFEST), docker.as_str(), None),
            (Some(media_type::OCI_INDEX), MANIFEST, None),
            (Some(media_type::OCI_MANIFEST), INDEX, None),
            (Some("text/html"), MANIFEST, None),
            (None, r#"{"manifests":[],"layers":[]}"#, None),
            (None, r#"{"manifests":[],"config":{}}"#, None),
            (None, r#"{"schemaVersion":1,"fsLayers":[]}"#, None),
            (None, "{}", None),
            (None, "[]", None),
            (None, "", None),
        ] {
            assert_eq!(media_type_of(stated, body.as_bytes()).ok().as_deref(), expected, "{stated:?} {body}");
        }
    }

    #[test]
    fn the_subject_of_a_manifest_is_found() {
        let digest = digest_of(b"x");
        let body = format!(r#"{{"subject":{{"digest":"{digest}"}}}}"#);
        assert_eq!(subject_of(body.as_bytes()), Some(digest));
        assert_eq!(subject_of(b"{\"subject\":{\"digest\":\"../x\"}}"), None);
    }
}
