"""Transcripts and captions as files for players, people and programs. No database, no HTTP."""
