-- Version 3: blobs that repositories of the registry hold, by the names that they were pushed by.
CREATE TABLE repository_blobs (
    project TEXT NOT NULL,
    repository TEXT NOT NULL,
    name TEXT NOT NULL,                 -- the digest that its client gave it: SHA-256, or another
    digest TEXT NOT NULL,               -- the blob
    used INTEGER NOT NULL,              -- when it was pushed or mounted, last
    PRIMARY KEY (project, repository, name)
) WITHOUT ROWID;
CREATE INDEX repository_blobs_by_digest ON repository_blobs (project, digest, repository);
CREATE INDEX repository_blobs_by_name ON repository_blobs (project, name);

-- The document made here of which this one is the form for others; NULL: it was pushed.
ALTER TABLE repository_documents ADD COLUMN made_from TEXT;
