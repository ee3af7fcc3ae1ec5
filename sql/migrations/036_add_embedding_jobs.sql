-- Requests to embed what lacks vectors: made by HTTP, run by a scheduler, which has no other way to meet it.
--
-- A job waits as 'requested'. A scheduler that runs it renews seen_at; where that stays out, the runner is gone and the
-- job is 'lost'. What was embedded until then stays.

CREATE TABLE IF NOT EXISTS public.embedding_jobs (
    id              uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    state           text        NOT NULL DEFAULT 'requested'
                                CHECK (state IN ('requested', 'running', 'completed', 'failed', 'lost')),
    requested_by    uuid        NOT NULL,
    requested_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at      timestamptz,
    seen_at         timestamptz,
    finished_at     timestamptz,
    progress        text,
    error_message   text,
    scenes_embedded integer,
    scenes_failed   integer,
    scenes_lacking  integer
);

-- One at a time.
CREATE UNIQUE INDEX IF NOT EXISTS idx_embedding_jobs_open
    ON public.embedding_jobs ((true)) WHERE state IN ('requested', 'running');
CREATE INDEX IF NOT EXISTS idx_embedding_jobs_latest ON public.embedding_jobs (requested_at DESC);

DO $$
DECLARE
    outsider text;
BEGIN
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE public.embedding_jobs FROM %I', outsider);
    END LOOP;
END
$$;
