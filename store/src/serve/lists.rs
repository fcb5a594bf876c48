//! Lists: tags, referrers, and repositories, page by page.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use strata_types::media_type::OCI_INDEX;

use super::manifests::{LARGEST, digest_of};
use super::name::{Name, Repository, path_of};
use super::route::{Query, encode};
use super::{Fault, Registry, answer, namespace_query};
use crate::catalog::DocumentRow;

/// Entries of a page that was asked for without a number, and the most that one has.
const PAGE: usize = 1000;
/// Referrers that are read at a time.
const READ: usize = 32;

fn wanted(query: &Query) -> Result<usize, Fault> {
    match query.first("n") {
        None => Ok(PAGE),
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            // Numbers beyond what a page has are cut; those beyond any sense are refused.
            text.parse::<u32>().map(|n| (n as usize).min(PAGE)).map_err(|_| Fault::PageInvalid)
        }
        Some(_) => Err(Fault::PageInvalid),
    }
}

fn page(body: &Value, next: Option<String>) -> Response<Body> {
    let mut response = answer(StatusCode::OK, &[("content-type", "application/json")]);
    if let Some(target) = next.and_then(|next| HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).ok()) {
        response.headers_mut().insert(header::LINK, target);
    }
    *response.body_mut() = Body::from(body.to_string());
    response
}

/// Tags of a repository, in the order of their bytes.
pub(super) async fn tags(registry: &Registry, repository: &Repository, query: &Query) -> Result<Response<Body>, Fault> {
    let n = wanted(query)?;
    let (catalog, within) = (&registry.store.catalog, repository.store_name());
    let after = query.first("last").filter(|last| !last.is_empty()).map(|last| format!("{within}:{last}"));
    let names = catalog.names(within, after.as_deref().unwrap_or_default(), n + 1).await?;
    if names.is_empty() && !catalog.has_repository(within).await? {
        return Err(Fault::NameUnknown { name: repository.path().to_owned() });
    }
    let tag = |name: &str| name.rsplit_once(':').map_or_else(String::new, |(_, tag)| tag.to_owned());
    let tags: Vec<String> = names.iter().take(n).map(|row| tag(&row.name)).collect();
    let is_more = n > 0 && names.len() > n;
    let next = tags.last().filter(|_| is_more).map(|last| {
        let and_namespace = namespace_query(repository).replace('?', "&");
        format!("/v2/{}/tags/list?n={n}&last={}{and_namespace}", repository.path(), encode(last))
    });
    Ok(page(&json!({"name": repository.path(), "tags": tags}), next))
}

/// Repositories that can be asked for by a path, in the order of their paths.
pub(super) async fn catalog(registry: &Registry, query: &Query) -> Result<Response<Body>, Fault> {
    let n = wanted(query)?;
    let last = query.first("last").unwrap_or_default();
    let (mut after, mut paths) = (String::new(), Vec::new());
    loop {
        let some = registry.store.catalog.repositories(&after, PAGE).await?;
        let is_all = some.len() < PAGE;
        after = some.last().cloned().unwrap_or_default();
        paths.extend(some.iter().filter_map(|name| path_of(name)).filter(|path| path.as_str() > last));
        if is_all {
            break;
        }
    }
    paths.sort_unstable();
    let is_more = n > 0 && paths.len() > n;
    paths.truncate(n);
    let next = paths.last().filter(|_| is_more).map(|last| format!("/v2/_catalog?n={n}&last={}", encode(last)));
    Ok(page(&json!({"repositories": paths}), next))
}

fn descriptor(row: &DocumentRow) -> Value {
    let mut descriptor = json!({"mediaType": row.media_type, "digest": row.digest.to_string(), "size": row.size});
    if !row.artifact_type.is_empty() {
        descriptor["artifactType"] = row.artifact_type.as_str().into();
    }
    if !row.annotations.is_empty() {
        descriptor["annotations"] = json!(row.annotations);
    }
    descriptor
}

/// Documents of a repository that are about another one. A page is an index that is no larger than a manifest may be.
pub(super) async fn referrers(
    registry: &Registry,
    repository: &Repository,
    name: &Name,
    query: &Query,
) -> Result<Response<Body>, Fault> {
    let (catalog, within) = (&registry.store.catalog, repository.store_name());
    let subject = digest_of(registry, repository, name).await?;
    let artifact_type = query.first("artifactType").filter(|text| !text.is_empty());
    let mut after = query.first("last").unwrap_or_default().to_owned();
    let (mut manifests, mut size, mut is_more) = (Vec::new(), 0, false);
    while let Some(subject) = &subject
        && !is_more
    {
        let rows = catalog.referrers(subject, Some(within), artifact_type, &after, READ).await?;
        let is_all = rows.len() < READ;
        for row in rows {
            let descriptor = descriptor(&row);
            size += descriptor.to_string().len() + 1;
            // One that is larger than a page is a page.
            if size as u64 > LARGEST - 512 && !manifests.is_empty() {
                is_more = true;
                break;
            }
            after = row.digest.to_string();
            manifests.push(descriptor);
        }
        if is_all {
            break;
        }
    }
    let next = is_more.then(|| {
        let and_type = artifact_type.map_or_else(String::new, |text| format!("&artifactType={}", encode(text)));
        let and_namespace = namespace_query(repository).replace('?', "&");
        format!("/v2/{}/referrers/{name}?last={}{and_type}{and_namespace}", repository.path(), encode(&after))
    });
    let mut response = page(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}), next);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if artifact_type.is_some() {
        response.headers_mut().insert("oci-filters-applied", HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}
