"""Finds scenes in Postgres, chooses the engine, checks what Postgres finds scenes by."""
