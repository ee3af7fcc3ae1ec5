"""Starts and stops the cluster: `launch` is the one composition root, `plan` turns settings and hardware into
workers."""
