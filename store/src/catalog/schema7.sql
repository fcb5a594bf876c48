-- Version 7: directories that steps of builds keep things in, RUN --mount=type=cache. Who has one now is known in memory.
CREATE TABLE cache_mounts (
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    id TEXT NOT NULL,
    base TEXT NOT NULL,
    directory INTEGER NOT NULL,
    created INTEGER NOT NULL,
    used INTEGER,
    uses INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (project, key)
) WITHOUT ROWID;
CREATE INDEX cache_mounts_by_id ON cache_mounts (project, id, base, directory);
