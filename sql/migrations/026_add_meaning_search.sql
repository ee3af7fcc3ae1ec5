-- What finds scenes by meaning, in spite of a misspelling, and by tag.

-- One embedding of what a scene says and shows, per scene and text model, beside that of its picture (023).
CREATE TABLE IF NOT EXISTS scene_meanings (
    scene_id  uuid        NOT NULL REFERENCES video_scenes (id) ON DELETE CASCADE,
    model     text        NOT NULL,
    embedding vector(384) NOT NULL,
    PRIMARY KEY (scene_id, model)
);

CREATE INDEX IF NOT EXISTS idx_scene_meanings_cosine
    ON scene_meanings USING hnsw (embedding vector_cosine_ops);

-- Which models' vectors there are is asked at every start.
CREATE INDEX IF NOT EXISTS idx_scene_meanings_model ON scene_meanings (model);
CREATE INDEX IF NOT EXISTS idx_scene_embeddings_model ON scene_embeddings (model);

CREATE INDEX IF NOT EXISTS idx_video_scenes_tags ON video_scenes USING gin (tags);

-- Every word that was said or seen in an owner's scenes, with its trigrams: a word that is not here is misspelt, and
-- the one that shares most trigrams with it was meant. (pg_trgm is not installed everywhere.)
CREATE TABLE IF NOT EXISTS search_vocabulary (
    owner_id uuid   NOT NULL,
    word     text   NOT NULL,
    trigrams text[] NOT NULL,
    PRIMARY KEY (owner_id, word)
);

CREATE INDEX IF NOT EXISTS idx_search_vocabulary_trigrams ON search_vocabulary USING gin (trigrams);

DO $$
DECLARE
    outsider text;
BEGIN
    FOR outsider IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE scene_meanings, search_vocabulary FROM %I', outsider);
    END LOOP;
END
$$;
