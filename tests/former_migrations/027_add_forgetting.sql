-- Videos whose owners want them forgotten: what they said and showed is gone, what was counted of them stays.

ALTER TABLE videos ADD COLUMN IF NOT EXISTS forgotten_at timestamptz;

-- Pictures lie outside the database: they are removed when due, and once more later, since a worker that does not know
-- yet may still be writing. Then the row goes too.
CREATE TABLE IF NOT EXISTS forgotten_pictures (
    video_id uuid        PRIMARY KEY,
    due_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    removals integer     NOT NULL DEFAULT 0
);

DO $$
DECLARE
    outsider text;
BEGIN
    FOR outsider IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE forgotten_pictures FROM %I', outsider);
    END LOOP;
END
$$;
