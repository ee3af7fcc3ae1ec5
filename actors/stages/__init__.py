"""The stages as plain classes: no Ray, no Postgres, no HTTP, so each runs and is tested in an ordinary process."""
