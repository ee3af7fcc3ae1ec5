"""Notes which admin read whose figures: one user's every time, those of all users once an hour for each address."""

import time
from uuid import UUID

from fastapi import Request

from cluster.contracts.audit import Action, ObjectKind, admin
from cluster.store.postgres.audit_log import note
from cluster.store.postgres.connections import Pool

AGAIN_AFTER_S = 3600.0
"""An admin page asks for the same figures every few seconds."""


class AdminReads:
    """The notes of one replica. Safe to share between threads: at worst an address is noted twice."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._noted_s: dict[tuple[UUID, str], float] = {}

    def note(self, request: Request, admin_id: UUID) -> None:
        """The admin is about to be answered. Raises DatabaseUnavailable: then nothing may be answered."""
        whose = request.path_params.get("user_id")
        if whose is not None:
            note(self._pool, admin(admin_id), Action.READ, ObjectKind.OWNER, [UUID(whose)])
            return
        key, now_s = (admin_id, request.url.path), time.monotonic()
        if now_s - self._noted_s.get(key, -AGAIN_AFTER_S) >= AGAIN_AFTER_S:
            note(self._pool, admin(admin_id), Action.READ, ObjectKind.FIGURES, [request.url.path])
            self._noted_s[key] = now_s
