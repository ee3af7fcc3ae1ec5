-- Where a submission came from, and the URI that is fetched for it. Both are written when a video is queued, in a table
-- that only this cluster writes: who may change rows of videos decides neither what is queued nor what is read for it.
--
-- origin 'adopted' is the narrowest, and what a row has that says nothing: a file of the owner's folder below the storage
-- root, or what the owner may submit by HTTP. Rows from before get the narrowest origin that they can have had. An
-- absolute path is a command's where nobody but the owner of videos may write there, and else 'http', which reads none.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_attribute
               WHERE attrelid = 'public.video_processing'::regclass AND attname = 'origin' AND NOT attisdropped) THEN
        RETURN;
    END IF;

    ALTER TABLE public.video_processing
        ADD COLUMN uri text,
        ADD COLUMN origin text NOT NULL DEFAULT 'adopted'
            CONSTRAINT video_processing_origin_check CHECK (origin IN ('http', 'command', 'manifest', 'adopted'));

    WITH others AS (
        SELECT EXISTS (
            SELECT FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS granted
            WHERE c.oid = 'public.videos'::regclass AND granted.grantee <> c.relowner
              AND granted.privilege_type IN ('INSERT', 'UPDATE')
            UNION ALL
            SELECT FROM pg_catalog.pg_attribute AS a
            JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid, pg_catalog.aclexplode(a.attacl) AS granted
            WHERE c.oid = 'public.videos'::regclass AND granted.grantee <> c.relowner
              AND granted.privilege_type IN ('INSERT', 'UPDATE')
        ) AS may_write
    )
    UPDATE public.video_processing AS p
    SET uri = v.storage_path,
        origin = CASE WHEN v.storage_path !~ '^/' AND v.storage_path !~ '^[A-Za-z][A-Za-z0-9+.-]*://' THEN 'adopted'
                      WHEN v.storage_path ~* '^(/|file://)' AND NOT others.may_write THEN 'command'
                      ELSE 'http' END
    FROM public.videos AS v, others
    WHERE v.id = p.video_id;
END
$$;

-- What queues a video is this cluster's alone. Default privileges of an existing database give new tables to the role of
-- its services too: it keeps reading, which the figures need.
DO $$
DECLARE
    outsider text;
BEGIN
    REVOKE ALL ON TABLE public.video_processing, public.video_owners FROM PUBLIC;
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE public.video_processing, public.video_owners FROM %I', outsider);
    END LOOP;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'service_role') THEN
        REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER
            ON TABLE public.video_processing, public.video_owners, public.video_leases FROM service_role;
    END IF;
END
$$;
