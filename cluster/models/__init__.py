"""Models that stages hold in memory: how each is found, loaded and asked. No Ray, no database in here."""
