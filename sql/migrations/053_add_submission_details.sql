-- What is known of a video when it is submitted, and is not needed to process it: what a manifest says beside the URI
-- (metadata), and which content the file had (content_mark), so that the same file is not processed a second time.

ALTER TABLE public.video_processing
    ADD COLUMN IF NOT EXISTS metadata jsonb
        CONSTRAINT video_processing_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    ADD COLUMN IF NOT EXISTS content_mark text;

CREATE INDEX IF NOT EXISTS idx_video_processing_content
    ON public.video_processing (content_mark) WHERE content_mark IS NOT NULL;
