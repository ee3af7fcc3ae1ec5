-- The role of the HTTP endpoints moves no row of the queue to another video or owner, and takes no lease.
--
-- heimdex_api updates video_processing and locks video_leases for update, for which PostgreSQL wants the right to update.
-- Without this, a process with its password could move the row of a video that a command submitted to another video and
-- put one of its own in its place, or turn a lease into one of a waiting video that never ends. Only statements of that
-- role are checked.

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
    ELSIF NEW.origin = OLD.origin AND NEW.video_id = OLD.video_id AND NEW.owner_id = OLD.owner_id
          AND (NEW.uri IS NOT DISTINCT FROM OLD.uri OR NEW.uri = '' OR OLD.origin IN ('http', 'adopted')) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% submits with the origins http and adopted only, and keeps the source of others', current_user
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE OR REPLACE TRIGGER heimdex_check_source
    BEFORE INSERT OR UPDATE OF uri, origin, video_id, owner_id ON public.video_processing
    FOR EACH ROW WHEN (current_user = 'heimdex_api')
    EXECUTE FUNCTION public.heimdex_check_source();

CREATE OR REPLACE FUNCTION public.heimdex_check_lease()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
AS $$
BEGIN
    RAISE EXCEPTION '% ends leases, and changes none', current_user USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE OR REPLACE TRIGGER heimdex_check_lease
    BEFORE UPDATE ON public.video_leases
    FOR EACH ROW WHEN (current_user = 'heimdex_api')
    EXECUTE FUNCTION public.heimdex_check_lease();

INSERT INTO public.heimdex_role_rights (object) VALUES ('heimdex_check_lease()')
ON CONFLICT (object) DO UPDATE SET worker = '', api = '', reader = '';

DO $$
DECLARE
    outsider text;
BEGIN
    REVOKE ALL ON FUNCTION public.heimdex_check_lease() FROM PUBLIC;
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION public.heimdex_check_lease() FROM %I', outsider);
    END LOOP;
END
$$;

SELECT public.heimdex_grant_roles();
