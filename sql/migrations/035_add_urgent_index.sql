-- What is claimed beyond the room in flight, because it is urgent, is found without reading what else waits.

CREATE INDEX IF NOT EXISTS idx_video_processing_urgent
    ON public.video_processing (owner_id, priority DESC, due_at, video_id)
    WHERE available_at IS NOT NULL AND priority > 0;
