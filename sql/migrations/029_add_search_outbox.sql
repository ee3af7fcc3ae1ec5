-- What a search engine beside Postgres follows: which videos changed, and which indexes there are.

-- An outbox with a row for every video that ever had scenes. The transaction that changes what can be found of a video
-- raises its version; whoever brings the index in line writes down which version it brought there. Versions of a
-- video rise in the order in which its changes are committed, since each of them locks the row first.
CREATE SEQUENCE IF NOT EXISTS search_versions;

CREATE TABLE IF NOT EXISTS search_changes (
    video_id        uuid        PRIMARY KEY,
    version         bigint      NOT NULL,
    indexed_version bigint      NOT NULL DEFAULT 0,
    most_scenes     integer     NOT NULL CHECK (most_scenes >= 0),
    changed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    refused         text
);

COMMENT ON COLUMN search_changes.most_scenes IS 'How many scenes the video had at most: documents of the others are to go';
COMMENT ON COLUMN search_changes.due_at IS 'When somebody else may bring it in line than who made the change';
COMMENT ON COLUMN search_changes.refused IS 'Why the engine will not have a document of this version; tried no more';

CREATE INDEX IF NOT EXISTS idx_search_changes_pending ON search_changes (due_at) WHERE version <> indexed_version;

-- An index of the engine, and how far it is: what is being built, what searches ask, what is about to go.
CREATE TABLE IF NOT EXISTS search_indexes (
    name         text        PRIMARY KEY,
    alias        text        NOT NULL,
    vision_model text        NOT NULL,
    text_model   text        NOT NULL,
    state        text        NOT NULL CHECK (state IN ('building', 'live', 'retired')),
    copied       bigint      NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Videos from before.
INSERT INTO search_changes (video_id, version, most_scenes)
SELECT video_id, nextval('search_versions'), count(*) FROM video_scenes GROUP BY video_id
ON CONFLICT (video_id) DO NOTHING;

DO $$
DECLARE
    outsider text;
BEGIN
    FOR outsider IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE search_changes, search_indexes FROM %I', outsider);
        EXECUTE format('REVOKE ALL ON SEQUENCE search_versions FROM %I', outsider);
    END LOOP;
END
$$;
