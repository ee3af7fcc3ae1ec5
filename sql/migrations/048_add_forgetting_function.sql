-- What videos says of forgotten videos is cleared with the rights of the table's owner.
--
-- An existing Heimdex has a trigger that moves updated_at at every UPDATE, and with it the figures. Only the table's
-- owner may disable it, so heimdex_api could forget nothing there. The function clears rows that are marked as
-- forgotten (video_processing.forgotten_at), and no others. Its caller holds the table already: see forgetting.py.

CREATE OR REPLACE FUNCTION public.heimdex_clear_forgotten(p_ids uuid[], p_without_file uuid[])
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = ''
AS $$
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
$$;

INSERT INTO public.heimdex_role_rights (object, api) VALUES ('heimdex_clear_forgotten()', 'EXECUTE')
ON CONFLICT (object) DO UPDATE SET worker = '', api = 'EXECUTE', reader = '';

DO $$
DECLARE
    outsider text;
BEGIN
    REVOKE ALL ON FUNCTION public.heimdex_clear_forgotten(uuid[], uuid[]) FROM PUBLIC;
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION public.heimdex_clear_forgotten(uuid[], uuid[]) FROM %I', outsider);
    END LOOP;
END
$$;

SELECT public.heimdex_grant_roles();
