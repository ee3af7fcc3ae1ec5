"""How long the vectors of made-up models are, where tests do not choose otherwise: as those of the CPU's defaults."""

EMBEDDING_DIM = 512
MEANING_DIM = 384
