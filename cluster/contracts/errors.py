"""Every error that the cluster raises on purpose.

::

    HeimdexError
    ├── InvalidVideo            the video itself is at fault: never retried, the sentence names what is wrong
    │   └── DocumentRefused         the search engine will not have what was found in it
    ├── TransientFailure        trying again may help: retried with back-off
    │   ├── Postponed               the source is not ready: the video waits, at the cost of no attempt
    │   │   ├── SourceBusy              its server asks to come back later
    │   │   ├── SourceChanging          the file is still being written
    │   │   └── NoRoom                  the file does not fit on the disk for downloads now
    │   ├── SourceSlow              the source sends less than it must
    │   ├── DecoderBusy             too many pictures are being decoded
    │   └── Interrupted             the cluster's doing and not the video's: uses up none of its attempts
    │       ├── DatabaseUnavailable     Postgres is away
    │       │   └── StatementTimeout        a statement ran longer than its session allows
    │       ├── SearchUnavailable       the search engine beside Postgres is away, or has no index
    │       │   └── EngineTimeout           it took longer than it was given
    │       ├── NodeLost                a node, a scheduler or what they held died
    │       ├── NoSpace                 a disk of results or the object store is full
    │       └── ModelChanged            scenes are searched by other models now than those that embedded them
    ├── WorkerCrash             the stage took its worker's process down: retried, at last alone
    │   ├── WorkerLost              the process died
    │   ├── StageTimeout            it overran its deadline and was killed
    │   └── DeviceFailure           a GPU reported an error; the process must end
    ├── MalformedResult         a stage answered something else than it promises
    ├── SubmissionRefused       nothing of a submission was enqueued
    │   ├── TooManySubmissions      its owner has submitted as much as allowed
    │   │   └── QuotaExceeded           a quota of its owner is used up
    │   ├── SubmissionChanged       its ids belong to other videos already
    │   └── RefusedByDatabase       a rule of the database forbids the row: the owner is unknown there, or the like
    ├── SearchRefused           a search asks for more than one may cost; the sentence says what is allowed
    ├── SearchTooSlow           a search was stopped at its time limit
    ├── LeaseLost               another scheduler owns the video now: stop, discard, write nothing
    └── ConfigurationError      refuse to start; the sentence says what to set

Callers branch on the type, never on the text. The text is for people: one sentence, no traceback.
"""


class HeimdexError(Exception):
    """The root: catch this to catch whatever the cluster raises on purpose."""


class InvalidVideo(HeimdexError):
    """The video cannot be processed and never will be; the message says what is wrong with the file."""


class DocumentRefused(InvalidVideo):
    """The search engine will not have one of the video's documents, and never will; the message says why."""


class TransientFailure(HeimdexError):
    """Something around the video failed (network, disk, database); another attempt may succeed."""


class Postponed(TransientFailure):
    """The video's source is not ready yet; asking again before ``retry_after_s`` seconds are over is of no use."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SourceBusy(Postponed):
    """The server that the video is on asks to come back later."""


class SourceChanging(Postponed):
    """The video's file is still being written, or was while it was read."""


class NoRoom(Postponed):
    """The video's file does not fit on the disk for downloads, beside what its owner and others have there."""


class SourceSlow(TransientFailure):
    """The video's source sends less than the least rate that downloads must have."""


class DecoderBusy(TransientFailure):
    """Too many pictures are being decoded; this one was not."""


class Interrupted(TransientFailure):
    """The cluster failed around the video; that costs the video none of its attempts."""


class DatabaseUnavailable(Interrupted):
    """Postgres cannot be reached or closed the connection."""


class SearchUnavailable(Interrupted):
    """The search engine cannot be reached, takes nothing, or has no index yet."""


class StatementTimeout(DatabaseUnavailable):
    """A statement ran longer than its session allows, and was stopped by Postgres."""


class EngineTimeout(SearchUnavailable):
    """The search engine did not answer within the time that the search may take."""


class NodeLost(Interrupted):
    """A node or a scheduler died, or a worker that held data of a video it did not work on."""


class NoSpace(Interrupted):
    """A disk that results are written to, or the object store, is full."""


class ModelChanged(Interrupted):
    """Scenes are searched by other models than those that embedded these: they are to be embedded again."""


class WorkerCrash(HeimdexError):
    """The process that ran a stage is gone, and what it ran is suspected to be why."""


class WorkerLost(WorkerCrash):
    """The process that ran a stage died before it answered."""


class StageTimeout(WorkerCrash):
    """A stage ran past its deadline and its worker was killed."""


class DeviceFailure(WorkerCrash):
    """A GPU reported an error: nothing in this process can use it any more."""


class MalformedResult(HeimdexError):
    """A stage answered something else than it promises: a defect, found where it was made."""


class SubmissionRefused(HeimdexError):
    """Nothing of a submission was enqueued."""


class TooManySubmissions(SubmissionRefused):
    """The owner has submitted as much as may be submitted within a minute; after ``retry_after_s`` more may be."""

    def __init__(self, message: str, retry_after_s: int = 60) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceeded(TooManySubmissions):
    """A quota of the owner is used up; the message says which."""


class SubmissionChanged(SubmissionRefused):
    """The ids of the submission belong to other videos already."""


class RefusedByDatabase(SubmissionRefused):
    """A rule of the database forbids the videos; the message says which, and what to do."""


class SearchRefused(HeimdexError):
    """A search has more terms, or shorter beginnings, than one may have; the message says what is allowed."""


class SearchTooSlow(HeimdexError):
    """A search was stopped at its time limit; the message says what to ask for instead."""


class LeaseLost(HeimdexError):
    """The lease token no longer matches: its holder must stop and write nothing."""


class ConfigurationError(HeimdexError):
    """A setting, a model or a part of the machine is missing or wrong; the message says how to fix it."""
