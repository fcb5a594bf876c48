-- Version 1 of the catalog. Every object belongs to a project. Times are milliseconds since 1970.
CREATE TABLE blobs (
    project TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    boot_id TEXT,                       -- written in this boot and not known to be on disk; NULL: durable
    created INTEGER NOT NULL,
    PRIMARY KEY (project, digest)
) WITHOUT ROWID;

CREATE TABLE leases (
    project TEXT NOT NULL,
    id TEXT NOT NULL,
    holder TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,                    -- NULL: never, or not while its session lives
    grace INTEGER,                      -- NULL: not a session
    PRIMARY KEY (project, id)
) WITHOUT ROWID;

CREATE TABLE lease_refs (
    project TEXT NOT NULL,
    lease_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('blob', 'layer', 'image')),
    object TEXT NOT NULL,
    PRIMARY KEY (project, lease_id, kind, object),
    FOREIGN KEY (project, lease_id) REFERENCES leases (project, id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX lease_refs_by_object ON lease_refs (project, kind, object);

CREATE TABLE ingests (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    lease_id TEXT NOT NULL,
    expected TEXT,
    started INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE layers (
    id TEXT PRIMARY KEY CHECK (length(id) <= 8),
    project TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('incomplete', 'unsynced', 'ready', 'deleting')),
    boot_id TEXT,
    diff_id TEXT,
    toc TEXT,
    size INTEGER NOT NULL DEFAULT 0,
    tar_size INTEGER NOT NULL DEFAULT 0,
    shape BLOB,                         -- directories that its archive only implies; NULL: written over its parents
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX layers_by_diff_id ON layers (project, diff_id) WHERE diff_id IS NOT NULL;
CREATE INDEX layers_by_state ON layers (state) WHERE state <> 'ready';

-- Numbers that are never given twice: what had one may still be on its way out.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE snapshots (
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    directory INTEGER NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('free', 'held', 'committing', 'deleting')),
    holder TEXT NOT NULL DEFAULT '',
    layer_ids TEXT NOT NULL,            -- bottom first, separated by spaces
    image_id TEXT,
    lease_id TEXT,
    work INTEGER NOT NULL DEFAULT 0,    -- number of the newest work directory
    created INTEGER NOT NULL,
    PRIMARY KEY (project, key)
) WITHOUT ROWID;
CREATE INDEX snapshots_by_image ON snapshots (project, image_id);
CREATE INDEX snapshots_by_lease ON snapshots (project, lease_id);

CREATE TABLE images (
    project TEXT NOT NULL,
    id TEXT NOT NULL,
    manifest TEXT NOT NULL,
    manifest_size INTEGER NOT NULL,
    made INTEGER,                       -- as its config says
    size INTEGER NOT NULL,
    os TEXT NOT NULL,
    architecture TEXT NOT NULL,
    variant TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (project, id)
) WITHOUT ROWID;

CREATE TABLE image_names (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    image_id TEXT NOT NULL,
    PRIMARY KEY (project, name),
    FOREIGN KEY (project, image_id) REFERENCES images (project, id)
) WITHOUT ROWID;
CREATE INDEX image_names_by_image ON image_names (project, image_id);

CREATE TABLE image_layers (
    project TEXT NOT NULL,
    image_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    layer_id TEXT NOT NULL REFERENCES layers (id),
    PRIMARY KEY (project, image_id, position),
    FOREIGN KEY (project, image_id) REFERENCES images (project, id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX image_layers_by_layer ON image_layers (layer_id);

CREATE TABLE cache_records (
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    family TEXT NOT NULL DEFAULT '',
    layer_id TEXT REFERENCES layers (id) ON DELETE CASCADE,
    description TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (project, key)
) WITHOUT ROWID;
CREATE INDEX cache_records_by_family ON cache_records (project, family, created) WHERE family <> '';
CREATE INDEX cache_records_by_layer ON cache_records (layer_id);
