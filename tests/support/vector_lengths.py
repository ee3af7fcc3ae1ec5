"""Lengths of made-up models' vectors, where tests do not choose otherwise: as those of the CPU's defaults."""

EMBEDDING_DIM = 512
MEANING_DIM = 384
