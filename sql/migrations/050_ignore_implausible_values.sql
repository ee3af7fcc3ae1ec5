-- What users and other systems write into videos, user_profiles and search_queries stops no figure and distorts none.
--
-- One duration of 1e308 s or one infinite time made a sum or an interval overflow, and every answer with it. A value
-- that cannot be true counts as an unknown one (null), and is shown as null. Texts are cut after 1000 characters.
-- What else a figure means is said in 018, 020, 031 and 040.

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
            'get_admin_user_detail',
            'get_admin_processing_latency',
            'get_admin_rtf_distribution',
            'get_admin_queue_analysis',
            'get_admin_failures_by_stage',
            'get_admin_throughput_timeseries_v2')
    LOOP
        BEGIN
            EXECUTE format('DROP ROUTINE %s', old);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            -- A view that reads it goes on reading it, under a name that no other function has.
            EXECUTE format('ALTER ROUTINE %s RENAME TO %I', old,
                           (SELECT format('former_%s_%s', p.proname, p.oid) FROM pg_catalog.pg_proc AS p WHERE p.oid = old));
        END;
    END LOOP;
END
$$;

-- The rule for all figures, here and in cluster/store/plausible_times.py. No SET, so that they are inlined. Any type of
-- number, since an existing table may have numeric, of which not every value is a double precision.

-- A time that intervals, JSON and Python can hold, and that a clock may have said: from 1970 to a day from now.
CREATE OR REPLACE FUNCTION public.heimdex_plausible_time(timestamptz)
RETURNS timestamptz
LANGUAGE sql STABLE
AS $$
    SELECT CASE WHEN $1 BETWEEN 'epoch'::timestamptz AND now() + interval '24 hours' THEN $1 END
$$;

-- The duration of a video, in seconds: above zero, as far as it can divide, up to 115 days.
CREATE OR REPLACE FUNCTION public.heimdex_plausible_seconds(anyelement)
RETURNS double precision
LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE WHEN $1 BETWEEN 0.000000001 AND 10000000 THEN $1::double precision END
$$;

-- How long processing or a search took, in milliseconds: up to 24 days, so that an integer holds it.
CREATE OR REPLACE FUNCTION public.heimdex_plausible_ms(anyelement)
RETURNS double precision
LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE WHEN $1 BETWEEN 0 AND 2073600000 THEN $1::double precision END
$$;

