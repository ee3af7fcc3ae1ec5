"""Pools of workers and what they run: `catalog` has their kinds, `pool` feeds them, `worker` is the Ray actor."""
