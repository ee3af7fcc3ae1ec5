-- Admin metrics, phase 1: what can be said from the base tables alone. Completion times are approximate by
-- definition: updated_at stands for the moment at which a video became READY.
--
-- In every function: a range is [now() - N days, now()], both ends included, a day being 24 hours; days are
-- UTC; averages and percentages are not rounded; a figure that has nothing to be computed from is null. Run
-- with the caller's own rights, so that row-level security holds; every name is qualified, so that no
-- search_path can redirect it.

-- An older version may have other parameters or another result, which CREATE OR REPLACE cannot change.
DO $$
DECLARE
    old regprocedure;
BEGIN
    FOR old IN
        SELECT p.oid FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'get_admin_overview_metrics',
            'get_throughput_timeseries',
            'get_search_timeseries',
            'heimdex_user_activity',
            'heimdex_users_total',
            'get_admin_users_list',
            'get_admin_user_detail')
    LOOP
        BEGIN
            EXECUTE format('DROP ROUTINE %s', old);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            -- A view that reads it goes on reading it, under a name that is in nobody's way.
            EXECUTE format('ALTER ROUTINE %s RENAME TO %I', old,
                           (SELECT format('former_%s_%s', p.proname, p.oid) FROM pg_catalog.pg_proc AS p WHERE p.oid = old));
        END;
    END LOOP;
END
$$;

-- Totals over all time, and searches of the last 7 and 30 days: always one row. failure_rate_pct: FAILED of
-- those that ended (READY or FAILED), so that a full queue does not make it look better.
CREATE FUNCTION public.get_admin_overview_metrics()
RETURNS TABLE (
    videos_ready_total        bigint,
    videos_failed_total       bigint,
    videos_total              bigint,
    failure_rate_pct          double precision,
    hours_ready_total         double precision,
    searches_7d               bigint,
    avg_search_latency_ms_7d  double precision,
    searches_30d              bigint,
    avg_search_latency_ms_30d double precision
)
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT v.ready, v.failed, v.total,
           (100.0 * v.failed / nullif(v.ready + v.failed, 0))::double precision,
           v.ready_s / 3600,
           s.searches_7d, s.latency_7d, s.searches_30d, s.latency_30d
    FROM (
        SELECT count(*) FILTER (WHERE videos.status = 'READY') AS ready,
               count(*) FILTER (WHERE videos.status = 'FAILED') AS failed,
               count(*) AS total,
               sum(videos.duration_s) FILTER (WHERE videos.status = 'READY') AS ready_s
        FROM public.videos
    ) AS v
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE recent.in_7d) AS searches_7d,
               (avg(recent.latency_ms) FILTER (WHERE recent.in_7d))::double precision AS latency_7d,
               count(*) AS searches_30d,
               avg(recent.latency_ms)::double precision AS latency_30d
        FROM (
            SELECT q.latency_ms, q.created_at >= now() - interval '168 hours' AS in_7d
            FROM public.search_queries AS q
            WHERE q.created_at BETWEEN now() - interval '720 hours' AND now()
        ) AS recent
    ) AS s
$$;

-- READY videos and their hours by the UTC day of updated_at, earliest day first; days without any are left
-- out.
CREATE FUNCTION public.get_throughput_timeseries(days_back integer DEFAULT 30)
RETURNS TABLE (day date, videos_ready bigint, hours_ready double precision)
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT (v.updated_at AT TIME ZONE 'UTC')::date, count(*), coalesce(sum(v.duration_s), 0) / 3600
    FROM public.videos AS v
    WHERE v.status = 'READY'
      AND v.updated_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    GROUP BY 1
    ORDER BY 1
$$;

-- Searches and their average latency (of those that have one) by UTC day, earliest day first.
CREATE FUNCTION public.get_search_timeseries(days_back integer DEFAULT 30)
RETURNS TABLE (day date, searches bigint, avg_latency_ms double precision)
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT (q.created_at AT TIME ZONE 'UTC')::date, count(*), avg(q.latency_ms)::double precision
    FROM public.search_queries AS q
    WHERE q.created_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    GROUP BY 1
    ORDER BY 1
$$;

-- One row for each user (target_user_id null: all of them): whoever has a profile, owns a video or has
-- searched. Videos and the last activity are over all time, searches over the range. Videos and searches
-- are counted apart before they are joined: joined first, each would multiply the other.
CREATE FUNCTION public.heimdex_user_activity(days_back integer, target_user_id uuid)
RETURNS TABLE (
    user_id           uuid,
    full_name         text,
    videos_total      bigint,
    videos_ready      bigint,
    hours_ready       double precision,
    last_activity     timestamptz,
    searches_7d       bigint,
    avg_latency_ms_7d double precision
)
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    WITH profiles AS (
        SELECT p.user_id, max(p.full_name) AS full_name
        FROM public.user_profiles AS p
        WHERE p.user_id IS NOT NULL AND ($2 IS NULL OR p.user_id = $2)
        GROUP BY p.user_id
    ), owners AS (
        SELECT v.owner_id AS user_id,
               count(*) AS total,
               count(*) FILTER (WHERE v.status = 'READY') AS ready,
               sum(v.duration_s) FILTER (WHERE v.status = 'READY') AS ready_s,
               max(greatest(v.created_at, v.updated_at)) AS last_at
        FROM public.videos AS v
        WHERE v.owner_id IS NOT NULL AND ($2 IS NULL OR v.owner_id = $2)
        GROUP BY v.owner_id
    ), searchers AS (
        SELECT q.user_id,
               count(*) FILTER (WHERE q.in_range) AS searches,
               (avg(q.latency_ms) FILTER (WHERE q.in_range))::double precision AS latency_ms,
               max(q.created_at) AS last_at
        FROM (
            SELECT s.user_id, s.latency_ms, s.created_at,
                   s.created_at BETWEEN now() - make_interval(hours => 24 * $1) AND now() AS in_range
            FROM public.search_queries AS s
            WHERE s.user_id IS NOT NULL AND ($2 IS NULL OR s.user_id = $2)
        ) AS q
        GROUP BY q.user_id
    )
    SELECT user_id, profiles.full_name,
           coalesce(owners.total, 0), coalesce(owners.ready, 0), coalesce(owners.ready_s, 0) / 3600,
           greatest(owners.last_at, searchers.last_at),
           coalesce(searchers.searches, 0), searchers.latency_ms
    FROM profiles
    FULL JOIN owners USING (user_id)
    FULL JOIN searchers USING (user_id)
