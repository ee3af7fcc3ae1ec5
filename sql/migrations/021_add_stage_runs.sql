-- The stage ledger: one row for every run of a stage, by video and attempt.
--
-- A row is written before the stage starts and closed after it, so that a killed process leaves a truthful open row
-- ('running') which the reaper closes as 'lost'. finished_at - ready_at = wait_ms + run_ms: run is what the worker
-- measured on its monotonic clock, wait is everything else between being ready and being done.

CREATE TABLE IF NOT EXISTS video_stage_runs (
    video_id      uuid        NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    attempt       integer     NOT NULL CHECK (attempt >= 1),
    stage         text        NOT NULL CHECK (stage IN (
                      'downloading', 'metadata', 'transcription', 'scene_detection',
                      'scene_processing', 'indexing', 'finalizing')),
    outcome       text        NOT NULL DEFAULT 'running'
                      CHECK (outcome IN ('running', 'completed', 'failed', 'skipped', 'lost')),
    ready_at      timestamptz NOT NULL,
    started_at    timestamptz,
    finished_at   timestamptz,
    wait_ms       double precision CHECK (wait_ms >= 0),
    run_ms        double precision CHECK (run_ms >= 0),
    error_type    text,
    error_message text,
    node          text,
    worker        text,
    device        text,
    resource_s    double precision CHECK (resource_s >= 0),
    batch_size    integer CHECK (batch_size >= 1),
    PRIMARY KEY (video_id, attempt, stage),
    CHECK (started_at >= ready_at),
    CHECK (finished_at >= ready_at),
    CHECK (finished_at >= started_at),
    CHECK ((outcome = 'running') = (finished_at IS NULL)),
    CHECK (outcome NOT IN ('failed', 'lost') OR error_type IS NOT NULL)
);

CREATE INDEX IF NOT EXISTS idx_video_stage_runs_open
    ON video_stage_runs (video_id) WHERE outcome = 'running';

CREATE INDEX IF NOT EXISTS idx_video_stage_runs_finished_at
    ON video_stage_runs (finished_at, stage) WHERE finished_at IS NOT NULL;
