"""The events that processes of a cluster log: one name for each, the same in the code, the log and
docs/reference/events.md.

Leaves to ``cluster.security.event_log`` how a line looks. A test keeps docs/reference/events.md and the fields in step
with the code.
"""

from enum import StrEnum


class Event(StrEnum):
    """What happened. The value is the line's ``event``."""

    # Videos
    VIDEO_CLAIMED = "video claimed"
    VIDEO_READY = "video ready"
    VIDEO_FAILED = "video failed"
    STAGE_FAILED = "stage failed"
    STAGE_DEFECT = "stage failed unexpectedly"
    ATTEMPT_DEFECT = "attempt failed unexpectedly"
    RETRY_SCHEDULED = "retry scheduled"
    LEASE_LOST = "lease lost"
    LEASE_TAKEN_BACK = "lease taken back"
    LEASE_HANDED_BACK = "lease handed back"
    CONTAINER_TRUNCATED = "container ends early"
    SOUND_SKIPPED = "sound skipped"
    PICTURES_SKIPPED = "pictures skipped"
    LOOP_CUT = "loop cut"

    # Claiming
    CLAIM_FAILED = "claim failed"
    CLAIM_CUT_SHORT = "claim cut short"
    CLAIM_REFUSED = "claim refused"
    VIDEO_NOT_CLAIMED = "video cannot be claimed"
    LEASE_RECOVERY_FAILED = "lease recovery failed"
    LEASE_RECOVERY_REFUSED = "lease recovery refused"
    VIDEO_NOT_TAKEN_BACK = "video cannot be taken back"
    WORK_BLOCKED = "work blocked"
    WORK_UNBLOCKED = "work unblocked"

    # Schedulers
    SCHEDULER_STARTED = "scheduler started"
    SCHEDULER_STOPPED = "scheduler stopped"
    SCHEDULER_CRASHED = "scheduler crashed"
    SCHEDULER_RESTARTING = "scheduler is restarting"
    SCHEDULER_NOT_STOPPED = "scheduler not stopped"
    ACTORS_NOT_STOPPED = "actors not stopped"
    HEARTBEAT_FAILED = "heartbeat failed"
    LISTEN_FAILED = "LISTEN failed"
    ANNOUNCEMENT_FAILED = "announcement of workers failed"
    WITHDRAWAL_FAILED = "withdrawal of workers failed"
    HAND_BACK_FAILED = "hand-back failed"
    POSTGRES_RESTARTED = "Postgres restarted"
    POSTGRES_START_FAILED = "start of Postgres failed"
    RECOVERED = "recovered"

    # Workers
    WORKER_STARTED = "worker started"
    WORKER_LOST = "worker lost"
    WORKER_REPLACED = "worker replaced"
    WORKER_LOAD_FAILED = "worker failed to load"
    WORKER_CHECK_FAILED = "check of workers failed"
    CALL_ABANDONED = "call abandoned"

    # Writing
    WRITE_POSTPONED = "write postponed"
    WRITES_POSTPONED = "writes postponed"
    BATCH_REFUSED = "batch refused"

    # Maintenance
    DOWNLOAD_NOT_REMOVED = "download not removed"
    DOWNLOAD_SWEEP_FAILED = "sweep of downloads failed"
    PICTURES_NOT_REMOVED = "pictures not removed"
    PICTURE_SWEEP_FAILED = "sweep of pictures failed"
    RECORD_SWEEP_FAILED = "sweep of records failed"
    INDEX_SWEEP_FAILED = "sweep of the search index failed"
    INDEX_UPDATE_REFUSED = "index update refused"
    EMBEDDING_JOB_STARTED = "embedding job started"
    EMBEDDING_JOB_ENDED = "embedding job ended"
    EMBEDDING_JOB_FAILED = "run of embedding jobs failed"
    EMBEDDING_JOB_NOT_RECORDED = "end of embedding job not recorded"

    # HTTP and search
    STORE_UNAVAILABLE = "store unavailable"
    REQUEST_FAILED_LATE = "abandoned request failed"
    KEYS_FETCH_FAILED = "fetch of the issuer's keys failed"
    SEARCH_STOPPED = "search stopped"
    SEARCH_NOT_RECORDED = "search not recorded"
    MODEL_NOT_PRELOADED = "model not loaded ahead"

    # The log
    AUDIT_LINE_LOST = "line of the audit log not written"
    LOG_FILE_UNAVAILABLE = "log file unavailable"
    LIBRARY_MESSAGE = "library message"
