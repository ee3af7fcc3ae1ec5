"""Decode what strangers send, in processes that hold no secrets and can open nothing: begin with `process`."""
