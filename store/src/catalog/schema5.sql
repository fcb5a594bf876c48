-- Version 5: when build cache records were used, apart from the records: it is written often, and in batches.
CREATE TABLE cache_usage (
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    used INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    PRIMARY KEY (project, key)
) WITHOUT ROWID;
-- A record that is made again keeps its usage: replacing fires no trigger.
CREATE TRIGGER cache_usage_ends AFTER DELETE ON cache_records BEGIN
    DELETE FROM cache_usage WHERE project = old.project AND key = old.key;
END;
