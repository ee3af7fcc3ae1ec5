"""What the frames of a caught exception hold."""

import traceback


def clear_traceback_frames(error: BaseException) -> None:
    """Free what the frames of the error's traceback hold, and of the errors that led to it.

    A frame that keeps its own exception, in a list perhaps, is freed by the garbage collector only, which does not come
    as long as a process has little to do: until then, whole videos' parts would stay in the object store.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:  # an error raised again from one that it led to is its own cause
        seen.add(id(cause))
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
