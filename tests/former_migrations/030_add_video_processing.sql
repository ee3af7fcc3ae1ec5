-- What this cluster knows of a video beyond its timing (019): one row for each video that was ever submitted to it or
-- taken over by it. A table of its own, because others read all columns of videos into a record of exactly theirs, and
-- know exactly four states of it.
--
-- A video waits here when available_at is set, and may be claimed when that has come; whoever claims or ends it takes
-- available_at away. Rows that another system left PENDING have none and are never touched. attempt counts claims;
-- failures the attempts that ended in an error, crashes those that took their worker down, interruptions those that the
-- cluster itself broke off. due_at orders an owner's waiting videos: the submission, ten minutes earlier for each step
-- of priority.
--
-- A cancelled video is FAILED in videos, with the message 'cancelled by its owner', a finish time and no duration, and
-- cancelled_at here: that alone tells it from one that failed. The figures (031) count it in the totals of videos only.

CREATE TABLE IF NOT EXISTS public.video_processing (
    video_id        uuid             PRIMARY KEY REFERENCES public.videos (id) ON DELETE CASCADE,
    owner_id        uuid             NOT NULL,
    available_at    timestamptz,
    due_at          timestamptz,
    priority        smallint         NOT NULL DEFAULT 0,
    attempt         integer          NOT NULL DEFAULT 0,
    failures        integer          NOT NULL DEFAULT 0,
    crashes         integer          NOT NULL DEFAULT 0,
    interruptions   integer          NOT NULL DEFAULT 0,
    language        text,
    error_type      text,
    file_size_bytes bigint,
    width           integer,
    height          integer,
    fps             double precision,
    cancelled_at    timestamptz,
    forgotten_at    timestamptz,
    warnings        jsonb            NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(warnings) = 'array'),
    CHECK (available_at IS NULL OR due_at IS NOT NULL),
    CHECK (available_at IS NULL OR cancelled_at IS NULL)
);

CREATE INDEX IF NOT EXISTS idx_video_processing_due
    ON public.video_processing (owner_id, due_at, video_id) WHERE available_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_video_processing_cancelled
    ON public.video_processing (video_id) WHERE cancelled_at IS NOT NULL;

-- Submissions of one owner lock the row of that owner here, since the tables of people belong to others.
CREATE TABLE IF NOT EXISTS public.video_owners (
    owner_id uuid PRIMARY KEY
);

-- A database of this product from before: its columns of videos move over. What it added to videos has come after
-- available_at, the first that it added; columns of the same name that were there before (width, height) are another's.
DO $$
DECLARE
    added   text[];
    present text[];
    moved   text[];
    again   text[] := '{}';  -- what has to be put back after the update and after the change of the type
    found   record;
    action  text;
