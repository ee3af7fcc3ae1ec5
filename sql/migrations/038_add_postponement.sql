-- How long the source of a video was waited for, in seconds: a server that asks to come back later, a file that is still
-- being written. Such an attempt counts as none of the others; this sum is what ends the waiting.

ALTER TABLE public.video_processing ADD COLUMN IF NOT EXISTS postponed_s double precision NOT NULL DEFAULT 0;
