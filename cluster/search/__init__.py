"""Search for commands and the HTTP side: `service` fuses the lists that `cluster.store` finds."""
