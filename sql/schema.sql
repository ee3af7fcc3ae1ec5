-- What the migrations make together, as pg_dump writes it; rights are heimdex_role_rights'. For readers: nothing runs
-- this file, and a test holds it true. `make schema` writes it again.

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';

CREATE TYPE public.video_status AS ENUM (
    'PENDING',
    'PROCESSING',
    'READY',
    'FAILED'
);

CREATE FUNCTION public.get_admin_failures_by_stage(p_days_back integer DEFAULT 30) RETURNS TABLE(processing_stage text, failure_count bigint, failure_pct double precision)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
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
$_$;

CREATE FUNCTION public.get_admin_overview_metrics() RETURNS TABLE(videos_ready_total bigint, videos_failed_total bigint, videos_total bigint, failure_rate_pct double precision, hours_ready_total double precision, searches_7d bigint, avg_search_latency_ms_7d double precision, searches_30d bigint, avg_search_latency_ms_30d double precision)
    LANGUAGE sql STABLE
    SET search_path TO ''
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

CREATE FUNCTION public.get_admin_processing_latency(p_days_back integer DEFAULT 30) RETURNS TABLE(videos_measured bigint, avg_processing_ms double precision, p50_processing_ms double precision, p95_processing_ms double precision, p99_processing_ms double precision, avg_queue_ms double precision, avg_total_ms double precision)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
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
$_$;

CREATE FUNCTION public.get_admin_queue_analysis(p_days_back integer DEFAULT 30) RETURNS TABLE(videos_measured bigint, avg_queue_time_s double precision, avg_processing_time_s double precision, avg_total_time_s double precision, queue_time_pct double precision, processing_time_pct double precision)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
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
$_$;

CREATE FUNCTION public.get_admin_rtf_distribution(p_days_back integer DEFAULT 30) RETURNS TABLE(videos_measured bigint, avg_rtf double precision, p50_rtf double precision, p95_rtf double precision, p99_rtf double precision, avg_video_duration_s double precision, avg_processing_duration_s double precision)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
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
$_$;

CREATE FUNCTION public.get_admin_throughput_timeseries_v2(p_days_back integer DEFAULT 30) RETURNS TABLE(day date, videos_ready bigint, videos_failed bigint, hours_ready double precision, avg_processing_s double precision, avg_rtf double precision)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
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
$_$;

CREATE FUNCTION public.get_admin_user_detail(target_user_id uuid, days_back integer DEFAULT 7) RETURNS TABLE(user_id uuid, full_name text, videos_total bigint, videos_ready bigint, hours_ready double precision, last_activity timestamp with time zone, searches_7d bigint, avg_latency_ms_7d double precision, recent_videos jsonb, recent_searches jsonb)
    LANGUAGE sql STABLE
    SET search_path TO ''
    SET "TimeZone" TO 'UTC'
    AS $_$
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
$_$;

