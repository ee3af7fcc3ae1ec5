"""The numbered migrations: plain SQL files that also run with psql; see ``cluster.store.postgres.migrations``.

Numbers 002 to 017 are the existing Heimdex's own migrations, which this repository does not have; 001 makes the tables
that these had made by 018. ``schema.sql`` is what all files make together: for readers, nothing runs it.
"""
