"""Languages as people write them: read as codes that speech models know, or refused with a list of these."""

import re

import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES
from pydantic import ValidationError

from cluster.contracts.languages import SPOKEN, language_code, language_pattern
from cluster.contracts.videos import Submission

REFUSED = ["klingon", "english", "", "tlh", "und", "en-", "en US", "e", "-en", "42", "en\nde"]


def test_spoken_languages_are_the_speech_models() -> None:
    assert sorted(SPOKEN) == sorted(_LANGUAGE_CODES)


@pytest.mark.parametrize(
    ("written", "code"),
    [("en", "en"), ("EN", "en"), ("en-US", "en"), ("en_gb", "en"), (" en ", "en"), ("eng", "en"), ("ger", "de"),
     ("deu", "de"), ("zh-Hant-TW", "zh"), ("cmn", "zh"), ("yue", "yue"), ("haw", "haw"), ("iw", "he"), ("jv", "jw")],
)  # fmt: skip
def test_language_code_reads_what_people_write(written: str, code: str) -> None:
    assert language_code(written) == code
    assert Submission(uri="a.mp4", language=written).language == code


@pytest.mark.parametrize("written", REFUSED)
def test_language_code_refuses_others_and_lists_all(written: str) -> None:
    with pytest.raises(ValueError, match="no language that can be transcribed") as raised:
        language_code(written)
    assert ", ".join(SPOKEN) in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValidationError, match="no language that can be transcribed"):
        Submission(uri="a.mp4", language=written)


def test_language_pattern_is_what_is_read() -> None:
    pattern = re.compile(language_pattern())
    assert all(pattern.search(written) for code in SPOKEN for written in (code, code.upper(), f"{code}-XX"))
    assert not any(pattern.search(written) for written in [*REFUSED, "xx", "q", "enx"])
