-- What makes scenes searchable: the whole transcript, the words of a scene as text index, its picture as vector.

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE IF NOT EXISTS video_transcripts (
    video_id   uuid        PRIMARY KEY REFERENCES videos (id) ON DELETE CASCADE,
    language   text,
    model      text        NOT NULL,
    word_count integer     NOT NULL CHECK (word_count >= 0),
    segments   jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

ALTER TABLE video_scenes ADD COLUMN IF NOT EXISTS tags text[];
ALTER TABLE video_scenes ADD COLUMN IF NOT EXISTS key_frame_s double precision;
ALTER TABLE video_scenes ADD COLUMN IF NOT EXISTS key_frame_url text;
ALTER TABLE video_scenes ADD COLUMN IF NOT EXISTS speech_model text;

-- Words both as spoken ('simple') and stemmed in the transcript's language, so that either way of asking finds them.
ALTER TABLE video_scenes ADD COLUMN IF NOT EXISTS text_index tsvector;

CREATE INDEX IF NOT EXISTS idx_video_scenes_text_index ON video_scenes USING gin (text_index);

-- One embedding per scene and model: a second model's vectors can be written beside the first one's.
CREATE TABLE IF NOT EXISTS scene_embeddings (
    scene_id  uuid        NOT NULL REFERENCES video_scenes (id) ON DELETE CASCADE,
    model     text        NOT NULL,
    embedding vector(512) NOT NULL,
    PRIMARY KEY (scene_id, model)
);

CREATE INDEX IF NOT EXISTS idx_scene_embeddings_cosine
    ON scene_embeddings USING hnsw (embedding vector_cosine_ops);
