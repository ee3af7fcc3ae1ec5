"""Counts in sentences: ``1 video``, ``2 videos``."""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun; ``plural``: where it is more than an ``s`` at the end."""
    return f"{count} {form(count, noun, plural or f'{noun}s')}"


def form(count: int, singular: str, plural: str) -> str:
    """The form of a word that agrees with a count: ``is`` or ``are``."""
    return singular if count == 1 else plural
