-- Which models' vectors are searched, which are being made beside them, and which were searched before.

-- A vector says by its model's key (023, 026) which of them made it; a key does not say how to load that model, so
-- ``name`` and ``pretrained`` do, as the settings spell them.
CREATE TABLE IF NOT EXISTS search_models (
    space      text        NOT NULL CHECK (space IN ('meaning', 'picture')),
    model      text        NOT NULL,
    name       text        NOT NULL,
    pretrained text,
    state      text        NOT NULL CHECK (state IN ('active', 'filling', 'previous')),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (space, model)
);

-- A query is compared with the vectors of one model.
CREATE UNIQUE INDEX IF NOT EXISTS idx_search_models_active ON search_models (space) WHERE state = 'active';
CREATE UNIQUE INDEX IF NOT EXISTS idx_search_models_filling ON search_models (space) WHERE state = 'filling';
CREATE UNIQUE INDEX IF NOT EXISTS idx_search_models_previous ON search_models (space) WHERE state = 'previous';

DO $$
DECLARE
    outsider text;
BEGIN
    FOR outsider IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON TABLE search_models FROM %I', outsider);
    END LOOP;
END
$$;