-- Totals over all time, and searches of the last 7 and 30 days: always one row.
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
           coalesce(100.0 * v.failed / nullif(v.ready + v.failed, 0), 0)::double precision,
           coalesce(v.ready_s, 0) / 3600,
           s.searches_7d, s.latency_7d, s.searches_30d, s.latency_30d
    FROM (
        SELECT count(*) FILTER (WHERE videos.status = 'READY') AS ready,
               count(*) FILTER (WHERE videos.status = 'FAILED' AND c.video_id IS NULL) AS failed,
               count(*) AS total,
               sum(public.heimdex_plausible_seconds(videos.duration_s))
                   FILTER (WHERE videos.status = 'READY') AS ready_s
        FROM public.videos
        LEFT JOIN public.video_processing AS c ON c.video_id = videos.id AND c.cancelled_at IS NOT NULL
    ) AS v
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE recent.in_7d) AS searches_7d,
               avg(recent.latency_ms) FILTER (WHERE recent.in_7d) AS latency_7d,
               count(*) AS searches_30d,
               avg(recent.latency_ms) AS latency_30d
        FROM (
            SELECT public.heimdex_plausible_ms(q.latency_ms) AS latency_ms,
                   q.created_at >= now() - interval '168 hours' AS in_7d
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
    SELECT (v.updated_at AT TIME ZONE 'UTC')::date, count(*),
           coalesce(sum(public.heimdex_plausible_seconds(v.duration_s)), 0) / 3600
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
    SELECT (q.created_at AT TIME ZONE 'UTC')::date, count(*), avg(public.heimdex_plausible_ms(q.latency_ms))
    FROM public.search_queries AS q
    WHERE q.created_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    GROUP BY 1
    ORDER BY 1
$$;

-- One row for each user (target_user_id null: all of them): those who have a profile, own a video or have
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
        SELECT p.user_id, max(left(p.full_name, 1000)) AS full_name
        FROM public.user_profiles AS p
        WHERE p.user_id IS NOT NULL AND ($2 IS NULL OR p.user_id = $2)
        GROUP BY p.user_id
    ), owners AS (
        SELECT v.owner_id AS user_id,
               count(*) AS total,
               count(*) FILTER (WHERE v.status = 'READY') AS ready,
               sum(public.heimdex_plausible_seconds(v.duration_s)) FILTER (WHERE v.status = 'READY') AS ready_s,
               max(greatest(public.heimdex_plausible_time(v.created_at),
                            public.heimdex_plausible_time(v.updated_at))) AS last_at
        FROM public.videos AS v
        WHERE v.owner_id IS NOT NULL AND ($2 IS NULL OR v.owner_id = $2)
        GROUP BY v.owner_id
    ), searchers AS (
        SELECT q.user_id,
               count(*) FILTER (WHERE q.in_range) AS searches,
               avg(q.latency_ms) FILTER (WHERE q.in_range) AS latency_ms,
               max(q.searched_at) AS last_at
        FROM (
            SELECT s.user_id, public.heimdex_plausible_ms(s.latency_ms) AS latency_ms,
                   public.heimdex_plausible_time(s.created_at) AS searched_at,
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

-- One user with the 20 videos that changed last and the 50 last searches. No row when there is no such user.
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
                   jsonb_agg(to_jsonb(recent) ORDER BY recent.updated_at DESC NULLS LAST, recent.id), '[]'
               ) AS videos
        FROM (
            SELECT videos.id, left(videos.filename, 1000) AS filename,
                   CASE WHEN videos.status = 'FAILED' AND c.video_id IS NOT NULL THEN 'CANCELLED'
                        ELSE left(videos.status::text, 1000) END AS status,
                   public.heimdex_plausible_seconds(videos.duration_s) AS duration_s,
                   public.heimdex_plausible_time(videos.updated_at) AS updated_at,
                   left(videos.error_message, 1000) AS error_message
            FROM public.videos
            LEFT JOIN public.video_processing AS c ON c.video_id = videos.id AND c.cancelled_at IS NOT NULL
            WHERE videos.owner_id = $1
            ORDER BY public.heimdex_plausible_time(videos.updated_at) DESC NULLS LAST, videos.id
            LIMIT 20
        ) AS recent
    ) AS v
    CROSS JOIN (
        SELECT coalesce(
                   jsonb_agg(to_jsonb(recent) - 'id' ORDER BY recent.created_at DESC NULLS LAST, recent.id), '[]'
               ) AS searches
        FROM (
            SELECT s.id, left(s.query_text, 1000) AS query_text,
                   public.heimdex_plausible_time(s.created_at) AS created_at,
                   public.heimdex_plausible_ms(s.latency_ms)::integer AS latency_ms,
                   CASE WHEN s.results_count BETWEEN 0 AND 2147483647 THEN s.results_count::integer END
                       AS results_count,
                   s.video_id
            FROM public.search_queries AS s
            WHERE s.user_id = $1
            ORDER BY public.heimdex_plausible_time(s.created_at) DESC NULLS LAST, s.id
            LIMIT 50
        ) AS recent
    ) AS q
    WHERE $1 IS NOT NULL
$$;

