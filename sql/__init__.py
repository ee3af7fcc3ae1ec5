"""The numbered migrations: plain SQL files that also run with psql; see ``cluster.store.migrations``."""
