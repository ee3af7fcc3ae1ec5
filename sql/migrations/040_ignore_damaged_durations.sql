-- Hours and real-time factors count videos with a duration: tables of other systems also hold NaN, infinite, zero and
-- negative ones. One such row made every sum NaN, which JSON cannot say.

DO $$
DECLARE
    old regprocedure;
BEGIN
    FOR old IN
        SELECT p.oid FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'get_admin_overview_metrics',
            'get_throughput_timeseries',
            'heimdex_user_activity',
            'get_admin_rtf_distribution',
            'get_admin_throughput_timeseries_v2')
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
               sum(videos.duration_s) FILTER (WHERE videos.status = 'READY' AND videos.duration_s > 0
                                                AND videos.duration_s < 'Infinity') AS ready_s
        FROM public.videos
        LEFT JOIN public.video_processing AS c ON c.video_id = videos.id AND c.cancelled_at IS NOT NULL
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
    SELECT (v.updated_at AT TIME ZONE 'UTC')::date, count(*),
           coalesce(sum(v.duration_s) FILTER (WHERE v.duration_s > 0 AND v.duration_s < 'Infinity'), 0) / 3600
    FROM public.videos AS v
    WHERE v.status = 'READY'
      AND v.updated_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
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
               sum(v.duration_s) FILTER (WHERE v.status = 'READY' AND v.duration_s > 0
                                           AND v.duration_s < 'Infinity') AS ready_s,
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

-- Real-time factor, processing time / video duration, of the READY videos that were measured, have a
-- duration > 0 and finished in the range: always one row. avg_rtf is the mean of the videos' factors, each
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
        SELECT v.duration_s AS video_s, v.processing_duration_ms / 1000.0::double precision AS processing_s
        FROM public.videos AS v
        WHERE v.status = 'READY'
          AND v.duration_s > 0
          AND v.duration_s < 'Infinity'
          AND v.processing_duration_ms IS NOT NULL
          AND v.processing_finished_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    ) AS m
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
           avg(e.processing_s / e.video_s) FILTER (WHERE e.ready AND e.video_s > 0)
    FROM (
        SELECT coalesce(v.processing_finished_at, v.updated_at) AS ended_at,
               v.status = 'READY' AS ready,
               CASE WHEN v.duration_s > 0 AND v.duration_s < 'Infinity' THEN v.duration_s END AS video_s,
               v.processing_duration_ms / 1000.0::double precision AS processing_s
        FROM public.videos AS v
        WHERE v.status IN ('READY', 'FAILED')
          AND NOT EXISTS (SELECT FROM public.video_processing AS c
                          WHERE c.video_id = v.id AND c.cancelled_at IS NOT NULL AND v.status = 'FAILED')
    ) AS e
    WHERE e.ended_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    GROUP BY 1
    ORDER BY 1 DESC
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
            'heimdex_user_activity',
            'get_admin_rtf_distribution',
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
