-- What makes the queue fair and its failures truthful: who is due when, how attempts ended, and what they left behind.
--
-- due_at orders an owner's waiting videos: the submission, ten minutes earlier for each step of priority, so that what
-- waits gets ever more urgent against what comes later. failures (022) counts the attempts that ended in an error;
-- crashes those that took their worker down; interruptions those that the cluster itself broke off.

ALTER TABLE videos ADD COLUMN IF NOT EXISTS priority smallint NOT NULL DEFAULT 0;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS due_at timestamptz;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS crashes integer NOT NULL DEFAULT 0;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS interruptions integer NOT NULL DEFAULT 0;

-- Only what this cluster has enqueued (available_at is its own); rows of another system stay as they are.
UPDATE videos SET due_at = queued_at WHERE due_at IS NULL AND available_at IS NOT NULL;

DROP INDEX IF EXISTS idx_videos_waiting;
CREATE INDEX IF NOT EXISTS idx_videos_due
    ON videos (owner_id, due_at, id) WHERE status = 'PENDING' AND available_at IS NOT NULL;

-- Results that a later attempt need not make again: the transcript; 'indexing' without a result says that the scenes
-- are written. Gone when the video is READY or CANCELLED.
CREATE TABLE IF NOT EXISTS video_stage_results (
    video_id   uuid        NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    stage      text        NOT NULL CHECK (stage IN ('transcription', 'indexing')),
    result     jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (video_id, stage)
);

-- What stands in the scheduler's way, for people to read; null: nothing.
ALTER TABLE cluster_workers ADD COLUMN IF NOT EXISTS trouble text;

-- Where every new table is opened to the roles of a web page by default, the cluster's own are closed again.
DO $$
DECLARE
    outsider text;
    relation text;
BEGIN
    FOR outsider IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        FOREACH relation IN ARRAY ARRAY['video_stage_runs', 'video_leases', 'cluster_workers', 'video_transcripts',
                                        'scene_embeddings', 'video_stage_results', 'heimdex_migrations'] LOOP
            IF to_regclass(relation) IS NOT NULL THEN
                EXECUTE format('REVOKE ALL ON TABLE %s FROM %I', relation, outsider);
            END IF;
        END LOOP;
        EXECUTE format('REVOKE ALL ON SEQUENCE video_lease_tokens FROM %I', outsider);
    END LOOP;
END
$$;
