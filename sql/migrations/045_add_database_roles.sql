-- A database role for each kind of process, with the least rights that it needs.
--
-- heimdex_migrate owns what the migrations make; heimdex_worker is for the scheduler, the workers and most commands;
-- heimdex_api for the HTTP endpoints; heimdex_reader reads, for notebooks. They are made without a password, so they
-- can log in once an operator has given them one. Where this session may not make roles, the file goes on without
-- them: `heimdex doctor` says which are missing and how to make them, and the next `heimdex migrate` gives them their
-- rights.
--
-- heimdex_role_rights is the decision for every table, sequence and function of the migrations. A later migration that
-- makes one adds its row there and runs heimdex_grant_roles() at its end.

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['heimdex_migrate', 'heimdex_worker', 'heimdex_api', 'heimdex_reader'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I LOGIN', wanted);
            END IF;
        EXCEPTION
            WHEN insufficient_privilege OR feature_not_supported THEN
                RAISE NOTICE 'the role % cannot be made: %', wanted, SQLERRM;
            WHEN duplicate_object OR unique_violation THEN
                NULL;  -- made at this moment by the migration of another database of the server
        END;
    END LOOP;
END
$$;

-- What each role may do, as GRANT lists it; '' for nothing. A name that ends with () is a function's.
CREATE TABLE IF NOT EXISTS public.heimdex_role_rights (
    object text PRIMARY KEY,
    worker text NOT NULL DEFAULT '',
    api    text NOT NULL DEFAULT '',
    reader text NOT NULL DEFAULT ''
);

INSERT INTO public.heimdex_role_rights (object, worker, api, reader) VALUES
    ('videos', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE', 'SELECT'),
    ('video_scenes', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, DELETE', 'SELECT'),
    ('search_queries', 'SELECT, INSERT', 'SELECT, INSERT, UPDATE', 'SELECT'),
    ('user_profiles', 'SELECT', 'SELECT', 'SELECT'),
    ('video_processing', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE', 'SELECT'),
    ('video_owners', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE', 'SELECT'),
    ('video_stage_runs', 'SELECT, INSERT, UPDATE', 'SELECT, UPDATE', 'SELECT'),
    ('video_stage_results', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, DELETE', 'SELECT'),
    ('video_leases', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, UPDATE, DELETE', 'SELECT'),
    ('video_lease_tokens', 'USAGE', '', ''),
    ('video_transcripts', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, DELETE', 'SELECT'),
    ('cluster_workers', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT', 'SELECT'),
    ('scene_embeddings', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT', 'SELECT'),
    ('scene_meanings', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT', 'SELECT'),
    ('scene_vector_tables', 'SELECT', 'SELECT', 'SELECT'),
    ('search_vocabulary', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, DELETE', 'SELECT'),
    ('search_models', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, INSERT', 'SELECT'),
    ('search_changes', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, UPDATE', 'SELECT'),
    ('search_indexes', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT', 'SELECT'),
    ('search_versions', 'USAGE', 'USAGE', ''),
    ('forgotten_pictures', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, INSERT', 'SELECT'),
    ('embedding_jobs', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE (state, finished_at, error_message)', 'SELECT'),
    ('audit_log', 'SELECT, INSERT, DELETE', 'SELECT, INSERT', 'SELECT'),
    ('audit_log_id_seq', '', '', ''),
    ('owner_requests', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, INSERT', 'SELECT'),
    ('owner_requests_id_seq', '', '', ''),
    ('heimdex_migrations', 'SELECT', 'SELECT', 'SELECT'),
    ('heimdex_role_rights', 'SELECT', 'SELECT', 'SELECT'),
    ('get_admin_overview_metrics()', '', 'EXECUTE', 'EXECUTE'),
    ('get_throughput_timeseries()', '', 'EXECUTE', 'EXECUTE'),
    ('get_search_timeseries()', '', 'EXECUTE', 'EXECUTE'),
    ('get_admin_users_list()', '', 'EXECUTE', 'EXECUTE'),
    ('get_admin_user_detail()', '', 'EXECUTE', 'EXECUTE'),
    ('get_admin_processing_latency()', '', 'EXECUTE', 'EXECUTE'),
    ('get_admin_rtf_distribution()', '', 'EXECUTE', 'EXECUTE'),
    ('get_admin_queue_analysis()', '', 'EXECUTE', 'EXECUTE'),
    ('get_admin_failures_by_stage()', '', 'EXECUTE', 'EXECUTE'),
    ('get_admin_throughput_timeseries_v2()', '', 'EXECUTE', 'EXECUTE'),
    ('heimdex_user_activity()', '', 'EXECUTE', 'EXECUTE'),
    ('heimdex_users_total()', '', 'EXECUTE', 'EXECUTE'),
    ('heimdex_text_index()', 'EXECUTE', '', ''),
    ('heimdex_vector_table()', 'EXECUTE', 'EXECUTE', ''),
    ('heimdex_keep_audit_log()', '', '', ''),
    ('heimdex_grant_roles()', '', '', '')
ON CONFLICT (object) DO UPDATE SET worker = excluded.worker, api = excluded.api, reader = excluded.reader;

-- Gives the roles that exist exactly the rights above, on all objects or on one table; safe to run at any time, by the
-- owner of the tables. What is missing, or owned by somebody else, is left out.
--
-- The objects of a database that is this product's alone become heimdex_migrate's. Where videos is another system's
-- table, everything stays with the role that migrated, and heimdex_migrate becomes a member of it where allowed; rows
-- that row-level security would hide from the roles are opened to them by policies, which concern nobody else.
CREATE OR REPLACE FUNCTION public.heimdex_grant_roles(p_only text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = ''
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

-- As in 033, now with its owner's rights, so that a worker, which may make no tables, has those of its models made.
-- The advisory lock is the same, and so are the names: what an earlier edition made is found again.
CREATE OR REPLACE FUNCTION public.heimdex_vector_table(p_space text, p_model text, p_dimensions integer)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = ''
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

DO $$
DECLARE
    outsider text;
BEGIN
    REVOKE ALL ON TABLE public.heimdex_role_rights FROM PUBLIC;
    REVOKE ALL ON FUNCTION public.heimdex_grant_roles(text) FROM PUBLIC;
    REVOKE ALL ON FUNCTION public.heimdex_vector_table(text, text, integer) FROM PUBLIC;
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE public.heimdex_role_rights FROM %I', outsider);
        EXECUTE format('REVOKE ALL ON FUNCTION public.heimdex_grant_roles(text) FROM %I', outsider);
        EXECUTE format('REVOKE ALL ON FUNCTION public.heimdex_vector_table(text, text, integer) FROM %I', outsider);
    END LOOP;
    -- The service of an existing system is given new tables by default: it reads these decisions, and changes none.
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'service_role') THEN
        REVOKE ALL ON TABLE public.heimdex_role_rights FROM service_role;
        GRANT SELECT ON TABLE public.heimdex_role_rights TO service_role;
        GRANT EXECUTE ON FUNCTION public.heimdex_grant_roles(text) TO service_role;
        GRANT EXECUTE ON FUNCTION public.heimdex_vector_table(text, text, integer) TO service_role;
    END IF;
END
$$;

SELECT public.heimdex_grant_roles();