CREATE FUNCTION public.get_admin_users_list(days_back integer DEFAULT 7, limit_count integer DEFAULT 50, offset_count integer DEFAULT 0, sort_column text DEFAULT 'last_activity'::text) RETURNS TABLE(user_id uuid, full_name text, videos_total bigint, videos_ready bigint, hours_ready double precision, last_activity timestamp with time zone, searches_7d bigint, avg_latency_ms_7d double precision, total_users bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
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

CREATE FUNCTION public.get_search_timeseries(days_back integer DEFAULT 30) RETURNS TABLE(day date, searches bigint, avg_latency_ms double precision)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
    SELECT (q.created_at AT TIME ZONE 'UTC')::date, count(*), avg(public.heimdex_plausible_ms(q.latency_ms))
    FROM public.search_queries AS q
    WHERE q.created_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    GROUP BY 1
    ORDER BY 1
$_$;

CREATE FUNCTION public.get_throughput_timeseries(days_back integer DEFAULT 30) RETURNS TABLE(day date, videos_ready bigint, hours_ready double precision)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
    SELECT (v.updated_at AT TIME ZONE 'UTC')::date, count(*),
           coalesce(sum(public.heimdex_plausible_seconds(v.duration_s)), 0) / 3600
    FROM public.videos AS v
    WHERE v.status = 'READY'
      AND v.updated_at BETWEEN now() - make_interval(hours => 24 * $1) AND now()
    GROUP BY 1
    ORDER BY 1
$_$;

CREATE FUNCTION public.heimdex_check_lease() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    RAISE EXCEPTION '% ends leases, and changes none', current_user USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE FUNCTION public.heimdex_check_ledger() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    IF OLD.outcome = 'running' AND NEW.outcome = 'lost' AND NEW.error_type = 'Cancelled' AND NEW.run_ms = 0 THEN
        NEW.finished_at := greatest(pg_catalog.clock_timestamp(), OLD.ready_at);
        NEW.wait_ms := extract(epoch FROM NEW.finished_at - OLD.ready_at) * 1000;
        RETURN NEW;
    ELSIF NEW.error_message IS NULL
          AND (NEW.outcome, NEW.finished_at, NEW.wait_ms, NEW.run_ms, NEW.error_type)
              IS NOT DISTINCT FROM (OLD.outcome, OLD.finished_at, OLD.wait_ms, OLD.run_ms, OLD.error_type) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% closes open stage runs of cancelled videos, and changes no other', current_user
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE FUNCTION public.heimdex_check_source() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.origin IN ('http', 'adopted') THEN
            RETURN NEW;
        END IF;
    ELSIF NEW.origin = OLD.origin AND NEW.video_id = OLD.video_id AND NEW.owner_id = OLD.owner_id
          AND (NEW.uri IS NOT DISTINCT FROM OLD.uri OR NEW.uri = '' OR OLD.origin IN ('http', 'adopted')) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% submits with the origins http and adopted only, and keeps the source of others', current_user
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE FUNCTION public.heimdex_clear_forgotten(p_ids uuid[], p_without_file uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
DECLARE
    disabling text[];
    enabling  text[];
    action    text;
    cleared   text;
BEGIN
    -- The triggers that an UPDATE would fire, foreign keys' own excepted.
    SELECT array_agg(format('ALTER TABLE public.videos DISABLE TRIGGER %I', t.tgname)),
           array_agg(format('ALTER TABLE public.videos %s TRIGGER %I',
                            CASE t.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END, t.tgname))
    INTO disabling, enabling
    FROM pg_catalog.pg_trigger AS t
    WHERE t.tgrelid = 'public.videos'::regclass AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
      AND t.tgtype & 16 <> 0;

    -- The columns of an existing Heimdex that tell what was said, shown and where it was.
    SELECT coalesce(string_agg(format(', %I = DEFAULT', a.attname), '' ORDER BY a.attnum), '') INTO cleared
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = 'public.videos'::regclass AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname IN ('full_transcript', 'transcript_segments', 'transcript_language', 'video_summary',
                        'has_rich_semantics', 'thumbnail_url', 'exif_metadata', 'location_latitude',
                        'location_longitude', 'location_name', 'camera_make', 'camera_model');

    FOREACH action IN ARRAY coalesce(disabling, '{}') LOOP
        EXECUTE action;
    END LOOP;
    EXECUTE 'UPDATE public.videos AS v '
            'SET storage_path = CASE WHEN v.id = ANY ($2) THEN '''' ELSE v.storage_path END, '
            'filename = ''forgotten'', error_message = NULL' || cleared ||
            ' FROM public.video_processing AS p '
            'WHERE v.id = ANY ($1) AND p.video_id = v.id AND p.forgotten_at IS NOT NULL'
        USING p_ids, p_without_file;
    FOREACH action IN ARRAY coalesce(enabling, '{}') LOOP
        EXECUTE action;
    END LOOP;
END
$_$;

CREATE FUNCTION public.heimdex_grant_roles(p_only text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    item       record;
    action     text;
    base       CONSTANT text[] := ARRAY['user_profiles', 'videos', 'video_scenes', 'search_queries'];
    ours_alone CONSTANT boolean := EXISTS (
        SELECT FROM pg_catalog.pg_constraint
        WHERE conrelid = to_regclass('public.videos') AND conname = 'videos_duration_s_check');
    me         oid;
    superuser  boolean;
BEGIN
    SELECT r.oid, r.rolsuper INTO me, superuser FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user;
    IF p_only IS NULL THEN
        FOR item IN
            SELECT r.rolname AS role, n.nspname AS schema,
                   CASE WHEN r.rolname = 'heimdex_migrate' AND n.nspname = 'public' THEN 'CREATE' ELSE 'USAGE' END AS rights
            FROM pg_catalog.pg_roles AS r
            CROSS JOIN pg_catalog.pg_namespace AS n
            WHERE r.rolname IN ('heimdex_migrate', 'heimdex_worker', 'heimdex_api', 'heimdex_reader')
              AND (n.nspname = 'public'
                   OR n.oid = (SELECT x.extnamespace FROM pg_catalog.pg_extension AS x WHERE x.extname = 'vector'))
        LOOP
            BEGIN
                IF NOT pg_catalog.has_schema_privilege(item.role, item.schema, 'USAGE')
                   OR NOT pg_catalog.has_schema_privilege(item.role, item.schema, item.rights) THEN
                    EXECUTE format('GRANT USAGE, %s ON SCHEMA %I TO %I', item.rights, item.schema, item.role);
                END IF;
            EXCEPTION WHEN insufficient_privilege THEN
                RAISE NOTICE 'no rights on schema % for %: %', item.schema, item.role, SQLERRM;
            END;
        END LOOP;
    END IF;

    -- The owner. A role that is no superuser hands its objects over only to a role whose member it is.
    IF p_only IS NULL AND current_user <> 'heimdex_migrate'
       AND EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'heimdex_migrate') THEN
        BEGIN
            IF ours_alone THEN
                IF NOT superuser AND NOT pg_catalog.pg_has_role(current_user, 'heimdex_migrate', 'USAGE') THEN
                    EXECUTE format('GRANT heimdex_migrate TO %I', current_user);
                END IF;
                -- Gathered first: a table that a query is reading cannot be altered.
                FOREACH action IN ARRAY ARRAY(
                    SELECT format('ALTER %s %s OWNER TO heimdex_migrate',
                                  CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass)
                    FROM pg_catalog.pg_class AS c
                    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND c.relowner = me
                      AND (c.relname IN (SELECT r.object FROM public.heimdex_role_rights AS r)
                           OR c.relname IN (SELECT t.relation FROM public.scene_vector_tables AS t))
                      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d  -- an identity's goes with its table
                                      WHERE d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::regclass
                                        AND d.deptype IN ('a', 'i') AND c.relkind = 'S')
                    UNION ALL
                    SELECT format('ALTER FUNCTION %s OWNER TO heimdex_migrate', p.oid::regprocedure)
                    FROM pg_catalog.pg_proc AS p
                    WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = me
                      AND p.proname || '()' IN (SELECT r.object FROM public.heimdex_role_rights AS r)
                    UNION ALL
                    SELECT format('ALTER TYPE %s OWNER TO heimdex_migrate', t.oid::regtype)
                    FROM pg_catalog.pg_type AS t
                    WHERE t.typnamespace = 'public'::regnamespace AND t.typname = 'video_status' AND t.typowner = me
                ) LOOP
                    EXECUTE action;
                END LOOP;
            ELSIF NOT superuser AND NOT pg_catalog.pg_has_role('heimdex_migrate', current_user, 'USAGE') THEN
                EXECUTE format('GRANT %I TO heimdex_migrate', current_user);
            END IF;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE NOTICE 'heimdex_migrate does not become the owner: %', SQLERRM;
        END;
    END IF;

    FOR item IN
        SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name,
               g.role, g.list, c.relrowsecurity AND c.relname = ANY (base) AS hides, c.oid AS relation
        FROM pg_catalog.pg_class AS c
        LEFT JOIN public.scene_vector_tables AS t ON t.relation = c.relname AND c.relname LIKE 'scene\_vectors\_%'
        JOIN public.heimdex_role_rights AS r
          ON r.object = CASE WHEN t.relation IS NULL THEN c.relname ELSE 'scene_embeddings' END
        CROSS JOIN LATERAL (VALUES ('heimdex_worker', r.worker), ('heimdex_api', r.api), ('heimdex_reader', r.reader))
                   AS g (role, list)
        JOIN pg_catalog.pg_roles AS known ON known.rolname = g.role
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S')
          AND (p_only IS NULL OR c.relname = p_only)
        UNION ALL
        SELECT 'FUNCTION', p.oid::regprocedure::text, g.role, g.list, false, NULL
        FROM pg_catalog.pg_proc AS p
        JOIN public.heimdex_role_rights AS r ON r.object = p.proname || '()'
        CROSS JOIN LATERAL (VALUES ('heimdex_worker', r.worker), ('heimdex_api', r.api), ('heimdex_reader', r.reader))
                   AS g (role, list)
        JOIN pg_catalog.pg_roles AS known ON known.rolname = g.role
        WHERE p.pronamespace = 'public'::regnamespace AND p_only IS NULL
    LOOP
        BEGIN
            EXECUTE format('REVOKE ALL ON %s %s FROM %I', item.kind, item.name, item.role);
            IF item.list <> '' THEN
                EXECUTE format('GRANT %s ON %s %s TO %I', item.list, item.kind, item.name, item.role);
            END IF;
            IF item.hides AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy AS y
                                          WHERE y.polrelid = item.relation AND y.polname = item.role) THEN
                EXECUTE format('CREATE POLICY %I ON %s TO %I USING (true) WITH CHECK (true)',
                               item.role, item.name, item.role);
            END IF;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE NOTICE 'no rights on % for %: %', item.name, item.role, SQLERRM;
        END;
    END LOOP;
END
$$;

CREATE FUNCTION public.heimdex_keep_audit_log() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < pg_catalog.clock_timestamp() - interval '30 days' THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'rows of audit_log are never changed, and deleted after 30 days at the earliest';
END
$$;

CREATE FUNCTION public.heimdex_plausible_ms(anyelement) RETURNS double precision
    LANGUAGE sql IMMUTABLE
    AS $_$
    SELECT CASE WHEN $1 BETWEEN 0 AND 2073600000 THEN $1::double precision END
$_$;

CREATE FUNCTION public.heimdex_plausible_seconds(anyelement) RETURNS double precision
    LANGUAGE sql IMMUTABLE
    AS $_$
    SELECT CASE WHEN $1 BETWEEN 0.000000001 AND 10000000 THEN $1::double precision END
$_$;

CREATE FUNCTION public.heimdex_plausible_time(timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $_$
    SELECT CASE WHEN $1 BETWEEN 'epoch'::timestamptz AND now() + interval '24 hours' THEN $1 END
$_$;

CREATE FUNCTION public.heimdex_text_index(p_text text, p_configuration regconfig) RETURNS tsvector
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
DECLARE
    letters integer := length(p_text);
BEGIN
    LOOP
        BEGIN
            RETURN to_tsvector('simple', left(p_text, letters)) || to_tsvector(p_configuration, left(p_text, letters));
        EXCEPTION WHEN program_limit_exceeded THEN
            letters := letters / 2;
        END;
    END LOOP;
END
$$;

CREATE FUNCTION public.heimdex_user_activity(days_back integer, target_user_id uuid) RETURNS TABLE(user_id uuid, full_name text, videos_total bigint, videos_ready bigint, hours_ready double precision, last_activity timestamp with time zone, searches_7d bigint, avg_latency_ms_7d double precision)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
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
$_$;

CREATE FUNCTION public.heimdex_users_total() RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO ''
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

CREATE FUNCTION public.heimdex_vector_table(p_space text, p_model text, p_dimensions integer) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
DECLARE
    known      record;
    vectors    text;
    extensions text;
    kind       text := CASE WHEN p_dimensions <= 2000 THEN 'vector' ELSE 'halfvec' END;
    outsider   text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('heimdex.scene_vector_tables'));
    SELECT t.relation, t.dimensions INTO known FROM public.scene_vector_tables AS t
    WHERE t.space = p_space AND t.model = p_model;
    IF FOUND AND known.dimensions = p_dimensions THEN
        RETURN known.relation;
    ELSIF FOUND THEN
        RAISE EXCEPTION 'the vectors of % have % numbers, not %', p_model, known.dimensions, p_dimensions
            USING ERRCODE = 'data_exception';
    ELSIF session_user = 'heimdex_api'
          AND EXISTS (SELECT FROM public.scene_vector_tables AS t WHERE t.space = p_space) THEN
        RAISE EXCEPTION '% has the table of the first % model made, and none of others', session_user, p_space
            USING ERRCODE = 'insufficient_privilege';
    END IF;

    vectors := CASE
        WHEN p_space = 'picture' AND p_dimensions = 512 THEN 'scene_embeddings'
        WHEN p_space = 'meaning' AND p_dimensions = 384 THEN 'scene_meanings'
    END;
    IF vectors IS NULL OR to_regclass('public.' || vectors) IS NULL
       OR EXISTS (SELECT FROM public.scene_vector_tables AS t WHERE t.relation = vectors) THEN
        vectors := 'scene_vectors_' || substr(encode(sha256(convert_to(p_space || ':' || p_model, 'UTF8')), 'hex'), 1, 12);
        SELECT n.nspname INTO STRICT extensions FROM pg_catalog.pg_extension AS x
        JOIN pg_catalog.pg_namespace AS n ON n.oid = x.extnamespace WHERE x.extname = 'vector';
        EXECUTE format(
            'CREATE TABLE public.%I (scene_id uuid PRIMARY KEY REFERENCES public.video_scenes (id) ON DELETE CASCADE, '
            'embedding %I.%I(%s) NOT NULL)', vectors, extensions, kind, p_dimensions);
        EXECUTE format('COMMENT ON TABLE public.%I IS %L', vectors, p_space || ' vectors of ' || p_model);
        IF p_dimensions <= 4000 THEN
            EXECUTE format('CREATE INDEX %I ON public.%I USING hnsw (embedding %I.%I)',
                           'idx_' || vectors || '_cosine', vectors, extensions, kind || '_cosine_ops');
        END IF;
        FOR outsider IN SELECT r.rolname FROM pg_catalog.pg_roles AS r WHERE r.rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON TABLE public.%I FROM %I', vectors, outsider);
        END LOOP;
    END IF;
    INSERT INTO public.scene_vector_tables (space, model, dimensions, relation)
    VALUES (p_space, p_model, p_dimensions, vectors);
    PERFORM public.heimdex_grant_roles(vectors);
    RETURN vectors;
END
$$;

CREATE TABLE public.audit_log (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    actor_kind text NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    object_kind text NOT NULL,
    object text NOT NULL,
    details jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT audit_log_actor_kind_check CHECK ((actor_kind = ANY (ARRAY['owner'::text, 'admin'::text, 'command'::text]))),
    CONSTRAINT audit_log_details_check CHECK ((jsonb_typeof(details) = 'object'::text))
);

ALTER TABLE public.audit_log ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.cluster_workers (
    worker text NOT NULL,
    scheduler text NOT NULL,
    kind text NOT NULL,
    node text NOT NULL,
    device text NOT NULL,
    model text,
    state text NOT NULL,
    busy_s double precision DEFAULT 0 NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    peak_memory_bytes bigint,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    trouble text,
    recent_busy_s double precision,
    recent_s double precision,
    CONSTRAINT cluster_workers_state_check CHECK ((state = ANY (ARRAY['starting'::text, 'idle'::text, 'busy'::text])))
)
WITH (fillfactor='50');

CREATE TABLE public.embedding_jobs (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    state text DEFAULT 'requested'::text NOT NULL,
    requested_by uuid NOT NULL,
    requested_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone,
    seen_at timestamp with time zone,
    finished_at timestamp with time zone,
    progress text,
    error_message text,
    scenes_embedded integer,
    scenes_failed integer,
    scenes_lacking integer,
    CONSTRAINT embedding_jobs_state_check CHECK ((state = ANY (ARRAY['requested'::text, 'running'::text, 'completed'::text, 'failed'::text, 'lost'::text])))
);

CREATE TABLE public.forgotten_pictures (
    video_id uuid NOT NULL,
    due_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    removals integer DEFAULT 0 NOT NULL
);

CREATE TABLE public.heimdex_migrations (
    number integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.heimdex_role_rights (
    object text NOT NULL,
    worker text DEFAULT ''::text NOT NULL,
    api text DEFAULT ''::text NOT NULL,
    reader text DEFAULT ''::text NOT NULL
);

CREATE TABLE public.owner_requests (
    id bigint NOT NULL,
    owner_id uuid NOT NULL,
    video_id uuid NOT NULL,
    kind text NOT NULL,
    exempt boolean DEFAULT false NOT NULL,
    requested_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    duration_s double precision,
    size_bytes bigint,
    CONSTRAINT owner_requests_duration_s_check CHECK ((duration_s >= (0)::double precision)),
    CONSTRAINT owner_requests_kind_check CHECK ((kind = ANY (ARRAY['submission'::text, 'retry'::text, 'reprocessing'::text]))),
    CONSTRAINT owner_requests_size_bytes_check CHECK ((size_bytes >= 0))
);

ALTER TABLE public.owner_requests ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.owner_requests_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.scene_embeddings (
    scene_id uuid NOT NULL,
    model text NOT NULL,
    embedding public.vector(512) NOT NULL
);

CREATE TABLE public.scene_meanings (
    scene_id uuid NOT NULL,
    model text NOT NULL,
    embedding public.vector(384) NOT NULL
);

CREATE TABLE public.scene_vector_tables (
    space text NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL,
    relation text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT scene_vector_tables_dimensions_check CHECK (((dimensions >= 1) AND (dimensions <= 16000))),
    CONSTRAINT scene_vector_tables_space_check CHECK ((space = ANY (ARRAY['meaning'::text, 'picture'::text])))
);

COMMENT ON COLUMN public.scene_vector_tables.relation IS 'Name of the table in schema public';

CREATE TABLE public.search_changes (
    video_id uuid NOT NULL,
    version bigint NOT NULL,
    indexed_version bigint DEFAULT 0 NOT NULL,
    most_scenes integer NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    due_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    refused text,
    CONSTRAINT search_changes_most_scenes_check CHECK (((most_scenes >= 0) AND (most_scenes <= 100000)))
);

COMMENT ON COLUMN public.search_changes.most_scenes IS 'How many scenes the video had at most: documents of the others are to go';

COMMENT ON COLUMN public.search_changes.due_at IS 'When somebody else may bring it in line than who made the change';

COMMENT ON COLUMN public.search_changes.refused IS 'Why the engine will not have a document of this version; tried no more';

CREATE TABLE public.search_indexes (
    name text NOT NULL,
    alias text NOT NULL,
    vision_model text NOT NULL,
    text_model text NOT NULL,
    state text NOT NULL,
    copied bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT search_indexes_state_check CHECK ((state = ANY (ARRAY['building'::text, 'live'::text, 'retired'::text])))
);

CREATE TABLE public.search_models (
    space text NOT NULL,
    model text NOT NULL,
    name text NOT NULL,
    pretrained text,
    state text NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT search_models_space_check CHECK ((space = ANY (ARRAY['meaning'::text, 'picture'::text]))),
    CONSTRAINT search_models_state_check CHECK ((state = ANY (ARRAY['active'::text, 'filling'::text, 'previous'::text])))
);

CREATE TABLE public.search_queries (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    video_id uuid,
    query_text text NOT NULL,
    results_count integer,
    latency_ms integer,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT search_queries_latency_ms_check CHECK ((latency_ms >= 0)),
    CONSTRAINT search_queries_results_count_check CHECK ((results_count >= 0))
);

CREATE SEQUENCE public.search_versions
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.search_vocabulary (
    owner_id uuid NOT NULL,
    word text NOT NULL,
    trigrams text[] NOT NULL
);

CREATE TABLE public.user_profiles (
    user_id uuid NOT NULL,
    full_name text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE SEQUENCE public.video_lease_tokens
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.video_leases (
    video_id uuid NOT NULL,
    lease_token bigint NOT NULL,
    scheduler text NOT NULL,
    expires_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.video_owners (
    owner_id uuid NOT NULL
);

CREATE TABLE public.video_processing (
    video_id uuid NOT NULL,
    owner_id uuid NOT NULL,
    available_at timestamp with time zone,
    due_at timestamp with time zone,
    priority smallint DEFAULT 0 NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    crashes integer DEFAULT 0 NOT NULL,
    interruptions integer DEFAULT 0 NOT NULL,
    language text,
    error_type text,
    file_size_bytes bigint,
    width integer,
    height integer,
    fps double precision,
    cancelled_at timestamp with time zone,
    forgotten_at timestamp with time zone,
    warnings jsonb DEFAULT '[]'::jsonb NOT NULL,
    postponed_s double precision DEFAULT 0 NOT NULL,
    uri text,
    origin text DEFAULT 'adopted'::text NOT NULL,
    batch text,
    metadata jsonb,
    content_mark text,
    CONSTRAINT video_processing_batch_check CHECK (((length(batch) >= 1) AND (length(batch) <= 100))),
    CONSTRAINT video_processing_check CHECK (((available_at IS NULL) OR (due_at IS NOT NULL))),
    CONSTRAINT video_processing_check1 CHECK (((available_at IS NULL) OR (cancelled_at IS NULL))),
    CONSTRAINT video_processing_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT video_processing_origin_check CHECK ((origin = ANY (ARRAY['http'::text, 'command'::text, 'manifest'::text, 'adopted'::text]))),
    CONSTRAINT video_processing_warnings_check CHECK ((jsonb_typeof(warnings) = 'array'::text))
);

CREATE TABLE public.video_scenes (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    video_id uuid NOT NULL,
    index integer NOT NULL,
    start_s double precision NOT NULL,
    end_s double precision NOT NULL,
    transcript_segment text,
    visual_summary text,
    combined_text text,
    thumbnail_url text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    tags text[],
    key_frame_s double precision,
    key_frame_url text,
    speech_model text,
    text_index tsvector,
    CONSTRAINT video_scenes_check CHECK ((end_s >= start_s)),
    CONSTRAINT video_scenes_index_check CHECK ((index >= 0)),
    CONSTRAINT video_scenes_start_s_check CHECK ((start_s >= (0)::double precision))
);

CREATE TABLE public.video_stage_results (
    video_id uuid NOT NULL,
    stage text NOT NULL,
    result jsonb,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT video_stage_results_stage_check CHECK ((stage = ANY (ARRAY['transcription'::text, 'indexing'::text])))
);

CREATE TABLE public.video_stage_runs (
    video_id uuid NOT NULL,
    attempt integer NOT NULL,
    stage text NOT NULL,
    outcome text DEFAULT 'running'::text NOT NULL,
    ready_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    wait_ms double precision,
    run_ms double precision,
    error_type text,
    error_message text,
    node text,
    worker text,
    device text,
    resource_s double precision,
    batch_size integer,
    CONSTRAINT video_stage_runs_attempt_check CHECK ((attempt >= 1)),
    CONSTRAINT video_stage_runs_batch_size_check CHECK ((batch_size >= 1)),
    CONSTRAINT video_stage_runs_check CHECK ((started_at >= ready_at)),
    CONSTRAINT video_stage_runs_check1 CHECK ((finished_at >= ready_at)),
    CONSTRAINT video_stage_runs_check2 CHECK ((finished_at >= started_at)),
    CONSTRAINT video_stage_runs_check3 CHECK (((outcome = 'running'::text) = (finished_at IS NULL))),
    CONSTRAINT video_stage_runs_check4 CHECK (((outcome <> ALL (ARRAY['failed'::text, 'lost'::text])) OR (error_type IS NOT NULL))),
    CONSTRAINT video_stage_runs_outcome_check CHECK ((outcome = ANY (ARRAY['running'::text, 'completed'::text, 'failed'::text, 'skipped'::text, 'lost'::text]))),
    CONSTRAINT video_stage_runs_resource_s_check CHECK ((resource_s >= (0)::double precision)),
    CONSTRAINT video_stage_runs_run_ms_check CHECK ((run_ms >= (0)::double precision)),
    CONSTRAINT video_stage_runs_stage_check CHECK ((stage = ANY (ARRAY['downloading'::text, 'metadata'::text, 'transcription'::text, 'scene_detection'::text, 'scene_processing'::text, 'indexing'::text, 'finalizing'::text]))),
    CONSTRAINT video_stage_runs_wait_ms_check CHECK ((wait_ms >= (0)::double precision))
);

CREATE TABLE public.video_transcripts (
    video_id uuid NOT NULL,
    language text,
    model text NOT NULL,
    word_count integer NOT NULL,
    segments jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT video_transcripts_word_count_check CHECK ((word_count >= 0))
);

CREATE TABLE public.videos (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    owner_id uuid NOT NULL,
    storage_path text NOT NULL,
    filename text,
    status public.video_status DEFAULT 'PENDING'::public.video_status NOT NULL,
    duration_s double precision,
    error_message text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    queued_at timestamp with time zone,
    processing_started_at timestamp with time zone,
    processing_finished_at timestamp with time zone,
    processing_duration_ms integer,
    processing_stage text,
    CONSTRAINT videos_duration_s_check CHECK (((duration_s >= (0)::double precision) AND (duration_s < 'Infinity'::double precision)))
);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.cluster_workers
    ADD CONSTRAINT cluster_workers_pkey PRIMARY KEY (worker);

ALTER TABLE ONLY public.embedding_jobs
    ADD CONSTRAINT embedding_jobs_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.forgotten_pictures
    ADD CONSTRAINT forgotten_pictures_pkey PRIMARY KEY (video_id);

ALTER TABLE ONLY public.heimdex_migrations
    ADD CONSTRAINT heimdex_migrations_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.heimdex_role_rights
    ADD CONSTRAINT heimdex_role_rights_pkey PRIMARY KEY (object);

ALTER TABLE ONLY public.owner_requests
    ADD CONSTRAINT owner_requests_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.scene_embeddings
    ADD CONSTRAINT scene_embeddings_pkey PRIMARY KEY (scene_id, model);

ALTER TABLE ONLY public.scene_meanings
    ADD CONSTRAINT scene_meanings_pkey PRIMARY KEY (scene_id, model);

ALTER TABLE ONLY public.scene_vector_tables
    ADD CONSTRAINT scene_vector_tables_pkey PRIMARY KEY (space, model);

ALTER TABLE ONLY public.search_changes
    ADD CONSTRAINT search_changes_pkey PRIMARY KEY (video_id);

ALTER TABLE ONLY public.search_indexes
    ADD CONSTRAINT search_indexes_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.search_models
    ADD CONSTRAINT search_models_pkey PRIMARY KEY (space, model);

ALTER TABLE ONLY public.search_queries
    ADD CONSTRAINT search_queries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.search_vocabulary
    ADD CONSTRAINT search_vocabulary_pkey PRIMARY KEY (owner_id, word);

ALTER TABLE ONLY public.user_profiles
    ADD CONSTRAINT user_profiles_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.video_leases
    ADD CONSTRAINT video_leases_lease_token_key UNIQUE (lease_token);

ALTER TABLE ONLY public.video_leases
    ADD CONSTRAINT video_leases_pkey PRIMARY KEY (video_id);

ALTER TABLE ONLY public.video_owners
    ADD CONSTRAINT video_owners_pkey PRIMARY KEY (owner_id);

ALTER TABLE ONLY public.video_processing
    ADD CONSTRAINT video_processing_pkey PRIMARY KEY (video_id);

ALTER TABLE ONLY public.video_scenes
    ADD CONSTRAINT video_scenes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.video_scenes
    ADD CONSTRAINT video_scenes_video_id_index_key UNIQUE (video_id, index);

ALTER TABLE ONLY public.video_stage_results
    ADD CONSTRAINT video_stage_results_pkey PRIMARY KEY (video_id, stage);

ALTER TABLE ONLY public.video_stage_runs
    ADD CONSTRAINT video_stage_runs_pkey PRIMARY KEY (video_id, attempt, stage);

ALTER TABLE ONLY public.video_transcripts
    ADD CONSTRAINT video_transcripts_pkey PRIMARY KEY (video_id);

ALTER TABLE ONLY public.videos
    ADD CONSTRAINT videos_pkey PRIMARY KEY (id);

CREATE INDEX idx_audit_log_object ON public.audit_log USING btree (object, id);

CREATE INDEX idx_embedding_jobs_latest ON public.embedding_jobs USING btree (requested_at DESC);

CREATE UNIQUE INDEX idx_embedding_jobs_open ON public.embedding_jobs USING btree ((true)) WHERE (state = ANY (ARRAY['requested'::text, 'running'::text]));

CREATE INDEX idx_owner_requests_owner ON public.owner_requests USING btree (owner_id, requested_at) WHERE (NOT exempt);

CREATE INDEX idx_owner_requests_video ON public.owner_requests USING btree (video_id, id);

CREATE INDEX idx_scene_embeddings_cosine ON public.scene_embeddings USING hnsw (embedding public.vector_cosine_ops);

CREATE INDEX idx_scene_embeddings_model ON public.scene_embeddings USING btree (model);

CREATE INDEX idx_scene_meanings_cosine ON public.scene_meanings USING hnsw (embedding public.vector_cosine_ops);

CREATE INDEX idx_scene_meanings_model ON public.scene_meanings USING btree (model);

CREATE INDEX idx_scene_vector_tables_relation ON public.scene_vector_tables USING btree (relation);

CREATE INDEX idx_search_changes_pending ON public.search_changes USING btree (due_at) WHERE (version <> indexed_version);

CREATE UNIQUE INDEX idx_search_models_active ON public.search_models USING btree (space) WHERE (state = 'active'::text);

CREATE UNIQUE INDEX idx_search_models_filling ON public.search_models USING btree (space) WHERE (state = 'filling'::text);

CREATE UNIQUE INDEX idx_search_models_previous ON public.search_models USING btree (space) WHERE (state = 'previous'::text);

CREATE INDEX idx_search_queries_created_at ON public.search_queries USING btree (created_at);

CREATE INDEX idx_search_queries_of_video ON public.search_queries USING btree (video_id) WHERE (video_id IS NOT NULL);

CREATE INDEX idx_search_queries_user_id ON public.search_queries USING btree (user_id, created_at);

CREATE INDEX idx_search_vocabulary_trigrams ON public.search_vocabulary USING gin (trigrams);

CREATE INDEX idx_video_processing_batch ON public.video_processing USING btree (batch) WHERE (batch IS NOT NULL);

CREATE INDEX idx_video_processing_cancelled ON public.video_processing USING btree (video_id) WHERE (cancelled_at IS NOT NULL);

CREATE INDEX idx_video_processing_content ON public.video_processing USING btree (content_mark) WHERE (content_mark IS NOT NULL);

CREATE INDEX idx_video_processing_due ON public.video_processing USING btree (owner_id, due_at, video_id) WHERE (available_at IS NOT NULL);

CREATE INDEX idx_video_processing_urgent ON public.video_processing USING btree (owner_id, priority DESC, due_at, video_id) WHERE ((available_at IS NOT NULL) AND (priority > 0));

CREATE INDEX idx_video_scenes_tags ON public.video_scenes USING gin (tags);

CREATE INDEX idx_video_scenes_text_index ON public.video_scenes USING gin (text_index);

CREATE INDEX idx_video_stage_runs_finished_at ON public.video_stage_runs USING btree (finished_at, stage) WHERE (finished_at IS NOT NULL);

CREATE INDEX idx_video_stage_runs_open ON public.video_stage_runs USING btree (video_id) WHERE (outcome = 'running'::text);

CREATE INDEX idx_videos_owner_id ON public.videos USING btree (owner_id, created_at);

CREATE INDEX idx_videos_processing_duration_ms ON public.videos USING btree (processing_duration_ms) WHERE (processing_duration_ms IS NOT NULL);

CREATE INDEX idx_videos_processing_finished_at ON public.videos USING btree (processing_finished_at) WHERE (processing_finished_at IS NOT NULL);

CREATE INDEX idx_videos_processing_stage ON public.videos USING btree (processing_stage) WHERE (status = 'FAILED'::public.video_status);

CREATE INDEX idx_videos_status ON public.videos USING btree (status, updated_at);

CREATE TRIGGER heimdex_check_lease BEFORE UPDATE ON public.video_leases FOR EACH ROW WHEN ((CURRENT_USER = 'heimdex_api'::name)) EXECUTE FUNCTION public.heimdex_check_lease();

CREATE TRIGGER heimdex_check_ledger BEFORE UPDATE ON public.video_stage_runs FOR EACH ROW WHEN ((CURRENT_USER = 'heimdex_api'::name)) EXECUTE FUNCTION public.heimdex_check_ledger();

CREATE TRIGGER heimdex_check_source BEFORE INSERT OR UPDATE OF uri, origin, video_id, owner_id ON public.video_processing FOR EACH ROW WHEN ((CURRENT_USER = 'heimdex_api'::name)) EXECUTE FUNCTION public.heimdex_check_source();

CREATE TRIGGER heimdex_keep_audit_log BEFORE DELETE OR UPDATE ON public.audit_log FOR EACH ROW EXECUTE FUNCTION public.heimdex_keep_audit_log();

CREATE TRIGGER heimdex_keep_whole_audit_log BEFORE TRUNCATE ON public.audit_log FOR EACH STATEMENT EXECUTE FUNCTION public.heimdex_keep_audit_log();

ALTER TABLE ONLY public.scene_embeddings
    ADD CONSTRAINT scene_embeddings_scene_id_fkey FOREIGN KEY (scene_id) REFERENCES public.video_scenes(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.scene_meanings
    ADD CONSTRAINT scene_meanings_scene_id_fkey FOREIGN KEY (scene_id) REFERENCES public.video_scenes(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.search_queries
    ADD CONSTRAINT search_queries_video_id_fkey FOREIGN KEY (video_id) REFERENCES public.videos(id) ON DELETE SET NULL;

ALTER TABLE ONLY public.video_leases
    ADD CONSTRAINT video_leases_video_id_fkey FOREIGN KEY (video_id) REFERENCES public.videos(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.video_processing
    ADD CONSTRAINT video_processing_video_id_fkey FOREIGN KEY (video_id) REFERENCES public.videos(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.video_scenes
    ADD CONSTRAINT video_scenes_video_id_fkey FOREIGN KEY (video_id) REFERENCES public.videos(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.video_stage_results
    ADD CONSTRAINT video_stage_results_video_id_fkey FOREIGN KEY (video_id) REFERENCES public.videos(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.video_stage_runs
    ADD CONSTRAINT video_stage_runs_video_id_fkey FOREIGN KEY (video_id) REFERENCES public.videos(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.video_transcripts
    ADD CONSTRAINT video_transcripts_video_id_fkey FOREIGN KEY (video_id) REFERENCES public.videos(id) ON DELETE CASCADE;
