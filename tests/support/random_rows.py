"""Videos, searches and people for the metrics' tests: random ones, and how they get into a database."""

import random
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection, sql

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
STAGES = [None, "downloading", "metadata", "transcription", "scene_detection", "indexing"]


@dataclass(frozen=True)
class Video:
    id: UUID
    owner_id: UUID
    storage_path: str
    filename: str
    status: str
    duration_s: float | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime
    queued_at: datetime | None
    processing_started_at: datetime | None
    processing_finished_at: datetime | None
    processing_duration_ms: int | None
    processing_stage: str | None

    @property
    def ended_at(self) -> datetime:
        return self.processing_finished_at or self.updated_at

    @property
    def queue_s(self) -> float | None:
        if self.queued_at is None or self.processing_started_at is None:
            return None
        return (self.processing_started_at - self.queued_at).total_seconds()

    @property
    def rtf(self) -> float | None:
        if self.processing_duration_ms is None or not self.duration_s:
            return None
        return self.processing_duration_ms / 1000 / self.duration_s


@dataclass(frozen=True)
class Search:
    id: UUID
    user_id: UUID
    video_id: UUID | None
    query_text: str
    results_count: int | None
    latency_ms: int | None
    created_at: datetime


@dataclass(frozen=True)
class World:
    now: datetime
    names: dict[UUID, str | None]
    """Those who have a profile."""
    videos: list[Video]
    searches: list[Search]

    def insert(self, connection: Connection[Any]) -> None:
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO user_profiles (user_id, full_name) VALUES (%s, %s)", self.names.items())
            for table, record, rows in (
                ("videos", Video, self.videos),
                ("search_queries", Search, self.searches),
            ):
                columns = [field.name for field in fields(record)]
                statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                    sql.Identifier(table),
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
                )
                cursor.executemany(statement, [astuple(row) for row in rows])

    def within(self, moment: datetime | None, days: int) -> bool:
        return moment is not None and self.now - days * DAY <= moment <= self.now


class RandomWorld:
    """Rows with ties, nulls, copied finish times, and moments on, just before and just after every edge."""

    def __init__(self, seed: int, now: datetime) -> None:
        self._random = random.Random(seed)
        self._now = now

    def make(self, users: int, videos: int, searches: int) -> World:
        people = [self._uuid() for _ in range(users)]
        names = {person: self._random.choice([None, f"Person {person}"]) for person in people if self._often()}
        made = [self._video(self._random.choice(people)) for _ in range(videos)]
        ids = [None, *(video.id for video in made)]
        asked = [self._search(self._random.choice(people), self._random.choice(ids)) for _ in range(searches)]
        return World(self._now, names, made, asked)

    def _often(self) -> bool:
        return self._random.random() < 0.8

    def _uuid(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def _moment(self) -> datetime:
        midnight = self._now.replace(hour=0, minute=0, second=0, microsecond=0)
        days = self._random.choice([0, 1, 7, 30, 365])
        return self._random.choice(
            [
                self._now - days * DAY + self._random.choice([-TICK, timedelta(0), TICK]),
                midnight - self._random.randrange(40) * DAY + self._random.choice([-TICK, timedelta(0)]),
                self._now - self._random.random() * 40 * DAY,
            ]
        )

    def _video(self, owner: UUID) -> Video:
        status = self._random.choice(["PENDING", "PROCESSING", "READY", "READY", "READY", "FAILED"])
        finished = self._moment() if self._often() else None
        measured = self._random.choice([0, 1500, 1500, self._random.randrange(10**7)]) if self._often() else None
        started = None if finished is None or measured is None else finished - measured * SECOND / 1000
        waited = self._random.choice([-5, 0, self._random.random() * 1000]) * SECOND
        name = f"{self._random.randrange(10**6)}.mp4"
        return Video(
            id=self._uuid(),
            owner_id=owner,
            storage_path=f"file:///{name}",
            filename=name,
            status=status,
            duration_s=self._random.choice([None, 0.0, 60.0, self._random.random() * 5000]),
            error_message="broken" if status == "FAILED" else None,
            created_at=self._moment(),
            updated_at=self._moment(),
            queued_at=started - waited if started and self._often() else None,
            processing_started_at=started,
            processing_finished_at=finished,
            processing_duration_ms=measured,
            processing_stage=self._random.choice(STAGES),
        )

    def _search(self, user: UUID, video: UUID | None) -> Search:
        latency = self._random.choice([None, 0, 20, self._random.randrange(3000)])
        return Search(
            self._uuid(),
            user,
            video,
            "a red ball",
            self._random.choice([None, 0, 9]),
            latency,
            self._moment(),
        )
