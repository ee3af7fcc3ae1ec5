-- Figures of 018 and 020 as of video_processing (030): a cancelled video is FAILED in videos and no failure. It counts
-- in the totals of videos alone: not in failures, rates, latency, queue time, stages or days. In a list of videos its
-- status is CANCELLED.
--
-- The overview answers 0 for every count, rate and sum where nothing is there yet, null for averages alone. Latency and
-- queue figures are over READY and FAILED videos that were measured: duration, start and queueing known, finished in
-- the range. What else a figure means is said in 018 and 020.

DO $$
DECLARE
    old regprocedure;
BEGIN
    FOR old IN
        SELECT p.oid FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'get_admin_overview_metrics',
            'get_admin_user_detail',
            'get_admin_processing_latency',
            'get_admin_queue_analysis',
            'get_admin_failures_by_stage',
            'get_admin_throughput_timeseries_v2')
    LOOP
        EXECUTE format('DROP ROUTINE %s', old);
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
               sum(videos.duration_s) FILTER (WHERE videos.status = 'READY') AS ready_s
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
                   jsonb_agg(to_jsonb(recent) ORDER BY recent.updated_at DESC, recent.id), '[]'
               ) AS videos
        FROM (
            SELECT videos.id, videos.filename,
                   CASE WHEN videos.status = 'FAILED' AND c.video_id IS NOT NULL THEN 'CANCELLED'
                        ELSE videos.status::text END AS status,
                   videos.duration_s, videos.updated_at, videos.error_message
            FROM public.videos
            LEFT JOIN public.video_processing AS c ON c.video_id = videos.id AND c.cancelled_at IS NOT NULL
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
           avg(m.processing_ms)::double precision,
           percentile_cont(0.50) WITHIN GROUP (ORDER BY m.processing_ms),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY m.processing_ms),
           percentile_cont(0.99) WITHIN GROUP (ORDER BY m.processing_ms),
           avg(m.queue_ms)::double precision,
           avg(m.queue_ms + m.processing_ms)::double precision
    FROM (
        SELECT v.processing_duration_ms AS processing_ms,
               extract(epoch FROM v.processing_started_at - v.queued_at) * 1000 AS queue_ms
        FROM public.videos AS v
        WHERE v.status IN ('READY', 'FAILED')
          AND v.processing_duration_ms IS NOT NULL
          AND v.processing_started_at IS NOT NULL
          AND v.queued_at IS NOT NULL
          AND v.processing_finished_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
          AND NOT EXISTS (SELECT FROM public.video_processing AS c
                          WHERE c.video_id = v.id AND c.cancelled_at IS NOT NULL AND v.status = 'FAILED')
    ) AS m
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
           avg(m.queue_s)::double precision,
           avg(m.processing_s)::double precision,
           avg(m.queue_s + m.processing_s)::double precision,
           (100 * sum(m.queue_s) / nullif(sum(m.queue_s + m.processing_s), 0))::double precision,
           (100 * sum(m.processing_s) / nullif(sum(m.queue_s + m.processing_s), 0))::double precision
    FROM (
        SELECT extract(epoch FROM v.processing_started_at - v.queued_at) AS queue_s,
               v.processing_duration_ms / 1000.0 AS processing_s
        FROM public.videos AS v
        WHERE v.status IN ('READY', 'FAILED')
          AND v.processing_duration_ms IS NOT NULL
          AND v.processing_started_at IS NOT NULL
          AND v.queued_at IS NOT NULL
          AND v.processing_finished_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
          AND NOT EXISTS (SELECT FROM public.video_processing AS c
                          WHERE c.video_id = v.id AND c.cancelled_at IS NOT NULL AND v.status = 'FAILED')
    ) AS m
$$;

-- FAILED videos by the stage that failed ('unknown' where none was recorded), most failures first, equal ones by name.
CREATE FUNCTION public.get_admin_failures_by_stage(p_days_back integer DEFAULT 30)
RETURNS TABLE (processing_stage text, failure_count bigint, failure_pct double precision)
LANGUAGE sql STABLE
SET search_path = ''
AS $$
    SELECT f.stage, f.failures, (100.0 * f.failures / sum(f.failures) OVER ())::double precision
    FROM (
        SELECT coalesce(v.processing_stage, 'unknown') AS stage, count(*) AS failures
        FROM public.videos AS v
        WHERE v.status = 'FAILED'
          AND coalesce(v.processing_finished_at, v.updated_at)
              BETWEEN now() - make_interval(hours => 24 * $1) AND now()
          AND NOT EXISTS (SELECT FROM public.video_processing AS c
                          WHERE c.video_id = v.id AND c.cancelled_at IS NOT NULL AND v.status = 'FAILED')
        GROUP BY 1
    ) AS f
    ORDER BY f.failures DESC, f.stage
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
               v.duration_s AS video_s,
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
            'get_admin_user_detail',
            'get_admin_processing_latency',
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
