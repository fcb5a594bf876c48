-- Version 6: build cache records are found by what a step does to which files, too, however these came to be.
ALTER TABLE layers ADD COLUMN content TEXT;                               -- digest of its files without times, with diff_id
ALTER TABLE cache_records ADD COLUMN operation TEXT NOT NULL DEFAULT '';  -- what the step does
ALTER TABLE cache_records ADD COLUMN content TEXT NOT NULL DEFAULT '';    -- that, and the files it did it to, once known
CREATE INDEX cache_records_by_operation ON cache_records (project, operation) WHERE operation <> '';
CREATE INDEX cache_records_by_content ON cache_records (project, content) WHERE content <> '';