$$;

-- How many users there are, for the pages of the list: also when a page lies beyond the end.
CREATE FUNCTION public.heimdex_users_total()
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT count(*)
    FROM (
        SELECT p.user_id FROM public.user_profiles AS p WHERE p.user_id IS NOT NULL
        UNION
        SELECT v.owner_id FROM public.videos AS v WHERE v.owner_id IS NOT NULL
        UNION
        SELECT q.user_id FROM public.search_queries AS q WHERE q.user_id IS NOT NULL
    ) AS users
$$;

-- One page of the users, the largest value of the sort column first, nulls last, equal ones by user_id.
-- total_users is the same in every row. The columns are named for the default range of 7 days; they follow
-- days_back.
CREATE FUNCTION public.get_admin_users_list(
    days_back    integer DEFAULT 7,
    limit_count  integer DEFAULT 50,
    offset_count integer DEFAULT 0,
    sort_column  text DEFAULT 'last_activity'
)
RETURNS TABLE (
    user_id           uuid,
    full_name         text,
    videos_total      bigint,
    videos_ready      bigint,
    hours_ready       double precision,
    last_activity     timestamptz,
    searches_7d       bigint,
    avg_latency_ms_7d double precision,
    total_users       bigint
)
LANGUAGE plpgsql STABLE
SET search_path = ''
AS $$
#variable_conflict use_column
BEGIN
    IF coalesce(sort_column, '') NOT IN ('last_activity', 'hours_ready', 'videos_ready', 'searches_7d') THEN
        RAISE EXCEPTION 'unknown sort column %: last_activity, hours_ready, videos_ready or searches_7d',
            quote_nullable(sort_column) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
        SELECT a.*, count(*) OVER ()
        FROM public.heimdex_user_activity(days_back, NULL) AS a
        ORDER BY
            CASE WHEN sort_column = 'last_activity' THEN a.last_activity END DESC NULLS LAST,
            CASE sort_column
                WHEN 'hours_ready' THEN a.hours_ready
                WHEN 'videos_ready' THEN a.videos_ready
                WHEN 'searches_7d' THEN a.searches_7d
            END DESC NULLS LAST,
            a.user_id
        LIMIT limit_count OFFSET offset_count;
END
$$;

-- One user with the 20 videos that changed last and the 50 last searches, each an array of objects, the
-- latest first. No row when there is no such user. Times inside the arrays are ISO 8601 in UTC.
CREATE FUNCTION public.get_admin_user_detail(target_user_id uuid, days_back integer DEFAULT 7)
RETURNS TABLE (
    user_id           uuid,
    full_name         text,
    videos_total      bigint,
    videos_ready      bigint,
    hours_ready       double precision,
    last_activity     timestamptz,
    searches_7d       bigint,
    avg_latency_ms_7d double precision,
    recent_videos     jsonb,
    recent_searches   jsonb
)
LANGUAGE sql STABLE
SET search_path = ''
SET TimeZone = 'UTC'
AS $$
    SELECT a.*, v.videos, q.searches
    FROM public.heimdex_user_activity($2, $1) AS a
    CROSS JOIN (
        SELECT coalesce(
                   jsonb_agg(to_jsonb(recent) ORDER BY recent.updated_at DESC, recent.id), '[]'
               ) AS videos
        FROM (
            SELECT videos.id, videos.filename, videos.status, videos.duration_s, videos.updated_at,
                   videos.error_message
            FROM public.videos
            WHERE videos.owner_id = $1
            ORDER BY videos.updated_at DESC, videos.id
            LIMIT 20
        ) AS recent
    ) AS v
    CROSS JOIN (
        SELECT coalesce(
                   jsonb_agg(to_jsonb(recent) - 'id' ORDER BY recent.created_at DESC, recent.id), '[]'
               ) AS searches
        FROM (
            SELECT s.id, s.query_text, s.created_at, s.latency_ms, s.results_count, s.video_id
            FROM public.search_queries AS s
            WHERE s.user_id = $1
            ORDER BY s.created_at DESC, s.id
            LIMIT 50
        ) AS recent
    ) AS q
    WHERE $1 IS NOT NULL
$$;

-- These functions read everybody's rows: only the owner and the service's role, where there is one, may
-- call them.
DO $$
DECLARE
    function regprocedure;
    outsider text;
BEGIN
    FOR function IN
        SELECT p.oid FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'get_admin_overview_metrics',
            'get_throughput_timeseries',
            'get_search_timeseries',
            'heimdex_user_activity',
            'heimdex_users_total',
            'get_admin_users_list',
            'get_admin_user_detail')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
        FOR outsider IN
            SELECT r.rolname FROM pg_catalog.pg_roles AS r WHERE r.rolname IN ('anon', 'authenticated')
        LOOP
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %I', function, outsider);
        END LOOP;
        IF EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = 'service_role') THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO service_role', function);
        END IF;
    END LOOP;
END
$$;
