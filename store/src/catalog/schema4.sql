-- Version 4: what tags of other registries pointed at when they were last asked for.
CREATE TABLE upstream_tags (
    project TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (project, repository, tag)
) WITHOUT ROWID;
