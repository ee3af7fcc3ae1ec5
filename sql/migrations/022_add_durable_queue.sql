-- The durable queue: what a video needs to be claimed, and the lease of the scheduler that claimed it.
--
-- What the queue knows of a video itself is in video_processing (030): videos gets nothing but its timing columns
-- (019), since others read all columns of that table. An earlier edition of this file added more; 030 moves it over.

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
