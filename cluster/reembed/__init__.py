"""Embeds again what is stored: `run` has the order of things, `passes` the work on Ray Data, `worker` one process of
it."""
