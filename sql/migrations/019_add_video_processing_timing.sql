-- Timing of a video's processing: when it was queued, started and finished, how long it took, and the stage
-- reached.
--
-- All nullable: rows from before stay as they are. A FAILED video keeps the stage that failed in
-- processing_stage.

ALTER TABLE public.videos
    ADD COLUMN IF NOT EXISTS queued_at timestamptz,
    ADD COLUMN IF NOT EXISTS processing_started_at timestamptz,
    ADD COLUMN IF NOT EXISTS processing_finished_at timestamptz,
    ADD COLUMN IF NOT EXISTS processing_duration_ms integer,
    ADD COLUMN IF NOT EXISTS processing_stage text;

CREATE INDEX IF NOT EXISTS idx_videos_processing_finished_at
    ON public.videos (processing_finished_at)
    WHERE processing_finished_at IS NOT NULL;

CREATE INDEX IF NOT EXISTS idx_videos_processing_duration_ms
    ON public.videos (processing_duration_ms)
    WHERE processing_duration_ms IS NOT NULL;

CREATE INDEX IF NOT EXISTS idx_videos_processing_stage
    ON public.videos (processing_stage)
    WHERE status = 'FAILED';