-- Processing time of the READY and FAILED videos that were measured: always one row. avg_total_ms: queue + processing.
CREATE FUNCTION public.get_admin_processing_latency(p_days_back integer DEFAULT 30)
RETURNS TABLE (
    videos_measured   bigint,
    avg_processing_ms double precision,
    p50_processing_ms double precision,
    p95_processing_ms double precision,
    p99_processing_ms double precision,
    avg_queue_ms      double precision,
    avg_total_ms      double precision
)
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT count(*),
           avg(m.processing_ms),
           percentile_cont(0.50) WITHIN GROUP (ORDER BY m.processing_ms),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY m.processing_ms),
           percentile_cont(0.99) WITHIN GROUP (ORDER BY m.processing_ms),
           avg(m.queue_ms),
           avg(m.queue_ms + m.processing_ms)
    FROM (
        SELECT extract(epoch FROM public.heimdex_plausible_time(v.processing_started_at)
                                  - public.heimdex_plausible_time(v.queued_at))::double precision * 1000 AS queue_ms,
               public.heimdex_plausible_ms(v.processing_duration_ms) AS processing_ms
        FROM public.videos AS v
        WHERE v.status IN ('READY', 'FAILED')
          AND v.processing_finished_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
          AND NOT EXISTS (SELECT FROM public.video_processing AS c
                          WHERE c.video_id = v.id AND c.cancelled_at IS NOT NULL AND v.status = 'FAILED')
    ) AS m
    WHERE m.queue_ms IS NOT NULL AND m.processing_ms IS NOT NULL
$$;

-- Real-time factor, processing time / video duration, of the READY videos that were measured, have a
-- plausible duration and finished in the range: always one row. avg_rtf is the mean of the videos' factors, each
-- video counting alike.
CREATE FUNCTION public.get_admin_rtf_distribution(p_days_back integer DEFAULT 30)
RETURNS TABLE (
    videos_measured           bigint,
    avg_rtf                   double precision,
    p50_rtf                   double precision,
    p95_rtf                   double precision,
    p99_rtf                   double precision,
    avg_video_duration_s      double precision,
    avg_processing_duration_s double precision
)
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT count(*),
           avg(m.processing_s / m.video_s),
           percentile_cont(0.50) WITHIN GROUP (ORDER BY m.processing_s / m.video_s),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY m.processing_s / m.video_s),
           percentile_cont(0.99) WITHIN GROUP (ORDER BY m.processing_s / m.video_s),
           avg(m.video_s),
           avg(m.processing_s)
    FROM (
        SELECT public.heimdex_plausible_seconds(v.duration_s) AS video_s,
               public.heimdex_plausible_ms(v.processing_duration_ms) / 1000 AS processing_s
        FROM public.videos AS v
        WHERE v.status = 'READY'
          AND v.processing_finished_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    ) AS m
    WHERE m.video_s IS NOT NULL AND m.processing_s IS NOT NULL
$$;

-- Waiting against working, of the READY and FAILED videos that were measured: always one row.
CREATE FUNCTION public.get_admin_queue_analysis(p_days_back integer DEFAULT 30)
RETURNS TABLE (
    videos_measured       bigint,
    avg_queue_time_s      double precision,
    avg_processing_time_s double precision,
    avg_total_time_s      double precision,
    queue_time_pct        double precision,
    processing_time_pct   double precision
)
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT count(*),
           avg(m.queue_s),
           avg(m.processing_s),
           avg(m.queue_s + m.processing_s),
           100 * sum(m.queue_s) / nullif(sum(m.queue_s + m.processing_s), 0),
           100 * sum(m.processing_s) / nullif(sum(m.queue_s + m.processing_s), 0)
    FROM (
        SELECT extract(epoch FROM public.heimdex_plausible_time(v.processing_started_at)
                                  - public.heimdex_plausible_time(v.queued_at))::double precision AS queue_s,
               public.heimdex_plausible_ms(v.processing_duration_ms) / 1000 AS processing_s
        FROM public.videos AS v
        WHERE v.status IN ('READY', 'FAILED')
          AND v.processing_finished_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
          AND NOT EXISTS (SELECT FROM public.video_processing AS c
                          WHERE c.video_id = v.id AND c.cancelled_at IS NOT NULL AND v.status = 'FAILED')
    ) AS m
    WHERE m.queue_s IS NOT NULL AND m.processing_s IS NOT NULL
$$;