BEGIN
    SELECT array_agg(c.attname::text) FILTER (WHERE c.attnum >= first.attnum), array_agg(c.attname::text)
    INTO added, present
    FROM pg_catalog.pg_attribute AS c
    JOIN pg_catalog.pg_attribute AS first ON first.attrelid = c.attrelid AND first.attname = 'available_at'
    WHERE c.attrelid = 'public.videos'::regclass AND NOT c.attisdropped AND c.attname IN (
        'available_at', 'due_at', 'priority', 'attempt', 'failures', 'crashes', 'interruptions', 'language',
        'error_type', 'file_size_bytes', 'width', 'height', 'fps', 'forgotten_at');
    IF added IS NULL THEN
        RETURN;
    END IF;

    moved := ARRAY(SELECT name FROM unnest(present) AS name WHERE name NOT IN ('available_at', 'due_at') ORDER BY 1);
    EXECUTE format(
        'INSERT INTO public.video_processing (video_id, owner_id, available_at, due_at, cancelled_at, %s) '
        'SELECT v.id, v.owner_id, CASE WHEN v.status::text = ''PENDING'' THEN v.available_at END, '
        'coalesce(%s, v.queued_at, v.available_at), CASE WHEN v.status::text = ''CANCELLED'' THEN v.updated_at END, %s '
        'FROM public.videos AS v WHERE v.available_at IS NOT NULL OR v.attempt > 0 OR v.status::text = ''CANCELLED'' '
        'OR %s IS NOT NULL OR %s IS NOT NULL ON CONFLICT (video_id) DO NOTHING',
        (SELECT string_agg(format('%I', name), ', ') FROM unnest(moved) AS name),
        CASE WHEN 'due_at' = ANY (present) THEN 'v.due_at' ELSE 'NULL' END,
        (SELECT string_agg(format('v.%I', name), ', ') FROM unnest(moved) AS name),
        CASE WHEN 'due_at' = ANY (present) THEN 'v.due_at' ELSE 'NULL' END,
        CASE WHEN 'forgotten_at' = ANY (present) THEN 'v.forgotten_at' ELSE 'NULL' END);
    INSERT INTO public.video_owners (owner_id) SELECT DISTINCT owner_id FROM public.video_processing
    ON CONFLICT (owner_id) DO NOTHING;

    -- The moment at which they were cancelled must not move, as a trigger would have it.
    FOR found IN
        SELECT tgname AS name,
               CASE tgenabled WHEN 'A' THEN 'ENABLE ALWAYS TRIGGER' ELSE 'ENABLE TRIGGER' END AS enable
        FROM pg_catalog.pg_trigger
        WHERE tgrelid = 'public.videos'::regclass AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & 16 <> 0
    LOOP
        EXECUTE format('ALTER TABLE public.videos DISABLE TRIGGER %I', found.name);
        again := again || format('ALTER TABLE public.videos %s %I', found.enable, found.name);
    END LOOP;
    UPDATE public.videos SET status = 'FAILED', processing_finished_at = coalesce(processing_finished_at, updated_at)
    WHERE status::text = 'CANCELLED';
    FOREACH action IN ARRAY again LOOP
        EXECUTE action;
    END LOOP;

    EXECUTE 'ALTER TABLE public.videos '
        || (SELECT string_agg(format('DROP COLUMN %I', name), ', ') FROM unnest(added) AS name);

    -- The enum again as it was. Indexes that name a state have to go for the moment. Where something else of the
    -- database depends on the type, the fifth state stays, and no row has it.
    BEGIN
        again := '{}';
        FOR found IN
            SELECT indexrelid::regclass AS name, pg_catalog.pg_get_indexdef(indexrelid) AS definition
            FROM pg_catalog.pg_index
            WHERE indrelid = 'public.videos'::regclass
              AND pg_catalog.pg_get_expr(indpred, indrelid) LIKE '%video_status%'
        LOOP
            EXECUTE format('DROP INDEX %s', found.name);
            again := again || found.definition;
        END LOOP;
        ALTER TYPE public.video_status RENAME TO video_status_of_five;
        CREATE TYPE public.video_status AS ENUM ('PENDING', 'PROCESSING', 'READY', 'FAILED');
        ALTER TABLE public.videos
            ALTER COLUMN status DROP DEFAULT,
            ALTER COLUMN status TYPE public.video_status USING status::text::public.video_status,
            ALTER COLUMN status SET DEFAULT 'PENDING';
        DROP TYPE public.video_status_of_five;
        FOREACH action IN ARRAY again LOOP
            EXECUTE action;
        END LOOP;
    EXCEPTION
        WHEN dependent_objects_still_exist OR feature_not_supported OR undefined_function OR datatype_mismatch THEN
        RAISE NOTICE 'the enum video_status keeps the state CANCELLED, which no video has any more: %', SQLERRM;
    END;
END
$$;

-- A video need not have a name of its own. Where videos is another's table, its own rule holds.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_constraint
               WHERE conrelid = 'public.videos'::regclass AND conname = 'videos_duration_s_check') THEN
        ALTER TABLE public.videos ALTER COLUMN filename DROP NOT NULL;
    END IF;
END
$$;

DO $$
DECLARE
    outsider text;
BEGIN
    FOR outsider IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE public.video_processing, public.video_owners FROM %I', outsider);
    END LOOP;
    -- The figures run with their caller's rights.
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'service_role') THEN
        GRANT SELECT ON TABLE public.video_processing TO service_role;
    END IF;
END
$$;
