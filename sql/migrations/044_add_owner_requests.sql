-- What owners asked for that costs work: a row for each video that was submitted, tried again or processed again. The
-- submissions within a minute and the quotas of owners are counted here. Rows older than 31 days are removed.
--
-- Not in videos: an owner may change rows there in an existing system. duration_s and size_bytes are null until the
-- video was read; a video that was refused then counts 0. exempt: an operator asked for it, so it counts as nobody's.

CREATE TABLE IF NOT EXISTS public.owner_requests (
    id           bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id     uuid             NOT NULL,
    video_id     uuid             NOT NULL,
    kind         text             NOT NULL CHECK (kind IN ('submission', 'retry', 'reprocessing')),
    exempt       boolean          NOT NULL DEFAULT false,
    requested_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    duration_s   double precision CHECK (duration_s >= 0),
    size_bytes   bigint           CHECK (size_bytes >= 0)
);

CREATE INDEX IF NOT EXISTS idx_owner_requests_owner ON public.owner_requests (owner_id, requested_at) WHERE NOT exempt;
CREATE INDEX IF NOT EXISTS idx_owner_requests_video ON public.owner_requests (video_id, id);

-- The searches of a video that is forgotten are found by it; most searches are for no video.
CREATE INDEX IF NOT EXISTS idx_search_queries_of_video ON public.search_queries (video_id) WHERE video_id IS NOT NULL;

DO $$
DECLARE
    outsider text;
BEGIN
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE public.owner_requests FROM %I', outsider);
        EXECUTE format('REVOKE ALL ON SEQUENCE public.owner_requests_id_seq FROM %I', outsider);
    END LOOP;
END
$$;
