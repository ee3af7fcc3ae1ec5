"""Whether a track is the main sound, or commentary, audio description, music: by its flags, its language, its title.

Owns the words that titles have for it. Leaves the choice among several tracks to ``stream_choice``.
"""

import re
import unicodedata

from av.audio.stream import AudioStream
from av.stream import Disposition

from cluster.contracts.languages import primary_code

BESIDE_THE_MAIN_SOUND = (
    Disposition.comment
    | Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.karaoke
    | Disposition.lyrics
    | Disposition.clean_effects
    | Disposition.dependent
    | Disposition.non_diegetic
)
"""Commentary, audio description, music and effects without the words, and what is only mixed into another track."""
NO_WORDS, AUDIO_DESCRIPTION = "zxx", "qad"
"""Codes of languages: nothing that is said (ISO 639-2), and audio description in European broadcasts."""

_TITLED_BESIDE = re.compile(
    r"comment|kom+ent|coment[aá]rio|ком+ент|audio.?d[ei]s[ck]r[iy]|described video|descriptive|visually impaired"
    r"|h[oö]rfilm|syns?tolk|тифло"
    r"|코멘[터트]리|(?:화면|음성|감독) ?해설"
    r"|コメンタリ|解説|音声ガイド"
    r"|[评評][论論]|解[说說]|口述影像|[无無]障[碍礙]"
    r"|karaoke|music only|effects only|music ?(?:and|&|\+) ?effects|isolated score"
    r"|(?-i:(?<![A-Za-z0-9])(?:AD|M ?[&+] ?E)(?![A-Za-z0-9]))",
    re.IGNORECASE,
)


def is_main_sound(stream: AudioStream) -> bool:
    """Whether nothing says that a track is only beside the main sound."""
    if stream.disposition & BESIDE_THE_MAIN_SOUND or primary_code(stream.language) in {NO_WORDS, AUDIO_DESCRIPTION}:
        return False
    title = f"{stream.metadata.get('title', '')} {stream.metadata.get('handler_name', '')}"
    return _TITLED_BESIDE.search(unicodedata.normalize("NFKC", title)) is None
