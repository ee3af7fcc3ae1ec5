"""The HTTP side: a Ray Serve deployment of a FastAPI application; it meets the actors only in Postgres."""
