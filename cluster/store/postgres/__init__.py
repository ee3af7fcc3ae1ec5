"""Postgres itself: connections, the embedded server, migrations, roles, the audit log, SQL that all rooms share."""
