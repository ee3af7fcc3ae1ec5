"""Every error that the cluster raises on purpose.

::

    HeimdexError
    ├── InvalidVideo            the video itself is at fault: never retried, the sentence names what is wrong
    ├── TransientFailure        trying again may help: retried with back-off
    │   ├── DatabaseUnavailable     Postgres is away
    │   ├── StageTimeout            a stage overran its deadline and was killed
    │   └── DeviceFailure           a GPU reported an error; its process must end
    ├── WorkerLost              the process or node that ran a stage died under it
    ├── LeaseLost               another scheduler owns the video now: stop, discard, write nothing
    └── ConfigurationError      refuse to start; the sentence says what to set

Callers branch on the type, never on the text. The text is for people: one sentence, no traceback.
"""


class HeimdexError(Exception):
    """The root: catch this to catch whatever the cluster raises on purpose."""


class InvalidVideo(HeimdexError):
    """The video cannot be processed and never will be; the message says what is wrong with the file."""


class TransientFailure(HeimdexError):
    """Something around the video failed (network, disk, database); another attempt may succeed."""


class DatabaseUnavailable(TransientFailure):
    """Postgres cannot be reached or closed the connection."""


class StageTimeout(TransientFailure):
    """A stage ran past its deadline and its worker was killed."""


class DeviceFailure(TransientFailure):
    """A GPU reported an error: nothing in this process can use it any more."""


class WorkerLost(HeimdexError):
    """The process or the node that ran a stage died before it answered."""


class LeaseLost(HeimdexError):
    """The lease token no longer matches: whoever holds this must stop and write nothing."""


class ConfigurationError(HeimdexError):
    """A setting, a model or a part of the machine is missing or wrong; the message says how to mend it."""
