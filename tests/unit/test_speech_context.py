"""Amount of sound that a Whisper is given."""

from hypothesis import given
from hypothesis import strategies as some

from cluster.models.speech_context import LONGEST_S, MEASURED, SHORT, STEP_S, WHOLE, context_rule


@given(some.floats(0.0, LONGEST_S))
def test_context_of_any_sound_holds_it(duration_s: float) -> None:
    context_s = SHORT.context_s(duration_s)
    assert duration_s <= context_s <= LONGEST_S
    assert context_s % STEP_S == 0
    assert context_s >= min(LONGEST_S, duration_s + SHORT.silence_s)
    assert WHOLE.context_s(duration_s) == LONGEST_S


def test_context_of_like_lengths_is_the_same() -> None:
    assert {SHORT.context_s(duration_s) for duration_s in (0.5, 2.0, 3.5, 5.0)} == {10.0}
    assert {SHORT.context_s(duration_s) for duration_s in (5.1, 7.0, 10.0)} == {15.0}


def test_context_of_an_unmeasured_model_is_whole() -> None:
    assert context_rule(1280, multilingual=True) == WHOLE
    assert all(context_rule(*size) == rule for size, rule in MEASURED.items())
