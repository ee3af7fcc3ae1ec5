-- Admin metrics, phase 2: from the timing columns of migration 019.
--
-- In every function: a range is [now() - N days, now()], both ends included, a day being 24 hours; days are
-- UTC; percentiles are exact (interpolated between neighbours); averages and percentages are not rounded; a
-- figure that has nothing to be computed from is null. Run with the caller's own rights, so that row-level
-- security holds; every name is qualified, so that no search_path can redirect it.
--
-- Durations are those of READY videos: a failure says nothing about how long the work takes. The queue time
-- of a video is processing_started_at - queued_at; it is unknown when either is, or when it would be
-- negative. Rows whose finish time was copied from updated_at have no durations and so do not count as
-- measured.

-- An older version may have other parameters or another result, which CREATE OR REPLACE cannot change.
DO $$
DECLARE
    old regprocedure;
BEGIN
    FOR old IN
        SELECT p.oid FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'get_admin_processing_latency',
            'get_admin_rtf_distribution',
            'get_admin_queue_analysis',
            'get_admin_failures_by_stage',
            'get_admin_throughput_timeseries_v2')
    LOOP
        EXECUTE format('DROP ROUTINE %s', old);
    END LOOP;
END
$$;

-- Processing time of the READY videos that were measured and finished in the range: always one row.
-- avg_queue_ms and avg_total_ms (queue + processing, video by video) are over those whose queue time is
-- known.
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
               CASE WHEN v.processing_started_at >= v.queued_at
                    THEN extract(epoch FROM v.processing_started_at - v.queued_at) * 1000 END AS queue_ms
        FROM public.videos AS v
        WHERE v.status = 'READY'
          AND v.processing_duration_ms IS NOT NULL
          AND v.processing_finished_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    ) AS m
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
          AND v.processing_duration_ms IS NOT NULL
          AND v.processing_finished_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    ) AS m
$$;

-- Waiting against working, of the READY videos that were measured, whose queue time is known and which
-- finished in the range: always one row. The percentages are shares of the whole time of all of them, and
-- add up to 100.
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
        WHERE v.status = 'READY'
          AND v.processing_duration_ms IS NOT NULL
          AND v.processing_started_at >= v.queued_at
          AND v.processing_finished_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    ) AS m
$$;

-- FAILED videos by the stage that failed ('unknown' where none was recorded), most failures first, equal
-- ones by name. A row without a finish time counts by updated_at. The percentages add up to 100.
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
        GROUP BY 1
    ) AS f
    ORDER BY f.failures DESC, f.stage
$$;

-- What ended on each UTC day, latest day first; days without any are left out. A row without a finish time
-- counts by updated_at. avg_processing_s and avg_rtf are over the READY videos of the day that were
-- measured (avg_rtf: and have a duration > 0).
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
