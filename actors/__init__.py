"""What moves a video along its way: the scheduler, the pools of workers, and the stages they run.

Meets ``serve_app`` only in Postgres. ``actors.stages`` knows nothing of Ray.
"""
