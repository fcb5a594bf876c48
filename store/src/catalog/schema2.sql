-- Version 2: names point at documents (manifests and indexes), and what documents refer to is known.
CREATE TABLE documents (
    project TEXT NOT NULL,
    digest TEXT NOT NULL,               -- its bytes are the blob of this digest
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('index', 'manifest')),
    artifact_type TEXT NOT NULL,        -- for lists of referrers: its own, or the media type of its config
    subject TEXT,                       -- the document that it is about, which need not be here
    annotations TEXT NOT NULL,          -- JSON
    made_here INTEGER NOT NULL,         -- nobody else knows it by its digest
    created INTEGER NOT NULL,
    PRIMARY KEY (project, digest)
) WITHOUT ROWID;
CREATE INDEX documents_by_subject ON documents (project, subject, digest) WHERE subject IS NOT NULL;

-- What documents refer to. Of an index not everything need be here.
CREATE TABLE document_children (
    project TEXT NOT NULL,
    document TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('config', 'index', 'layer', 'manifest', 'other')),
    child TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    platform TEXT,                      -- of an entry of an index, as os/architecture/variant
    PRIMARY KEY (project, document, position),
    FOREIGN KEY (project, document) REFERENCES documents (project, digest) ON DELETE CASCADE
) WITHOUT ROWID;
-- With the kind, so that a search by child needs nothing else: SQLite takes the table itself for one that does.
CREATE INDEX document_children_by_child ON document_children (project, child, kind);

CREATE TABLE names (
    project TEXT NOT NULL,
    name TEXT NOT NULL,                 -- "docker.io/library/debian:bookworm"
    repository TEXT NOT NULL,           -- the name without its tag
    target TEXT NOT NULL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (project, name),
    FOREIGN KEY (project, target) REFERENCES documents (project, digest)
) WITHOUT ROWID;
CREATE INDEX names_by_target ON names (project, target, repository);
CREATE INDEX names_by_repository ON names (project, repository, name);

-- Documents that a repository holds though no name of it may lead there: pushed by digest.
CREATE TABLE repository_documents (
    project TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (project, repository, digest),
    FOREIGN KEY (project, digest) REFERENCES documents (project, digest)
) WITHOUT ROWID;
CREATE INDEX repository_documents_by_digest ON repository_documents (project, digest);

-- What compressed layers inflate to, checked. The blob itself may be gone, and be fetched from its source again.
CREATE TABLE layer_blobs (
    project TEXT NOT NULL,
    digest TEXT NOT NULL,
    diff_id TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    source TEXT NOT NULL,               -- repository it came from; empty: none
    created INTEGER NOT NULL,
    PRIMARY KEY (project, digest)
) WITHOUT ROWID;
CREATE INDEX layer_blobs_by_diff_id ON layer_blobs (project, diff_id);

-- What keeps blobs is looked up once for each of them.
CREATE INDEX images_by_manifest ON images (project, manifest);
CREATE INDEX layers_by_toc ON layers (toc) WHERE toc IS NOT NULL;

-- Version 1 knew only images made here, of uncompressed layers.
INSERT OR IGNORE INTO documents (project, digest, media_type, size, kind, artifact_type, annotations, made_here, created)
SELECT project, manifest, 'application/vnd.oci.image.manifest.v1+json', manifest_size, 'manifest',
       'application/vnd.oci.image.config.v1+json', '{}', 1, created FROM images;
INSERT OR IGNORE INTO document_children (project, document, position, kind, child, media_type, size)
SELECT i.project, i.manifest, 0, 'config', i.id, 'application/vnd.oci.image.config.v1+json', coalesce(b.size, 0)
FROM images i LEFT JOIN blobs b ON b.project = i.project AND b.digest = i.id;
INSERT OR IGNORE INTO document_children (project, document, position, kind, child, media_type, size)
SELECT i.project, i.manifest, 1 + p.position, 'layer', l.diff_id, 'application/vnd.oci.image.layer.v1.tar', l.tar_size
FROM images i JOIN image_layers p ON p.project = i.project AND p.image_id = i.id
JOIN layers l ON l.id = p.layer_id WHERE l.diff_id IS NOT NULL;
-- The inner rtrim leaves everything up to the last colon: every name has a tag.
INSERT INTO names (project, name, repository, target, changed)
SELECT n.project, n.name, substr(rtrim(n.name, replace(n.name, ':', '')), 1,
       length(rtrim(n.name, replace(n.name, ':', ''))) - 1), i.manifest, i.created
FROM image_names n JOIN images i ON i.project = n.project AND i.id = n.image_id;
DROP TABLE image_names;
