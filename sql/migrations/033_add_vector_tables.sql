-- Vectors of any length: a table per model, with its own typed column and its own HNSW index.

-- Which table has the vectors of a model. The tables of 023 and 026 have a column that names the model, since several
-- models could share them; in every other one all rows are of one model.
CREATE TABLE IF NOT EXISTS scene_vector_tables (
    space      text        NOT NULL CHECK (space IN ('meaning', 'picture')),
    model      text        NOT NULL,
    dimensions integer     NOT NULL CHECK (dimensions BETWEEN 1 AND 16000),
    relation   text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (space, model)
);

COMMENT ON COLUMN scene_vector_tables.relation IS 'Name of the table in schema public';

CREATE INDEX IF NOT EXISTS idx_scene_vector_tables_relation ON scene_vector_tables (relation);

-- The models from before: no row of theirs is moved.
INSERT INTO scene_vector_tables (space, model, dimensions, relation)
SELECT 'picture', e.model, 512, 'scene_embeddings' FROM (SELECT DISTINCT model FROM scene_embeddings) AS e
UNION ALL
SELECT 'meaning', m.model, 384, 'scene_meanings' FROM (SELECT DISTINCT model FROM scene_meanings) AS m
ON CONFLICT DO NOTHING;

INSERT INTO scene_vector_tables (space, model, dimensions, relation)
SELECT space, model, CASE space WHEN 'picture' THEN 512 ELSE 384 END,
       CASE space WHEN 'picture' THEN 'scene_embeddings' ELSE 'scene_meanings' END
FROM search_models
ON CONFLICT DO NOTHING;

-- The table of a model's vectors, which is made if there is none. The first model whose vectors fit into the empty table
-- of 023 or 026 has that one. Up to 2,000 numbers are indexed as they are, up to 4,000 in half precision; of longer
-- ones pgvector has no index, so they are compared one by one. Called by a transaction of its own: making a table waits
-- for all who write scenes.
CREATE OR REPLACE FUNCTION public.heimdex_vector_table(p_space text, p_model text, p_dimensions integer)
RETURNS text
LANGUAGE plpgsql
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
    RETURN vectors;
END
$$;

DO $$
DECLARE
    outsider text;
BEGIN
    REVOKE ALL ON FUNCTION public.heimdex_vector_table(text, text, integer) FROM PUBLIC;
    FOR outsider IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE scene_vector_tables FROM %I', outsider);
        EXECUTE format('REVOKE ALL ON FUNCTION public.heimdex_vector_table(text, text, integer) FROM %I', outsider);
    END LOOP;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'service_role') THEN
        GRANT EXECUTE ON FUNCTION public.heimdex_vector_table(text, text, integer) TO service_role;
    END IF;
END
$$;
