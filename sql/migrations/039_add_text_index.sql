-- The text index of a scene, of any length. PostgreSQL refuses a tsvector of more than 1 MB, which a long speech in one
-- scene, or what another system stored, can exceed: then as much of its beginning is indexed as fits, by halves.

CREATE OR REPLACE FUNCTION public.heimdex_text_index(p_text text, p_configuration regconfig)
RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE
SET search_path = ''
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

DO $$
DECLARE
    outsider text;
BEGIN
    REVOKE ALL ON FUNCTION public.heimdex_text_index(text, regconfig) FROM PUBLIC;
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION public.heimdex_text_index(text, regconfig) FROM %I', outsider);
    END LOOP;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'service_role') THEN
        GRANT EXECUTE ON FUNCTION public.heimdex_text_index(text, regconfig) TO service_role;
    END IF;
END
$$;
