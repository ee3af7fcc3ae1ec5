-- What an existing Heimdex made: run as the owner of its schema. Roles, extensions and the schema auth exist.

CREATE FUNCTION public.uuid_generate_v4() RETURNS uuid LANGUAGE sql AS $$ SELECT gen_random_uuid() $$;
CREATE FUNCTION public.update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$;
CREATE FUNCTION public.update_highlight_export_jobs_updated_at() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$;

CREATE TYPE public.video_status AS ENUM ('PENDING', 'PROCESSING', 'READY', 'FAILED');

CREATE TABLE public.user_profiles (
    user_id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
    full_name text NOT NULL,
    industry text,
    job_title text,
    marketing_consent boolean NOT NULL DEFAULT false,
    marketing_consent_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    preferred_language text NOT NULL DEFAULT 'ko' CHECK (preferred_language = ANY (ARRAY['ko', 'en'])),
    scene_detector_preferences jsonb,
    search_preferences jsonb
);
CREATE TABLE public.videos (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    owner_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    storage_path text NOT NULL,
    status public.video_status NOT NULL DEFAULT 'PENDING',
    duration_s double precision,
    frame_rate double precision,
    width integer,
    height integer,
    video_created_at timestamptz,
    thumbnail_url text,
    error_message text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    filename text,
    full_transcript text,
    video_summary text,
    has_rich_semantics boolean DEFAULT false,
    transcript_language varchar(10) DEFAULT NULL,
    exif_metadata jsonb,
    location_latitude double precision,
    location_longitude double precision,
    location_name text,
    camera_make text,
    camera_model text,
    transcript_segments jsonb,
    queued_at timestamptz,
    processing_started_at timestamptz,
    processing_finished_at timestamptz,
    processing_duration_ms integer,
    processing_stage text
);
CREATE TABLE public.video_scenes (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    video_id uuid NOT NULL REFERENCES public.videos (id) ON DELETE CASCADE,
    index integer NOT NULL,
    start_s double precision NOT NULL,
    end_s double precision NOT NULL,
    transcript_segment text,
    visual_summary text,
    combined_text text,
    thumbnail_url text,
    created_at timestamptz NOT NULL DEFAULT now(),
    embedding vector(1536),
    visual_description text,
    visual_entities text[],
    visual_actions text[],
    tags text[],
    sidecar_version text DEFAULT 'v1',
    search_text text,
    embedding_metadata jsonb,
    needs_reprocess boolean DEFAULT false,
    processing_stats jsonb,
    embedding_transcript vector(1536),
    embedding_visual vector(1536),
    embedding_summary vector(1536),
    embedding_version text,
    embedding_visual_clip vector(512),
    visual_clip_metadata jsonb,
    UNIQUE (video_id, index)
);
CREATE TABLE public.search_queries (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid REFERENCES auth.users (id) ON DELETE SET NULL,
    video_id uuid REFERENCES public.videos (id) ON DELETE SET NULL,
    query_text text NOT NULL,
    source text NOT NULL DEFAULT 'scene_search',
    results_count integer,
    latency_ms integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    search_metadata jsonb
);
CREATE TABLE public.highlight_export_jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    status text NOT NULL DEFAULT 'queued' CHECK (status = ANY (ARRAY['queued', 'processing', 'done', 'error'])),
    request jsonb NOT NULL,
    progress jsonb,
    output jsonb,
    error jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE public.scene_exports (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    scene_id uuid NOT NULL REFERENCES public.video_scenes (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    aspect_ratio_strategy text NOT NULL
        CHECK (aspect_ratio_strategy = ANY (ARRAY['center_crop', 'letterbox', 'smart_crop'])),
    output_quality text NOT NULL CHECK (output_quality = ANY (ARRAY['high', 'medium'])),
    status text NOT NULL DEFAULT 'pending'
        CHECK (status = ANY (ARRAY['pending', 'processing', 'completed', 'failed'])),
    error_message text,
    storage_path text,
    file_size_bytes bigint,
    duration_s double precision,
    resolution text,
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    expires_at timestamptz NOT NULL DEFAULT now() + interval '24 hours'
);
CREATE TABLE public.persons (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    owner_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    display_name text,
    query_embedding vector(512),
    status text NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE public.person_reference_photos (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    owner_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    person_id uuid NOT NULL REFERENCES public.persons (id) ON DELETE CASCADE,
    storage_path text NOT NULL,
    state text NOT NULL DEFAULT 'UPLOADED',
    embedding vector(512),
    quality_score double precision,
    face_bbox jsonb,
    error_message text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE public.scene_person_embeddings (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    owner_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    video_id uuid NOT NULL REFERENCES public.videos (id) ON DELETE CASCADE,
    scene_id uuid NOT NULL REFERENCES public.video_scenes (id) ON DELETE CASCADE,
    kind text NOT NULL DEFAULT 'thumbnail',
    ordinal integer NOT NULL DEFAULT 0,
    embedding vector(512) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (scene_id, kind, ordinal)
);

CREATE INDEX idx_videos_owner_id ON public.videos (owner_id);
CREATE INDEX idx_videos_status ON public.videos (status);
CREATE INDEX idx_videos_created_at ON public.videos (created_at DESC);
CREATE INDEX idx_videos_exif ON public.videos USING gin (exif_metadata);
CREATE INDEX idx_videos_transcript ON public.videos USING gin (to_tsvector('simple', coalesce(full_transcript, '')));
CREATE INDEX idx_videos_processing_finished_at ON public.videos (processing_finished_at)
    WHERE processing_finished_at IS NOT NULL;
CREATE INDEX idx_videos_processing_duration_ms ON public.videos (processing_duration_ms)
    WHERE processing_duration_ms IS NOT NULL;
CREATE INDEX idx_videos_processing_stage ON public.videos (processing_stage) WHERE status = 'FAILED';
CREATE INDEX idx_video_scenes_video_id ON public.video_scenes (video_id);
CREATE INDEX idx_video_scenes_tags ON public.video_scenes USING gin (tags);
CREATE INDEX idx_video_scenes_embedding ON public.video_scenes USING hnsw (embedding vector_cosine_ops);
CREATE INDEX idx_video_scenes_clip ON public.video_scenes USING hnsw (embedding_visual_clip vector_cosine_ops);
CREATE INDEX idx_video_scenes_needs_reprocess ON public.video_scenes (video_id) WHERE needs_reprocess;
CREATE INDEX idx_search_queries_user_id ON public.search_queries (user_id);
CREATE INDEX idx_search_queries_created_at ON public.search_queries (created_at DESC);
CREATE INDEX idx_scene_exports_user ON public.scene_exports (user_id, created_at);
CREATE INDEX idx_highlight_export_jobs_user ON public.highlight_export_jobs (user_id, status);

CREATE TRIGGER update_user_profiles_updated_at BEFORE UPDATE ON public.user_profiles
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_videos_updated_at BEFORE UPDATE ON public.videos
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_persons_updated_at BEFORE UPDATE ON public.persons
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_person_reference_photos_updated_at BEFORE UPDATE ON public.person_reference_photos
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER trigger_update_highlight_export_jobs_updated_at BEFORE UPDATE ON public.highlight_export_jobs
    FOR EACH ROW EXECUTE FUNCTION public.update_highlight_export_jobs_updated_at();

DO $$
DECLARE
    rule record;
BEGIN
    -- The table, the owner of a row of it, what that owner may do.
    FOR rule IN SELECT * FROM (VALUES
        ('highlight_export_jobs', 'user_id = auth.uid()', 'SELECT INSERT UPDATE DELETE'),
        ('person_reference_photos', 'owner_id = auth.uid()', 'ALL SELECT'),
        ('persons', 'owner_id = auth.uid()', 'SELECT INSERT UPDATE DELETE'),
        ('scene_exports', 'user_id = auth.uid()', 'SELECT INSERT UPDATE DELETE'),
        ('scene_person_embeddings', 'owner_id = auth.uid()', 'ALL SELECT'),
        ('search_queries', 'user_id = auth.uid()', 'SELECT INSERT'),
        ('user_profiles', 'user_id = auth.uid()', 'SELECT INSERT UPDATE'),
        ('video_scenes', 'EXISTS (SELECT FROM public.videos AS v WHERE v.id = video_id AND v.owner_id = auth.uid())',
         'ALL SELECT'),
        ('videos', 'owner_id = auth.uid()', 'SELECT INSERT UPDATE')
    ) AS rules (relation, owned, commands) LOOP
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', rule.relation);
        DECLARE
            command text;
        BEGIN
            FOREACH command IN ARRAY string_to_array(rule.commands, ' ') LOOP
                EXECUTE format('CREATE POLICY %I ON public.%I FOR %s TO authenticated %s (%s)',
                               lower(command) || '_own', rule.relation, command,
                               CASE command WHEN 'INSERT' THEN 'WITH CHECK' ELSE 'USING' END, rule.owned);
            END LOOP;
        END;
    END LOOP;
END
$$;

DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'batch_score_scenes_clip(q vector, ids uuid[], owner uuid)',
        'search_scenes_by_embedding(q vector, floor double precision, n integer, video uuid)',
        'search_scenes_by_embedding(q vector, floor double precision, n integer, video uuid, owner uuid)',
        'search_scenes_by_person_clip_embedding(q vector, floor double precision, n integer, video uuid, owner uuid)',
        'search_scenes_by_summary_embedding(q vector, floor double precision, n integer, video uuid, owner uuid)',
        'search_scenes_by_transcript_embedding(q vector, floor double precision, n integer, video uuid, owner uuid)',
        'search_scenes_by_visual_clip_embedding(q vector, floor double precision, n integer, video uuid, owner uuid)',
        'search_scenes_by_visual_embedding(q vector, floor double precision, n integer, video uuid, owner uuid)'
    ] LOOP
        EXECUTE format('CREATE FUNCTION public.%s RETURNS TABLE (id uuid, similarity double precision) LANGUAGE sql '
                       'STABLE AS $f$ SELECT s.id, 1 - (s.embedding <=> $1) FROM public.video_scenes AS s '
                       'WHERE s.embedding IS NOT NULL ORDER BY 2 DESC LIMIT 10 $f$', signature);
    END LOOP;
END
$$;

-- Four people with videos and one who has none; the fourth has no profile.
INSERT INTO public.user_profiles (user_id, full_name, industry, preferred_language)
SELECT id, initcap(split_part(email, '@', 1)), 'film', 'en' FROM auth.users WHERE email <> 'dora@example.org';

-- By n: owner 1 + n % 4; status n % 4 (READY: 2); NULL filename where n % 3 = 0; timing columns from 24 on.
INSERT INTO public.videos
    (id, owner_id, storage_path, status, duration_s, frame_rate, width, height, video_created_at, thumbnail_url,
     error_message, created_at, updated_at, filename, full_transcript, video_summary, has_rich_semantics,
     transcript_language, exif_metadata, location_latitude, location_longitude, location_name, camera_make,
     camera_model, transcript_segments)
SELECT ('10000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, o.id, o.id || '/clip-' || n || '.mp4',
       (enum_range(NULL::public.video_status))[1 + n % 4], CASE WHEN n % 7 > 0 THEN 36 END, 29.97, 1920, 1080,
       now() - interval '90 days', 'https://pictures.example.org/' || n || '.jpg',
       CASE WHEN n % 4 = 3 THEN 'Whisper timed out' END,
       now() - n * interval '5 hours' - interval '10 minutes', now() - n * interval '5 hours',
       CASE WHEN n % 3 > 0 THEN 'clip ' || n || '.mp4' END,
       CASE WHEN n % 4 = 2 THEN 'the harbour at dawn ' || n END, CASE WHEN n % 4 = 2 THEN 'Boats leave. ' || n END,
       n % 4 = 2, CASE WHEN n % 4 = 2 THEN 'en' END,
       '{"Make": "Canon", "Model": "R5", "GPSLatitude": 37.5}', 37.5, 127.0, 'Seoul', 'Canon', 'R5',
       CASE WHEN n % 4 = 2 THEN jsonb_build_array(
           jsonb_build_object('start', 0.0, 'end', 2.5, 'text', 'the harbour at dawn'),
           jsonb_build_object('start', 2.5, 'end', 4.0, 'text', 'number ' || n)) END
FROM generate_series(1, 48) AS n
JOIN (SELECT id, row_number() OVER (ORDER BY email) AS place FROM auth.users) AS o ON o.place = 1 + n % 4;

ALTER TABLE public.videos DISABLE TRIGGER update_videos_updated_at;
UPDATE public.videos
SET queued_at = updated_at - interval '90 seconds',
    processing_started_at = CASE WHEN status <> 'PENDING' THEN updated_at - interval '60 seconds' END,
    processing_finished_at = CASE WHEN status IN ('READY', 'FAILED') THEN updated_at END,
    processing_duration_ms = CASE WHEN status IN ('READY', 'FAILED') THEN 60000 END,
    processing_stage = (ARRAY['queued', 'transcription', 'completed', 'transcription'])
                       [1 + right(id::text, 12)::bigint::integer % 4]
WHERE right(id::text, 12)::bigint >= 24;
ALTER TABLE public.videos ENABLE TRIGGER update_videos_updated_at;

INSERT INTO public.video_scenes
    (video_id, index, start_s, end_s, transcript_segment, visual_summary, combined_text, thumbnail_url,
     visual_description, visual_entities, visual_actions, tags, search_text, embedding_metadata, processing_stats,
     embedding, embedding_transcript, embedding_visual, embedding_summary, embedding_version, embedding_visual_clip,
     visual_clip_metadata, needs_reprocess)
SELECT v.id, i, 12 * i, 12 * i + 12, CASE WHEN i <> 1 THEN 'the harbour at dawn, part ' || i END,
       CASE WHEN i <> 2 THEN 'a boat beside a quay' END, CASE WHEN i <> 2 THEN 'harbour boat quay' END,
       'https://pictures.example.org/' || v.id || '/' || i || '.jpg', 'A red boat.', '{boat,quay}', '{sailing}',
       CASE WHEN i > 0 THEN '{sea,boat}'::text[] END, 'harbour boat quay', '{"model": "text-embedding-3-small"}',
       '{"ms": 800}', e.long, e.long, e.long, e.long, 'v3', e.short, '{"model": "clip"}', i = 2
FROM public.videos AS v, generate_series(0, 2) AS i
CROSS JOIN LATERAL (
    SELECT (SELECT array_agg(sin(k * (i + 1)))::vector(1536) FROM generate_series(1, 1536) AS k) AS long,
           (SELECT array_agg(cos(k * (i + 1)))::vector(512) FROM generate_series(1, 512) AS k) AS short
) AS e
WHERE v.status = 'READY';

INSERT INTO public.search_queries
    (user_id, video_id, query_text, results_count, latency_ms, created_at, search_metadata)
SELECT CASE WHEN n % 5 > 0 THEN v.owner_id END, CASE WHEN n % 3 = 0 THEN v.id END, 'query ' || n, n, 10 * n,
       now() - n * interval '9 hours', '{"mode": "hybrid"}'
FROM generate_series(1, 40) AS n
JOIN public.videos AS v ON v.id = ('10000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid;

INSERT INTO public.highlight_export_jobs (user_id, request) SELECT user_id, '{"seconds": 30}' FROM public.user_profiles;
INSERT INTO public.scene_exports (scene_id, user_id, aspect_ratio_strategy, output_quality)
SELECT s.id, v.owner_id, 'letterbox', 'high'
FROM public.video_scenes AS s JOIN public.videos AS v ON v.id = s.video_id WHERE s.index = 0;
INSERT INTO public.persons (owner_id, display_name, query_embedding)
SELECT p.user_id, 'Grace', (SELECT array_agg(k / 512.0)::vector(512) FROM generate_series(1, 512) AS k)
FROM public.user_profiles AS p;
INSERT INTO public.person_reference_photos (owner_id, person_id, storage_path)
SELECT owner_id, id, owner_id || '/face.jpg' FROM public.persons;
INSERT INTO public.scene_person_embeddings (owner_id, video_id, scene_id, embedding)
SELECT v.owner_id, v.id, s.id, s.embedding_visual_clip
FROM public.video_scenes AS s JOIN public.videos AS v ON v.id = s.video_id;
