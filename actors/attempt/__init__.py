"""One attempt at one video: `pipeline` is its way as one coroutine, begin there."""
