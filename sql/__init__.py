"""The numbered migrations: plain SQL files that also run with psql; see ``cluster.store.postgres.migrations``."""
