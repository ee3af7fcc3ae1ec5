-- The role of the HTTP endpoints adds nothing to what the ledger says of a stage's time and outcome.
--
-- heimdex_api updates video_stage_runs in two ways: to cancel a video, whose open runs are lost then, and to forget
-- one, whose messages go. Without this, a process with its password could write any time and any outcome into the
-- ledger, from which costs are reported. Only statements of that role are checked.

CREATE OR REPLACE FUNCTION public.heimdex_check_ledger()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
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

CREATE OR REPLACE TRIGGER heimdex_check_ledger
    BEFORE UPDATE ON public.video_stage_runs
    FOR EACH ROW WHEN (current_user = 'heimdex_api')
    EXECUTE FUNCTION public.heimdex_check_ledger();

INSERT INTO public.heimdex_role_rights (object) VALUES ('heimdex_check_ledger()')
ON CONFLICT (object) DO UPDATE SET worker = '', api = '', reader = '';

UPDATE public.heimdex_role_rights
SET api = 'SELECT, UPDATE (outcome, finished_at, wait_ms, run_ms, error_type, error_message)'
WHERE object = 'video_stage_runs';

DO $$
DECLARE
    outsider text;
BEGIN
    REVOKE ALL ON FUNCTION public.heimdex_check_ledger() FROM PUBLIC;
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION public.heimdex_check_ledger() FROM %I', outsider);
    END LOOP;
END
$$;

SELECT public.heimdex_grant_roles();
