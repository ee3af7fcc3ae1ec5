-- Videos that were submitted together, and how busy the workers were lately.
--
-- A batch is its name: the videos of one submission, and of later ones with the same name. NULL: submitted by HTTP, or
-- before this migration. Both tables are this cluster's; rights on them cover new columns.

ALTER TABLE public.video_processing
    ADD COLUMN IF NOT EXISTS batch text
        CONSTRAINT video_processing_batch_check CHECK (length(batch) BETWEEN 1 AND 100);

CREATE INDEX IF NOT EXISTS idx_video_processing_batch ON public.video_processing (batch) WHERE batch IS NOT NULL;

-- Of the last recent_s seconds, at most five minutes, a worker was busy recent_busy_s seconds.
ALTER TABLE public.cluster_workers ADD COLUMN IF NOT EXISTS recent_busy_s double precision;
ALTER TABLE public.cluster_workers ADD COLUMN IF NOT EXISTS recent_s double precision;
