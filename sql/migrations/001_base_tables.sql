-- The base tables of Heimdex: people, videos, scenes, searches.
--
-- A database that already has them keeps its own: each statement acts only where the object is missing, and
-- no row, column, trigger or policy of an existing table is touched. What this file would add to a table
-- (indexes), it adds only where nothing of that name exists.

CREATE EXTENSION IF NOT EXISTS vector;

-- Which of them are there already, for the end of this file.
SELECT set_config('heimdex.tables_before', coalesce(string_agg(relname, ','), ''), false)
FROM pg_class
WHERE relnamespace = 'public'::regnamespace
  AND relname IN ('user_profiles', 'videos', 'video_scenes', 'search_queries');

DO $$
BEGIN
    IF to_regtype('public.video_status') IS NULL THEN
        CREATE TYPE public.video_status AS ENUM ('PENDING', 'PROCESSING', 'READY', 'FAILED');
    END IF;
END
$$;

-- owner_id and user_id elsewhere are the same person's id, but no foreign keys: a token's sub need not have
-- a profile.
CREATE TABLE IF NOT EXISTS public.user_profiles (
    user_id    uuid        PRIMARY KEY,
    full_name  text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS public.videos (
    id            uuid                PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id      uuid                NOT NULL,
    storage_path  text                NOT NULL,
    filename      text                NOT NULL,
    status        public.video_status NOT NULL DEFAULT 'PENDING',
    duration_s    double precision    CHECK (duration_s >= 0 AND duration_s < 'Infinity'),  -- nor NaN
    error_message text,
    created_at    timestamptz         NOT NULL DEFAULT now(),
    updated_at    timestamptz         NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS public.video_scenes (
    id                 uuid             PRIMARY KEY DEFAULT gen_random_uuid(),
    video_id           uuid             NOT NULL REFERENCES public.videos (id) ON DELETE CASCADE,
    index              integer          NOT NULL CHECK (index >= 0),
    start_s            double precision NOT NULL CHECK (start_s >= 0),
    end_s              double precision NOT NULL CHECK (end_s >= start_s),
    transcript_segment text,
    visual_summary     text,
    combined_text      text,
    thumbnail_url      text,
    created_at         timestamptz      NOT NULL DEFAULT now(),
    UNIQUE (video_id, index)
);

-- A search outlives the video that it was restricted to: it stays a search that somebody made.
CREATE TABLE IF NOT EXISTS public.search_queries (
    id            uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id       uuid        NOT NULL,
    video_id      uuid        REFERENCES public.videos (id) ON DELETE SET NULL,
    query_text    text        NOT NULL,
    results_count integer     CHECK (results_count >= 0),
    latency_ms    integer     CHECK (latency_ms >= 0),
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS idx_videos_owner_id ON public.videos (owner_id, created_at);
CREATE INDEX IF NOT EXISTS idx_videos_status ON public.videos (status, updated_at);
CREATE INDEX IF NOT EXISTS idx_search_queries_user_id ON public.search_queries (user_id, created_at);
CREATE INDEX IF NOT EXISTS idx_search_queries_created_at ON public.search_queries (created_at);

-- A new table is closed to the roles of a web page even where these are given every new table by default (Supabase);
-- what somebody had before keeps the rules that he made for it.
DO $$
DECLARE
    outsider text;
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['user_profiles', 'videos', 'video_scenes', 'search_queries'] LOOP
        CONTINUE WHEN relation = ANY (string_to_array(current_setting('heimdex.tables_before'), ','));
        FOR outsider IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON TABLE public.%I FROM %I', relation, outsider);
        END LOOP;
    END LOOP;
END
$$;
