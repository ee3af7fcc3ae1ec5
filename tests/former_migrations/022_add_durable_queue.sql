-- The durable queue: what a video needs to be claimed, and the lease of the scheduler that claimed it.
--
-- A video is claimable when it is PENDING and available_at has come. Only this cluster sets available_at, so rows that
-- another system left PENDING in an adopted database are never touched. attempt counts claims, failures counts the
-- attempts that ended in an error or a crash: only these are limited. queued_at is when the present attempt was enqueued
-- (created_at is the submission), so that queue time never contains the run of an earlier attempt.

ALTER TABLE videos ADD COLUMN IF NOT EXISTS available_at timestamptz;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS attempt integer NOT NULL DEFAULT 0;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS failures integer NOT NULL DEFAULT 0;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS language text;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS error_type text;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS file_size_bytes bigint;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS width integer;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS height integer;
ALTER TABLE videos ADD COLUMN IF NOT EXISTS fps double precision;

CREATE INDEX IF NOT EXISTS idx_videos_waiting
    ON videos (available_at, queued_at) WHERE status = 'PENDING' AND available_at IS NOT NULL;

-- Heartbeats update expires_at alone, every few seconds: no index holds it and the pages have room, so the updates
-- stay heap-only (HOT) and leave no index bloat.
CREATE TABLE IF NOT EXISTS video_leases (
    video_id    uuid        PRIMARY KEY REFERENCES videos (id) ON DELETE CASCADE,
    lease_token bigint      NOT NULL UNIQUE,
    scheduler   text        NOT NULL,
    expires_at  timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE SEQUENCE IF NOT EXISTS video_lease_tokens AS bigint;

-- Who is alive: schedulers and workers announce themselves here, because the HTTP side meets them only in Postgres.
CREATE TABLE IF NOT EXISTS cluster_workers (
    worker     text        PRIMARY KEY,
    scheduler  text        NOT NULL,
    kind       text        NOT NULL,
    node       text        NOT NULL,
    device     text        NOT NULL,
    model      text,
    state      text        NOT NULL CHECK (state IN ('starting', 'idle', 'busy')),
    busy_s     double precision NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    peak_memory_bytes bigint,
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
