-- The role of the HTTP endpoints submits by the rules of HTTP alone, and cannot redirect what others submitted.
--
-- heimdex_api has to write video_processing: it submits, retries, cancels and forgets. Without this, a process with its
-- password could queue a video with the origin 'command', whose path may be any file of a node, or replace the URI of
-- one that a command submitted. Only statements of that role are checked.

CREATE OR REPLACE FUNCTION public.heimdex_check_source()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.origin IN ('http', 'adopted') THEN
            RETURN NEW;
        END IF;
    ELSIF NEW.origin = OLD.origin
          AND (NEW.uri IS NOT DISTINCT FROM OLD.uri OR NEW.uri = '' OR OLD.origin IN ('http', 'adopted')) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% submits with the origins http and adopted only, and keeps the source of others', current_user
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE OR REPLACE TRIGGER heimdex_check_source
    BEFORE INSERT OR UPDATE OF uri, origin ON public.video_processing
    FOR EACH ROW WHEN (current_user = 'heimdex_api')
    EXECUTE FUNCTION public.heimdex_check_source();

INSERT INTO public.heimdex_role_rights (object) VALUES ('heimdex_check_source()')
ON CONFLICT (object) DO UPDATE SET worker = '', api = '', reader = '';

DO $$
DECLARE
    outsider text;
BEGIN
    REVOKE ALL ON FUNCTION public.heimdex_check_source() FROM PUBLIC;
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION public.heimdex_check_source() FROM %I', outsider);
    END LOOP;
END
$$;

SELECT public.heimdex_grant_roles();
