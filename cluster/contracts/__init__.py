"""The vocabulary that every part shares: stages, videos, media, results, errors.

Plain data and plain exceptions. Nothing in here imports ray, psycopg, fastapi or torch, so that a stage runs
and is tested in an ordinary Python process.
"""
