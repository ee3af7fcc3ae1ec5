"""How much sound a Whisper's encoder is given: 30 s, as in training, or less for models that were measured with less.

Owns the measured rules and their figures. Computing costs with the context, whatever is in it, so a short utterance in
30 s pays mostly for silence.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_S = 30.0
"""The context in training (Radford et al., 2022, section 2.2); there is no position beyond it."""
STEP_S = 5.0
"""Contexts are multiples of it, so that utterances of like length have the same one and can share a batch."""


@dataclass(frozen=True)
class ContextRule:
    """At least ``least_s``, and at least ``silence_s`` behind the sound.

    With less silence the decoder does not find the end of the text: it says the last phrase again.
    """

    least_s: float
    silence_s: float

    def context_s(self, duration_s: float) -> float:
        """The context for ``duration_s`` of sound: a multiple of ``STEP_S``, at most ``LONGEST_S``."""
        wanted_s = max(self.least_s, duration_s + self.silence_s)
        return min(LONGEST_S, STEP_S * math.ceil(wanted_s / STEP_S))


WHOLE = ContextRule(least_s=LONGEST_S, silence_s=0.0)
"""The rule of every model that was not measured with less: never worse than in training."""
SHORT = ContextRule(least_s=10.0, silence_s=5.0)
MEASURED: Mapping[tuple[int, bool], ContextRule] = {(384, False): SHORT, (512, True): SHORT}
"""By the encoder's width and whether it is multilingual, which identify the sizes of Whisper, wherever the weights
were loaded from. Words other than the reference, int8, beams of 5, 39 utterances of five readers, with doubtful ones
recognised again in 30 s:

- tiny.en (384): 0.120 with 30 s, 0.121 with ``SHORT``, 0.123 of faster-whisper file by file (2026-11-29). With each
  at 0.93 and 1.07 of its speed and with noise 15 dB below it as well, the sound followed by silence instead of zeros:
  0.137, 0.143 and 0.140 (2026-11-28).
- base (512, multilingual; the reference is its own), followed by silence: 0.040 with 30 s, 0.030 with ``SHORT``
  (2026-11-28).
"""


def context_rule(width: int, multilingual: bool) -> ContextRule:
    """The rule for a Whisper whose encoder is ``width`` numbers wide."""
    return MEASURED.get((width, multilingual), WHOLE)
