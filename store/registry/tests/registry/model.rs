//! A registry that follows the specification, in memory: what tests wrap to make it misbehave.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{
    digest_of,
    server::{Reply, Seen, Server},
};

/// What the registry holds. Blobs are of all repositories, and may be mounted only from the repository "from/there".
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Media type and bytes by tag or digest.
    pub(crate) manifests: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    pub(crate) uploads: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Announced as OCI-Chunk-Min-Length.
    pub(crate) least_chunk: Mutex<Option<u64>>,
}

impl Model {
    /// A registry with these blobs.
    pub(crate) fn with_blobs(blobs: &[&[u8]]) -> Arc<Self> {
        let model = Self::default();
        for blob in blobs {
            model.blobs.lock().unwrap().insert(digest_of(blob).to_string(), blob.to_vec());
        }
        Arc::new(model)
    }

    /// A server of it, without a flaw.
    pub(crate) async fn serve(self: &Arc<Self>) -> Server {
        let model = self.clone();
        Server::start(move |seen| model.reply(seen)).await
    }

    pub(crate) fn add_manifest(&self, name: &str, media_type: &str, bytes: &[u8]) {
        self.manifests.lock().unwrap().insert(name.to_owned(), (media_type.to_owned(), bytes.to_vec()));
    }

    pub(crate) fn has_blob(&self, bytes: &[u8]) -> bool {
        self.blobs.lock().unwrap().get(&digest_of(bytes).to_string()).is_some_and(|kept| kept == bytes)
    }

    /// What the registry answers.
    pub(crate) fn reply(&self, seen: &Seen) -> Reply {
        let path = seen.path();
        if path == "/v2/" {
            return Reply::new(200);
        }
        if let Some((_, id)) = path.split_once("/blobs/uploads/") {
            return self.upload(seen, id);
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            return self.blob(seen, digest);
        }
        match path.split_once("/manifests/") {
            Some((_, name)) => self.manifest(seen, name),
            None => unknown("UNSUPPORTED"),
        }
    }

    fn blob(&self, seen: &Seen, digest: &str) -> Reply {
        let blobs = self.blobs.lock().unwrap();
        let Some(bytes) = blobs.get(digest) else { return unknown("BLOB_UNKNOWN") };
        let reply = Reply::new(200).header("ETag", format!("\"{digest}\"")).header("Docker-Content-Digest", digest);
        let Some(range) = seen.header("range") else { return reply.body(bytes.clone()) };
        let from: usize = range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap();
        if seen.header("if-range").is_some_and(|etag| etag != format!("\"{digest}\"")) {
            return reply.body(bytes.clone());
        }
        let content_range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        Reply { status: 206, ..reply }.header("Content-Range", content_range).body(&bytes[from..])
    }

    fn manifest(&self, seen: &Seen, name: &str) -> Reply {
        let mut manifests = self.manifests.lock().unwrap();
        if seen.method == "PUT" {
            let digest = digest_of(&seen.body).to_string();
            let kept = (seen.header("content-type").unwrap().to_owned(), seen.body.clone());
            manifests.insert(name.to_owned(), kept.clone());
            manifests.insert(digest.clone(), kept);
            return Reply::new(201).header("Docker-Content-Digest", digest);
        }
        if seen.method == "DELETE" {
            return if manifests.remove(name).is_some() { Reply::new(202) } else { unknown("MANIFEST_UNKNOWN") };
        }
        let Some((media_type, bytes)) = manifests.get(name) else { return unknown("MANIFEST_UNKNOWN") };
        let reply =
            Reply::new(200).header("Docker-Content-Digest", digest_of(bytes)).header("Content-Type", media_type);
        reply.body(bytes.clone())
    }

    fn upload(&self, seen: &Seen, id: &str) -> Reply {
        let mut uploads = self.uploads.lock().unwrap();
        if seen.method == "POST" {
            return self.begin(seen, &mut uploads);
        }
        let Some(upload) = uploads.get_mut(id) else { return unknown("BLOB_UPLOAD_UNKNOWN") };
        // Without a range, bytes go to the end.
        let range =
            seen.header("content-range").map(|range| range.split_once('-').unwrap().0.parse::<usize>().unwrap());
        if seen.method == "PATCH" && range.is_some_and(|from| from != upload.len()) {
            return standing(416, id, upload.len());
        }
        upload.extend_from_slice(&seen.body);
        match seen.method.as_str() {
            "GET" => standing(204, id, upload.len()),
            "PATCH" => standing(202, id, upload.len()),
            "DELETE" => {
                uploads.remove(id);
                Reply::new(204)
            }
            "PUT" if !seen.is_whole => Reply::new(500),
            "PUT" => {
                let bytes = uploads.remove(id).unwrap();
                let digest = seen.parameters("digest").pop().unwrap();
                if digest_of(&bytes).to_string() != digest {
                    return Reply::new(400)
                        .body(r#"{"errors":[{"code":"DIGEST_INVALID","message":"not these bytes"}]}"#);
                }
                self.blobs.lock().unwrap().insert(digest.clone(), bytes);
                Reply::new(201).header("Docker-Content-Digest", digest)
            }
            other => panic!("{other} of an upload"),
        }
    }

    fn begin(&self, seen: &Seen, uploads: &mut BTreeMap<String, Vec<u8>>) -> Reply {
        if let Some(digest) = seen.parameters("mount").pop()
            && seen.parameters("from") == ["from/there"]
            && self.blobs.lock().unwrap().contains_key(&digest)
        {
            return Reply::new(201).header("Docker-Content-Digest", digest);
        }
        let id = format!("upload-{}", uploads.len());
        uploads.insert(id.clone(), Vec::new());
        let reply = standing(202, &id, 0);
        match *self.least_chunk.lock().unwrap() {
            Some(least) => reply.header("OCI-Chunk-Min-Length", least),
            None => reply,
        }
    }
}

fn standing(status: u16, id: &str, length: usize) -> Reply {
    let range = format!("0-{}", length.saturating_sub(1));
    Reply::new(status).header("Location", format!("/v2/a/b/blobs/uploads/{id}?state=x")).header("Range", range)
}

/// 404 with a code.
pub(crate) fn unknown(code: &str) -> Reply {
    Reply::new(404).body(format!(r#"{{"errors":[{{"code":"{code}","message":"unknown"}}]}}"#))
}
