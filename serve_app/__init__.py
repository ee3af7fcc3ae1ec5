"""The HTTP side: a Ray Serve deployment around a FastAPI application. It meets the actors only in Postgres."""
