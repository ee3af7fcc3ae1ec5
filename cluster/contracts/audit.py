"""Who changes something, what is written down of it, and in which words."""

import getpass
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from cluster.contracts.quotas import SubmissionLimits


class ActorKind(StrEnum):
    """The role of an actor: an owner on videos of their own, an admin, an account of a machine by a command."""

    OWNER = "owner"
    ADMIN = "admin"
    COMMAND = "command"


_IN_WORDS = {
    ActorKind.OWNER: "by its owner",
    ActorKind.ADMIN: "by an admin",
    ActorKind.COMMAND: "on the command line",
}


@dataclass(frozen=True)
class Actor:
    """Who acts: ``name`` is a user's id, or the machine's account that runs a command.

    ``limits``: what an owner may ask for; None: what is asked for does not count as the owner's.
    """

    kind: ActorKind
    name: str
    limits: SubmissionLimits | None = None

    @property
    def in_words(self) -> str:
        """After a verb: "by its owner"."""
        return _IN_WORDS[self.kind]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


class Action(StrEnum):
    """What is written down in the audit log."""

    CANCEL = "cancel"
    FORGET = "forget"
    ERASE = "erase"
    RETRY = "retry"
    REPROCESS = "reprocess"
    TAKE_OVER = "take_over"
    READ = "read"
    EMBED = "embed"
    CHANGE_MODELS = "change_models"
    DROP_VECTORS = "drop_vectors"
    CHANGE_SETTINGS = "change_settings"


class ObjectKind(StrEnum):
    """What an action is done to."""

    VIDEO = "video"
    OWNER = "owner"
    FIGURES = "figures"
    JOB = "job"
    MODEL = "model"
    SETTING = "setting"


def owner(user_id: UUID, limits: SubmissionLimits) -> Actor:
    """A user who acts on videos of their own."""
    return Actor(ActorKind.OWNER, str(user_id), limits)


def admin(user_id: UUID) -> Actor:
    """An admin."""
    return Actor(ActorKind.ADMIN, str(user_id))


def command_line() -> Actor:
    """The account that runs this process."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        name = "unknown"
    return Actor(ActorKind.COMMAND, name)
