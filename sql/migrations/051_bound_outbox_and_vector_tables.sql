-- What others write makes no more documents and no more tables than a cluster needs.

-- Users of an existing database may write scenes of any index. A video has documents of the scenes 0 to 99,999 in an
-- index of a search engine: of a larger count, emptying them would fill a process's memory. Counts from
-- before are made those of the scenes that are there (029 counted rows, whose indexes may leave gaps).
UPDATE public.search_changes AS c
SET most_scenes = found.most
FROM (
    SELECT o.video_id, least(100000, greatest(o.most_scenes, max(s.index) + 1)) AS most
    FROM public.search_changes AS o
    LEFT JOIN public.video_scenes AS s ON s.video_id = o.video_id AND s.index BETWEEN 0 AND 99999
    GROUP BY o.video_id
) AS found
WHERE found.video_id = c.video_id AND found.most <> c.most_scenes;

ALTER TABLE public.search_changes DROP CONSTRAINT IF EXISTS search_changes_most_scenes_check;
ALTER TABLE public.search_changes
    ADD CONSTRAINT search_changes_most_scenes_check CHECK (most_scenes BETWEEN 0 AND 100000);

-- As in 045, but the role of the HTTP endpoints has the table of a space's first model made and no more: a process with
-- its password could fill the catalogue with tables. The first one it needs, since a search may come before any video.
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
