-- What attempts left behind, and what troubles a scheduler. Who is due when, and how attempts ended, is in
-- video_processing (030); an earlier edition of this file added it to videos.

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
