"""OpenSearch beside Postgres: documents, searches, following the outbox, rebuilding and comparing an index."""