-- FAILED videos by the stage that failed ('unknown' where none was recorded), most failures first, equal ones by name:
-- at most 100 stages, of which the percentages are shares of all failures. A row without a finish time counts by
-- updated_at.
CREATE FUNCTION public.get_admin_failures_by_stage(p_days_back integer DEFAULT 30)
RETURNS TABLE (processing_stage text, failure_count bigint, failure_pct double precision)
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT f.stage, f.failures, (100.0 * f.failures / sum(f.failures) OVER ())::double precision
    FROM (
        SELECT coalesce(left(v.processing_stage, 1000), 'unknown') AS stage, count(*) AS failures
        FROM public.videos AS v
        WHERE v.status = 'FAILED'
          AND coalesce(public.heimdex_plausible_time(v.processing_finished_at), v.updated_at)
              BETWEEN now() - make_interval(hours => 24 * $1) AND now()
          AND NOT EXISTS (SELECT FROM public.video_processing AS c
                          WHERE c.video_id = v.id AND c.cancelled_at IS NOT NULL AND v.status = 'FAILED')
        GROUP BY 1
    ) AS f
    ORDER BY f.failures DESC, f.stage
    LIMIT 100
$$;

-- What ended on each UTC day, latest day first; days without any are left out.
CREATE FUNCTION public.get_admin_throughput_timeseries_v2(p_days_back integer DEFAULT 30)
RETURNS TABLE (
    day              date,
    videos_ready     bigint,
    videos_failed    bigint,
    hours_ready      double precision,
    avg_processing_s double precision,
    avg_rtf          double precision
)
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT (e.ended_at AT TIME ZONE 'UTC')::date,
           count(*) FILTER (WHERE e.ready),
           count(*) FILTER (WHERE NOT e.ready),
           coalesce(sum(e.video_s) FILTER (WHERE e.ready), 0) / 3600,
           avg(e.processing_s) FILTER (WHERE e.ready),
           avg(e.processing_s / e.video_s) FILTER (WHERE e.ready)
    FROM (
        SELECT coalesce(public.heimdex_plausible_time(v.processing_finished_at), v.updated_at) AS ended_at,
               v.status = 'READY' AS ready,
               public.heimdex_plausible_seconds(v.duration_s) AS video_s,
               public.heimdex_plausible_ms(v.processing_duration_ms) / 1000 AS processing_s
        FROM public.videos AS v
        WHERE v.status IN ('READY', 'FAILED')
          AND NOT EXISTS (SELECT FROM public.video_processing AS c
                          WHERE c.video_id = v.id AND c.cancelled_at IS NOT NULL AND v.status = 'FAILED')
    ) AS e
    WHERE e.ended_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    GROUP BY 1
    ORDER BY 1 DESC
$$;

INSERT INTO public.heimdex_role_rights (object, worker, api, reader) VALUES
    ('heimdex_plausible_time()', 'EXECUTE', 'EXECUTE', 'EXECUTE'),
    ('heimdex_plausible_seconds()', 'EXECUTE', 'EXECUTE', 'EXECUTE'),
    ('heimdex_plausible_ms()', 'EXECUTE', 'EXECUTE', 'EXECUTE')
ON CONFLICT (object) DO UPDATE SET worker = excluded.worker, api = excluded.api, reader = excluded.reader;

-- The figures are of all users' rows: only the owner and the service's role, where there is one, may call them.
DO $$
DECLARE
    function regprocedure;
    outsider text;
BEGIN
    FOR function IN
        SELECT p.oid FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'heimdex_plausible_time',
            'heimdex_plausible_seconds',
            'heimdex_plausible_ms',
            'get_admin_overview_metrics',
            'get_throughput_timeseries',
            'get_search_timeseries',
            'heimdex_user_activity',
            'get_admin_user_detail',
            'get_admin_processing_latency',
            'get_admin_rtf_distribution',
            'get_admin_queue_analysis',
            'get_admin_failures_by_stage',
            'get_admin_throughput_timeseries_v2')
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

SELECT public.heimdex_grant_roles();
