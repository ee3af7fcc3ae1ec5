-- A video that its owner took back. By itself, since a new value of an enum cannot be used where it is added.

ALTER TYPE public.video_status ADD VALUE IF NOT EXISTS 'CANCELLED';
