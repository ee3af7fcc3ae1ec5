-- Watches a database from within while things are killed around it: who held which lease when, how every video's status
-- changed, and each write that the fence should have refused. Only the tests install it. What it finds goes to
-- chaos.faults; it never refuses anything and takes no lock that the cluster's own statements would have to wait for.
--
-- Where chaos.settings.attributed is true, each scheduler process has sessions of its own name and marks what it writes
-- with its lease token (worker of a closed run, file_size_bytes, error_message, thumbnail_url and model of scenes and
-- transcripts): then it is also checked that the writer is the very holder of the lease.

CREATE SCHEMA chaos;

CREATE TABLE chaos.settings (owner_cap integer, attributed boolean NOT NULL);

CREATE SEQUENCE chaos.claims;

CREATE TABLE chaos.leases (
    lease_token bigint PRIMARY KEY,
    video_id uuid NOT NULL,
    attempt integer NOT NULL,
    scheduler text NOT NULL,
    session text NOT NULL,
    claim bigint NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    expired_at timestamptz,
    ended_in xid8,
    ended_by text
);
CREATE INDEX ON chaos.leases (video_id, attempt);

CREATE TABLE chaos.changes (
    number bigserial PRIMARY KEY,
    video_id uuid NOT NULL,
    before text NOT NULL,
    after text NOT NULL,
    attempt integer NOT NULL,
    session text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON chaos.changes (video_id);

CREATE TABLE chaos.faults (
    what text NOT NULL,
    video_id uuid,
    detail text,
    session text NOT NULL DEFAULT current_setting('application_name'),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Whether the session may write for this attempt now: its lease is live, or ends in this very transaction.
CREATE FUNCTION chaos.may_write(wanted_video uuid, wanted_attempt integer, mark text) RETURNS boolean
LANGUAGE sql STABLE SET enable_seqscan = off AS $$
    SELECT EXISTS (
        SELECT FROM chaos.leases AS l
        WHERE l.video_id = wanted_video AND l.attempt = wanted_attempt
          AND (l.ended_in IS NULL OR l.ended_in = pg_current_xact_id_if_assigned())
          AND (NOT (SELECT attributed FROM chaos.settings)
               OR l.session = current_setting('application_name') AND (mark IS NULL OR mark = l.lease_token::text)))
$$;

-- Whether the attempt's lease ends in this very transaction, whichever session ends it.
CREATE FUNCTION chaos.ends_now(wanted_video uuid, wanted_attempt integer) RETURNS boolean
LANGUAGE sql STABLE SET enable_seqscan = off AS $$
    SELECT EXISTS (
        SELECT FROM chaos.leases AS l
        WHERE l.video_id = wanted_video AND l.attempt = wanted_attempt
          AND l.ended_in = pg_current_xact_id_if_assigned())
$$;

CREATE FUNCTION chaos.attempt_of(wanted_video uuid) RETURNS integer
LANGUAGE sql STABLE SET enable_seqscan = off AS $$
    SELECT attempt FROM public.video_processing WHERE video_id = wanted_video
$$;

CREATE FUNCTION chaos.leases_granted() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    this_claim bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM granted) THEN
        RETURN NULL;
    END IF;
    this_claim := nextval('chaos.claims');
    INSERT INTO chaos.faults (what, video_id, detail)
    SELECT 'two live leases on one video', g.video_id, l.lease_token || ' and ' || g.lease_token
    FROM granted AS g JOIN chaos.leases AS l ON l.video_id = g.video_id AND l.ended_in IS NULL;
    INSERT INTO chaos.faults (what, video_id, detail)
    SELECT 'attempts are not contiguous', g.video_id, v.attempt::text
    FROM granted AS g JOIN public.video_processing AS v ON v.video_id = g.video_id
    WHERE v.attempt <> 1 + (SELECT count(*) FROM chaos.leases AS l WHERE l.video_id = g.video_id);
    INSERT INTO chaos.leases (lease_token, video_id, attempt, scheduler, session, claim)
    SELECT g.lease_token, g.video_id, v.attempt, g.scheduler, current_setting('application_name'), this_claim
    FROM granted AS g JOIN public.video_processing AS v ON v.video_id = g.video_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER chaos_granted AFTER INSERT ON video_leases REFERENCING NEW TABLE AS granted
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.leases_granted();

-- For each row and before: the triggers of whatever else the statement does already see that the lease ended.
CREATE FUNCTION chaos.lease_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE chaos.leases
    SET ended_at = clock_timestamp(), expired_at = OLD.expires_at, ended_in = pg_current_xact_id(), ended_by = current_setting('application_name')
    WHERE lease_token = OLD.lease_token;
    RETURN OLD;
END
$$;
CREATE TRIGGER chaos_ended BEFORE DELETE ON video_leases FOR EACH ROW EXECUTE FUNCTION chaos.lease_ended();

CREATE FUNCTION chaos.runs_opened() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.faults (what, video_id, detail)
    SELECT 'a stage run was opened without its lease', n.video_id, n.attempt || ' ' || n.stage
    FROM new_rows AS n WHERE NOT chaos.may_write(n.video_id, n.attempt, NULL);
    RETURN NULL;
END
$$;
CREATE TRIGGER chaos_opened AFTER INSERT ON video_stage_runs REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.runs_opened();

CREATE FUNCTION chaos.runs_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.faults (what, video_id, detail)
    SELECT 'a closed stage run was changed', n.video_id, n.attempt || ' ' || n.stage
    FROM new_rows AS n JOIN old_rows AS o USING (video_id, attempt, stage) WHERE o.outcome <> 'running';
    INSERT INTO chaos.faults (what, video_id, detail)
    SELECT 'a stage run was closed without its lease', n.video_id, concat_ws(' ', n.attempt, n.stage, n.worker)
    FROM new_rows AS n
    WHERE NOT (n.outcome = 'lost' AND chaos.ends_now(n.video_id, n.attempt))
      AND NOT chaos.may_write(n.video_id, n.attempt, n.worker);
    RETURN NULL;
END
$$;
CREATE TRIGGER chaos_closed AFTER UPDATE ON video_stage_runs REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.runs_closed();

-- A video's status as people see it, at the end of a statement: what was cancelled is CANCELLED. Of what was before, the
-- last change says so, since by then cancelled_at may be gone.
CREATE FUNCTION chaos.shown(video uuid, status text) RETURNS text
LANGUAGE sql STABLE SET enable_seqscan = off AS $$
    SELECT CASE WHEN status = 'FAILED' AND EXISTS (
        SELECT FROM public.video_processing AS p WHERE p.video_id = video AND p.cancelled_at IS NOT NULL)
    THEN 'CANCELLED' ELSE status END
$$;

CREATE FUNCTION chaos.shown_before(video uuid, status text) RETURNS text
LANGUAGE sql STABLE SET enable_seqscan = off AS $$
    SELECT CASE WHEN status = 'FAILED' AND (
        SELECT c.after FROM chaos.changes AS c WHERE c.video_id = video ORDER BY c.number DESC LIMIT 1) = 'CANCELLED'
    THEN 'CANCELLED' ELSE status END
$$;

CREATE FUNCTION chaos.videos_changed() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    changed record;
BEGIN
    FOR changed IN
        SELECT n.id, p.attempt, p.error_type, n.error_message, chaos.shown_before(o.id, o.status::text) AS before,
               chaos.shown(n.id, n.status::text) AS after
        FROM new_rows AS n JOIN old_rows AS o USING (id) JOIN public.video_processing AS p ON p.video_id = n.id
    LOOP
        IF changed.before <> changed.after THEN
            INSERT INTO chaos.changes (video_id, before, after, attempt, session) VALUES
                (changed.id, changed.before, changed.after, changed.attempt, current_setting('application_name'));
            IF (changed.before, changed.after) NOT IN (
                ('PENDING', 'PROCESSING'), ('PENDING', 'CANCELLED'), ('FAILED', 'PENDING'), ('CANCELLED', 'PENDING'),
                ('PROCESSING', 'READY'), ('PROCESSING', 'FAILED'), ('PROCESSING', 'PENDING'),
                ('PROCESSING', 'CANCELLED'))
            THEN
                INSERT INTO chaos.faults (what, video_id, detail) VALUES
                    ('a status followed that may not', changed.id, changed.before || ' -> ' || changed.after);
            END IF;
        END IF;
        IF changed.before = 'PROCESSING' AND NOT (CASE
            WHEN changed.after = changed.before THEN chaos.may_write(changed.id, changed.attempt, NULL)
            WHEN changed.after = 'READY' THEN chaos.ends_now(changed.id, changed.attempt)
                 AND chaos.may_write(changed.id, changed.attempt, NULL)
            WHEN changed.error_type IN ('NodeLost', 'Cancelled') OR changed.error_type IS NULL
                 THEN chaos.ends_now(changed.id, changed.attempt)
            ELSE chaos.ends_now(changed.id, changed.attempt)
                 AND chaos.may_write(changed.id, changed.attempt, changed.error_message) END)
        THEN
            INSERT INTO chaos.faults (what, video_id, detail) VALUES (
                CASE WHEN changed.after = changed.before THEN 'a video was changed without its lease'
                     ELSE 'an attempt was ended without its lease' END,
                changed.id, concat_ws(' ', changed.attempt, changed.before, changed.after, changed.error_type));
        END IF;
        IF changed.after = changed.before AND changed.before <> 'PROCESSING' THEN
            INSERT INTO chaos.faults (what, video_id, detail) VALUES
                ('a video without a lease was changed', changed.id, changed.before);
        END IF;
        IF changed.before = 'PENDING' AND changed.after = 'PROCESSING'
           AND NOT EXISTS (SELECT FROM public.video_leases AS l WHERE l.video_id = changed.id) THEN
            INSERT INTO chaos.faults (what, video_id, detail) VALUES
                ('a video was claimed without a lease', changed.id, changed.attempt::text);
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER chaos_changed AFTER UPDATE ON videos REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.videos_changed();

CREATE FUNCTION chaos.media_found() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO chaos.faults (what, video_id, detail)
    SELECT 'what a probe found was written without its lease', n.video_id, n.attempt::text
    FROM new_rows AS n JOIN old_rows AS o USING (video_id)
    WHERE n.file_size_bytes IS DISTINCT FROM o.file_size_bytes
      AND NOT chaos.may_write(n.video_id, n.attempt, n.file_size_bytes::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER chaos_found AFTER UPDATE ON video_processing REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.media_found();

CREATE FUNCTION chaos.scenes_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.faults (what, video_id, detail)
    SELECT 'scenes: ' || TG_OP || ' without the lease', r.video_id, r.thumbnail_url
    FROM rows AS r
    WHERE NOT chaos.may_write(r.video_id, chaos.attempt_of(r.video_id),
                              CASE WHEN TG_OP = 'INSERT' THEN r.thumbnail_url END);
    RETURN NULL;
END
$$;
CREATE TRIGGER chaos_written AFTER INSERT ON video_scenes REFERENCING NEW TABLE AS rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.scenes_changed();
CREATE TRIGGER chaos_changed AFTER UPDATE ON video_scenes REFERENCING NEW TABLE AS rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.scenes_changed();
CREATE TRIGGER chaos_removed AFTER DELETE ON video_scenes REFERENCING OLD TABLE AS rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.scenes_changed();

CREATE FUNCTION chaos.transcripts_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.faults (what, video_id, detail)
    SELECT 'a transcript was written without the lease', r.video_id, r.model
    FROM rows AS r WHERE NOT chaos.may_write(r.video_id, chaos.attempt_of(r.video_id), NULL);
    RETURN NULL;
END
$$;
CREATE TRIGGER chaos_written AFTER INSERT ON video_transcripts REFERENCING NEW TABLE AS rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.transcripts_written();
CREATE TRIGGER chaos_changed AFTER UPDATE ON video_transcripts REFERENCING NEW TABLE AS rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.transcripts_written();

CREATE FUNCTION chaos.results_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.faults (what, video_id, detail)
    SELECT 'a result was kept without the lease', r.video_id, r.stage
    FROM rows AS r
    WHERE NOT chaos.may_write(r.video_id, chaos.attempt_of(r.video_id), r.result ->> 'model');
    RETURN NULL;
END
$$;
CREATE TRIGGER chaos_kept AFTER INSERT ON video_stage_results REFERENCING NEW TABLE AS rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.results_kept();
CREATE TRIGGER chaos_kept_again AFTER UPDATE ON video_stage_results REFERENCING NEW TABLE AS rows
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.results_kept();
