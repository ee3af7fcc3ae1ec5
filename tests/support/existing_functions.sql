-- The ten admin functions as an existing Heimdex has them, with the faults that ours must not have: run as the owner,
-- also after our migrations, where they take the places of ours.
DROP FUNCTION IF EXISTS public.get_admin_overview_metrics();
CREATE FUNCTION public.get_admin_overview_metrics()
RETURNS TABLE (videos_ready_total bigint, videos_failed_total bigint, videos_total bigint, failure_rate_pct numeric,
               hours_ready_total numeric, searches_7d bigint, avg_search_latency_ms_7d numeric, searches_30d bigint,
               avg_search_latency_ms_30d numeric)
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    RETURN QUERY SELECT count(*) FILTER (WHERE status = 'READY'), count(*) FILTER (WHERE status = 'FAILED'), count(*),
        round(100.0 * count(*) FILTER (WHERE status = 'FAILED') / nullif(count(*), 0), 2), 0.0, 0::bigint,
        NULL::numeric, 0::bigint, NULL::numeric FROM videos;
END $$;

DROP FUNCTION IF EXISTS public.get_throughput_timeseries(integer);
CREATE FUNCTION public.get_throughput_timeseries(days_back integer DEFAULT 30)
RETURNS TABLE (day date, videos_ready bigint, hours_ready numeric) LANGUAGE sql SECURITY DEFINER AS
$$ SELECT updated_at::date, count(*), round(sum(duration_s)::numeric / 3600, 2) FROM videos GROUP BY 1 $$;

DROP FUNCTION IF EXISTS public.get_search_timeseries(integer);
CREATE FUNCTION public.get_search_timeseries(days_back integer DEFAULT 30)
RETURNS TABLE (day date, searches bigint, avg_latency_ms numeric) LANGUAGE sql SECURITY DEFINER AS
$$ SELECT created_at::date, count(*), avg(latency_ms) FROM search_queries GROUP BY 1 $$;

DROP FUNCTION IF EXISTS public.get_admin_users_list(integer, integer, integer, text);
CREATE FUNCTION public.get_admin_users_list(days_back integer DEFAULT 7, limit_count integer DEFAULT 50,
                                            offset_count integer DEFAULT 0, sort_column text DEFAULT 'last_activity')
RETURNS TABLE (user_id uuid, full_name text, videos_total bigint, videos_ready bigint, hours_ready numeric,
               last_activity timestamptz, searches_7d bigint, avg_latency_ms_7d numeric)
LANGUAGE sql SECURITY DEFINER AS $$
    SELECT p.user_id, p.full_name, count(v.id), count(v.id) FILTER (WHERE v.status = 'READY'),
           round(sum(v.duration_s)::numeric / 3600, 2), max(v.updated_at), count(q.id), avg(q.latency_ms)
    FROM user_profiles AS p LEFT JOIN videos AS v ON v.owner_id = p.user_id
    LEFT JOIN search_queries AS q ON q.user_id = p.user_id GROUP BY 1, 2 LIMIT $2 OFFSET $3 $$;

DROP FUNCTION IF EXISTS public.get_admin_user_detail(text, integer);
CREATE FUNCTION public.get_admin_user_detail(target_user_id text, days_back integer DEFAULT 7)
RETURNS TABLE (user_id text, full_name text, videos_total bigint) LANGUAGE sql SECURITY DEFINER AS
$$ SELECT p.user_id::text, p.full_name, count(*) FROM user_profiles AS p JOIN videos AS v ON v.owner_id = p.user_id
   WHERE p.user_id::text = $1 GROUP BY 1, 2 $$;

DROP FUNCTION IF EXISTS public.get_admin_processing_latency(integer);
CREATE FUNCTION public.get_admin_processing_latency(p_days_back integer DEFAULT 30)
RETURNS TABLE (videos_measured bigint, avg_processing_ms numeric, p50_processing_ms numeric, p95_processing_ms numeric,
               p99_processing_ms numeric, avg_queue_ms numeric, avg_total_ms numeric)
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    RETURN QUERY WITH measured AS (SELECT v.* FROM videos AS v WHERE v.processing_duration_ms IS NOT NULL),
        percentiles AS (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY processing_duration_ms) AS p50 FROM measured)
    SELECT count(*), avg(m.processing_duration_ms), p.p50::numeric, p.p50::numeric, p.p50::numeric, 0.0, 0.0
    FROM measured AS m CROSS JOIN percentiles AS p;
END $$;

DROP FUNCTION IF EXISTS public.get_admin_rtf_distribution(integer);
CREATE FUNCTION public.get_admin_rtf_distribution(p_days_back integer DEFAULT 30)
RETURNS TABLE (videos_measured bigint, avg_rtf numeric, p50_rtf numeric, p95_rtf numeric, p99_rtf numeric,
               avg_video_duration_s numeric, avg_processing_duration_s numeric)
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    RETURN QUERY WITH rtf AS (SELECT v.processing_duration_ms / 1000.0 / v.duration_s AS factor FROM videos AS v),
        percentiles AS (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY factor) AS p50 FROM rtf)
    SELECT count(*), avg(r.factor)::numeric, p.p50::numeric, p.p50::numeric, p.p50::numeric, 0.0, 0.0
    FROM rtf AS r CROSS JOIN percentiles AS p;
END $$;

DROP FUNCTION IF EXISTS public.get_admin_queue_analysis(integer);
CREATE FUNCTION public.get_admin_queue_analysis(p_days_back integer DEFAULT 30)
RETURNS TABLE (videos_measured bigint, avg_queue_time_s numeric, avg_processing_time_s numeric,
               avg_total_time_s numeric, queue_time_pct numeric, processing_time_pct numeric)
LANGUAGE sql SECURITY DEFINER AS
$$ SELECT count(*), 0.0, 0.0, 0.0, 0.0, 0.0 FROM videos $$;

DROP FUNCTION IF EXISTS public.get_admin_failures_by_stage(integer);
CREATE FUNCTION public.get_admin_failures_by_stage(p_days_back integer DEFAULT 30)
RETURNS TABLE (processing_stage text, failure_count bigint, failure_pct numeric)
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    RETURN QUERY SELECT processing_stage, count(*), 0.0 FROM videos WHERE status = 'FAILED' GROUP BY processing_stage;
END $$;

DROP FUNCTION IF EXISTS public.get_admin_throughput_timeseries_v2(integer);
CREATE FUNCTION public.get_admin_throughput_timeseries_v2(p_days_back integer DEFAULT 30)
RETURNS TABLE (day date, videos_ready bigint, videos_failed bigint, hours_ready numeric, avg_processing_s numeric,
               avg_rtf numeric) LANGUAGE sql SECURITY DEFINER AS
$$ SELECT processing_finished_at::date, count(*), 0::bigint, 0.0, 0.0, 0.0 FROM videos GROUP BY 1 $$;
