-- Who did what to which object: cancelled, forgot, retried, reprocessed, read as an admin, changed models or settings.
--
-- Rows are only ever added. One may be deleted when it is 30 days old, which the cluster does after HEIMDEX_AUDIT_DAYS;
-- whoever may write here, changes none. Rows hold ids and names of settings and models, never what was said, shown or
-- searched: they stay when a video is forgotten or an owner is erased, to say that it was done.

CREATE TABLE IF NOT EXISTS public.audit_log (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_kind  text        NOT NULL CHECK (actor_kind IN ('owner', 'admin', 'command')),
    actor       text        NOT NULL,
    action      text        NOT NULL,
    object_kind text        NOT NULL,
    object      text        NOT NULL,
    details     jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object')
);

CREATE INDEX IF NOT EXISTS idx_audit_log_object ON public.audit_log (object, id);

CREATE OR REPLACE FUNCTION public.heimdex_keep_audit_log()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
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

DROP TRIGGER IF EXISTS heimdex_keep_audit_log ON public.audit_log;
CREATE TRIGGER heimdex_keep_audit_log BEFORE UPDATE OR DELETE ON public.audit_log
    FOR EACH ROW EXECUTE FUNCTION public.heimdex_keep_audit_log();
DROP TRIGGER IF EXISTS heimdex_keep_whole_audit_log ON public.audit_log;
CREATE TRIGGER heimdex_keep_whole_audit_log BEFORE TRUNCATE ON public.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION public.heimdex_keep_audit_log();

DO $$
DECLARE
    outsider text;
BEGIN
    REVOKE ALL ON FUNCTION public.heimdex_keep_audit_log() FROM PUBLIC;
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE public.audit_log FROM %I', outsider);
        EXECUTE format('REVOKE ALL ON SEQUENCE public.audit_log_id_seq FROM %I', outsider);
        EXECUTE format('REVOKE ALL ON FUNCTION public.heimdex_keep_audit_log() FROM %I', outsider);
    END LOOP;
    -- The service of an existing system is given new tables by default: this one it may read and add to.
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'service_role') THEN
        REVOKE ALL ON TABLE public.audit_log FROM service_role;
        GRANT SELECT, INSERT ON TABLE public.audit_log TO service_role;
        GRANT EXECUTE ON FUNCTION public.heimdex_keep_audit_log() TO service_role;
    END IF;
END
$$;
