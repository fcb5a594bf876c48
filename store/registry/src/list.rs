//! What a repository holds: its tags, page by page, and what refers to a manifest.

use reqwest::{
    Method, Url,
    header::{HeaderMap, LINK},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strata_types::{Descriptor, Digest, media_type};

use crate::{
    Repository,
    answer::clean,
    auth::{Access, Scopes},
    endpoint::Endpoint,
    error::{Cause, Error, Item, Result},
    manifest::{LARGEST_MANIFEST, Target},
    session::{Call, protocol},
};

/// Tags of one page that are asked for. A registry may give fewer.
const PAGE: &str = "1000";
/// The most pages of one list: a hostile registry has no end of them.
const MOST_PAGES: usize = 1000;

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// The tags of a repository, page by page.
#[derive(Debug)]
pub struct TagPages {
    repository: Repository,
    next: Option<Url>,
    pages: usize,
}

/// Something that refers to a manifest: a signature, a bill of materials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Its manifest.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerIndex {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Referrer>,
}

impl Repository {
    /// The tags, from the registry itself.
    pub fn tags(&self) -> TagPages {
        let mut first = self.own.url("tags/list");
        first.query_pairs_mut().append_pair("n", PAGE);
        TagPages { repository: self.clone(), next: Some(first), pages: 0 }
    }

    /// What refers to a manifest, of one kind or of all. Where the registry has no referrers API, the tag that stands in
    /// for it is read (distribution specification, "Listing Referrers").
    pub async fn referrers(&self, digest: Digest, artifact_type: Option<&str>) -> Result<Vec<Referrer>> {
        let failed = |cause| Error::request("list", self.subject(Item::Referrers(digest)), cause);
        let mut found = match self.referrers_by_api(digest, artifact_type).await {
            Err(Cause::NotFound { .. }) => self.referrers_by_tag(digest).await.map_err(failed)?,
            other => other.map_err(failed)?,
        };
        // Whether the registry filtered or not.
        found.retain(|referrer| artifact_type.is_none() || referrer.artifact_type.as_deref() == artifact_type);
        Ok(found)
    }

    async fn referrers_by_api(&self, digest: Digest, artifact_type: Option<&str>) -> Result<Vec<Referrer>, Cause> {
        let mut url = self.own.url(&format!("referrers/{digest}"));
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let mut found = Vec::new();
        let mut next = Some(url);
        let mut pages = 0;
        while let Some(url) = next {
            pages += 1;
            if pages > MOST_PAGES {
                return Err(protocol(&self.own, "its list of referrers has no end"));
            }
            let call = Call::new(&self.own, Method::GET, url.clone(), Scopes::of(&self.own.repository, Access::Pull));
            let answer = self.session.fetch(&call, &[200], LARGEST_MANIFEST).await?;
            found.extend(read_index(&self.own, &answer.body)?);
            next = next_page(&self.own, &url, &answer.headers)?;
        }
        Ok(found)
    }

    async fn referrers_by_tag(&self, digest: Digest) -> Result<Vec<Referrer>, Cause> {
        match self.own_manifest(&referrers_tag(digest)).await? {
            Some(document) => read_index(&self.own, &document.bytes),
            None => Ok(Vec::new()),
        }
    }

    /// Adds a manifest to the index of referrers of its subject, for a registry that does not do so itself.
    pub(crate) async fn add_referrer(
        &self,
        subject: Digest,
        media_type: &str,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(), Cause> {
        let mut manifests = self.referrers_by_tag(subject).await?;
        if manifests.iter().any(|known| known.descriptor.digest == digest) {
            return Ok(());
        }
        manifests.push(describe(media_type, digest, bytes));
        let index = ReferrerIndex { schema_version: 2, media_type: media_type::OCI_INDEX.into(), manifests };
        let json = serde_json::to_vec(&index).expect("an index is JSON");
        self.put(&Target::Tag(referrers_tag(subject)), media_type::OCI_INDEX, json.into()).await?;
        Ok(())
    }
}

impl TagPages {
    /// The next tags; None after the last page.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>> {
        let Some(url) = self.next.clone() else { return Ok(None) };
        let repository = self.repository.clone();
        let failed = |cause| Error::request("list", repository.subject(Item::Tags), cause);
        let page = self.fetch(url).await.map_err(failed)?;
        Ok(Some(page))
    }

    /// All of them.
    pub async fn all(mut self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
        }
        Ok(all)
    }

    async fn fetch(&mut self, url: Url) -> Result<Vec<String>, Cause> {
        let own = self.repository.own.clone();
        self.pages += 1;
        if self.pages > MOST_PAGES {
            return Err(protocol(&own, "its list of tags has no end"));
        }
        let call = Call::new(&own, Method::GET, url.clone(), Scopes::of(&own.repository, Access::Pull));
        let answer = self.repository.session.fetch(&call, &[200], LARGEST_MANIFEST).await?;
        let problem = |error: serde_json::Error| protocol(&own, format!("its list of tags is none ({error})"));
        let tags: Tags = serde_json::from_slice(&answer.body).map_err(problem)?;
        let next = next_page(&own, &url, &answer.headers)?;
        // A page that leads to itself would be the last page for ever.
        self.next = next.filter(|next| *next != url);
        // They go to terminals, and into file names of others.
        Ok(tags.tags.unwrap_or_default().into_iter().filter(|tag| clean(tag) == *tag && !tag.is_empty()).collect())
    }
}

/// Where the next page is: Link of RFC 8288 with rel="next", on the same server.
pub(crate) fn next_page(endpoint: &Endpoint, from: &Url, headers: &HeaderMap) -> Result<Option<Url>, Cause> {
    let links = headers.get_all(LINK).iter().filter_map(|link| link.to_str().ok()).flat_map(|link| link.split(", "));
    for link in links {
        let Some((target, parameters)) = link.trim().strip_prefix('<').and_then(|link| link.split_once('>')) else {
            continue;
        };
        let is_next = parameters.split(';').any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
        if !is_next {
            continue;
        }
        let url = from.join(target).map_err(|_| protocol(endpoint, "its next page is at no URL"))?;
        // A registry behind a proxy may name itself with another scheme or host: path and query are what counts.
        let mut next = from.clone();
        next.set_path(url.path());
        next.set_query(url.query());
        return Ok(Some(next));
    }
    Ok(None)
}

fn referrers_tag(digest: Digest) -> String {
    format!("sha256-{}", digest.as_hex())
}

fn read_index(endpoint: &Endpoint, bytes: &[u8]) -> Result<Vec<Referrer>, Cause> {
    let index: Value = serde_json::from_slice(bytes).map_err(|error| Cause::Document {
        host: endpoint.host.clone(),
        problem: format!("no index of referrers ({error})"),
    })?;
    let entries = index.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
    // An entry with a digest of another algorithm is nothing that could be fetched.
    Ok(entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
}

/// The entry of a manifest in an index of referrers: its artifact type is its own, else that of its config.
fn describe(media_type: &str, digest: Digest, bytes: &[u8]) -> Referrer {
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let own = text(document.get("artifactType"));
    let artifact_type = own.or_else(|| text(document.get("config").and_then(|config| config.get("mediaType"))));
    let mut descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
    if let Some(annotations) = document.get("annotations").cloned() {
        descriptor.annotations = serde_json::from_value(annotations).unwrap_or_default();
    }
    Referrer { descriptor, artifact_type }
}
