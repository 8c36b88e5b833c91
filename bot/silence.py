"""Who should be speaking, and what is done when nobody does. Pure: shown the line again and again, tells what to do.

On the bot's turn (the caller has spoken, a function runs, or the model's connection is gone) a caller hears at most
`FILL_SECONDS` of silence before a short phrase, and waits at most `GIVE_UP_SECONDS` for the model, which is asked once
more in between. On the caller's turn silence is answered by a question, and in the end by a goodbye. All moments are
monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LOOK_SECONDS = 0.2
"""The line is looked at this often for who speaks."""
FILL_SECONDS = 3.0
"""Silence on the bot's turn that is filled."""
FILL_GAPS = (3.0, 5.0)
"""Silence before the first filler of one wait, and before each that follows."""
NUDGE_SECONDS = 5.0
"""So long the model owes an answer before it is asked once more."""
LISTEN_SECONDS = 2.0
"""It is not asked when the caller has spoken so recently that its own answer may be on the way."""
GIVE_UP_SECONDS = 8.0
"""So long the model may owe an answer."""
LAST_FILL_SECONDS = 6.0
"""A filler so late would be followed at once by the words that end the call."""
GRACE_SECONDS = 3.0
"""A model whose connection has just come back, or whose caller has just spoken on, gets this long at least."""
GRACES = 2
"""How often in one wait. A caller who says hello again and again is not kept for ever by saying it."""
TOOL_SECONDS = 90.0
"""While a function runs the model owes nothing; the tool layer's own last time-out is 75 s."""
SPEECH_MS = 300.0
"""Voice of the caller that counts as having spoken; less is a cough."""
PAUSE_SECONDS = 1.5
"""A pause of the caller after which an answer is due: who speaks again then has waited all along."""
BREATH_SECONDS = 0.8
"""Nothing is done while somebody speaks, or has until a moment ago."""
ECHO_SECONDS = 0.25
"""The bot's own voice may come back from the caller's side this long after it."""

Action = Literal["one_moment", "nudge", "give_up", "still_there", "goodbye"]


@dataclass(frozen=True, slots=True)
class Sight:
    """What can be seen of a call at one moment.

    `bot_sounds`: audio of the bot, ready-made words included, is on its way to the caller's ear, or pauses for a
    moment. `voiced_ms`: voice of the caller since the call began. `model_spoke_s`: when audio of the model last came;
    `model_acted_s`: when it last did anything for the conversation, were it only to write down what it heard.
    `model_owes`: it was told or asked something and has not answered, or has begun a turn and not ended it.
    """

    line_open: bool
    bot_sounds: bool
    voiced_ms: float
    model_spoke_s: float | None
    model_acted_s: float | None
    model_owes: bool
    tool_runs: bool
    connected: bool


class Silence:
    """Watches the silences of one call; `see` is to be called a few times a second.

    `caller_seconds` of silence on the caller's turn are answered by a question, at most `questions` times in a row.
    """

    def __init__(self, now_s: float, *, caller_seconds: float, questions: int) -> None:
        self._caller_seconds = caller_seconds
        self._most_questions = questions
        self._questions = 0
        self._over = False
        self._quiet_since = now_s
        self._bot_sounded_at = float("-inf")
        self._voiced_ms = 0.0
        self._voiced_at = float("-inf")
        self._speech_ms = 0.0
        self._model_spoke_s: float | None = None
        self._model_acted_s: float | None = None
        self._due_since: float | None = None
        self._owed_since = now_s
        self._tool_since: float | None = None
        self._away = False
        self._speaks_again = False
        self._graces = 0
        self._nudged = False
        self._fills = 0

    @property
    def caller_spoke_last(self) -> bool:
        """Whether the caller has said something that the model has not answered by a sound."""
        return self._speech_ms >= SPEECH_MS

    def caller_cut_in(self, now_s: float) -> None:
        """The caller spoke on over the bot until it was cut off: an answer is due."""
        self._speech_ms = SPEECH_MS
        self._voiced_at = now_s

    def see(self, now_s: float, sight: Sight) -> Action | None:
        """What to do now. After ``give_up`` and ``goodbye`` nothing more comes.

        ``one_moment`` and ``still_there`` are phrases to say, ``nudge`` asks the model once more, ``give_up`` and
        ``goodbye`` end the call in words.
        """
        if self._over:
            return None
        voice = self._listen(now_s, sight)
        if not sight.line_open:
            self._quiet_since = self._owed_since = now_s
            return None
        if not (self.caller_spoke_last or sight.model_owes or sight.tool_runs or not sight.connected):
            self._due_since = None
            self._begin_wait()
            return self._wait_for_caller(now_s)
        if self._due_since is None:
            self._due_since = self._owed_since = now_s
        self._hold_clocks(now_s, sight, voice)
        return self._wait_for_bot(now_s, sight)

    def _listen(self, now_s: float, sight: Sight) -> bool:
        """Take note of who is heard and who acts; whether the caller speaks."""
        if sight.model_acted_s != self._model_acted_s:
            self._model_acted_s = sight.model_acted_s
            self._owed_since = now_s
        if sight.model_spoke_s != self._model_spoke_s:
            self._model_spoke_s = sight.model_spoke_s
            self._speech_ms = 0.0
            self._owed_since = now_s
            self._questions = 0
            self._begin_wait()
        voice_ms, self._voiced_ms = sight.voiced_ms - self._voiced_ms, sight.voiced_ms
        if sight.bot_sounds:
            self._quiet_since = self._bot_sounded_at = now_s
            return False
        if voice_ms <= 0:
            return False
        self._quiet_since = now_s
        if now_s - self._bot_sounded_at < ECHO_SECONDS:
            return False
        if now_s - self._voiced_at >= PAUSE_SECONDS:
            # A new utterance: the first of this turn, or one more of a caller who waits.
            self._speaks_again = self.caller_spoke_last
            self._graces += self._speaks_again
            if not self._speaks_again:
                self._speech_ms = 0.0
        self._voiced_at = now_s
        self._speech_ms += voice_ms
        if self.caller_spoke_last:
            self._questions = 0
        return True

    def _begin_wait(self) -> None:
        self._fills = self._graces = 0
        self._nudged = self._speaks_again = False

    def _hold_clocks(self, now_s: float, sight: Sight, voice: bool) -> None:
        """The model owes nothing yet while it is heard, while the caller speaks, and while a function runs."""
        if not sight.tool_runs:
            self._tool_since = None
        elif self._tool_since is None:
            self._tool_since = now_s
        works = self._tool_since is not None and now_s - self._tool_since < TOOL_SECONDS
        is_heard = sight.bot_sounds and not self._fills
        if works or is_heard or (voice and sight.connected and not self._speaks_again):
            self._owed_since = now_s
        if voice and self._speaks_again and sight.connected:
            self._grant(now_s)
        if self._away and sight.connected:
            self._graces += 1
            self._grant(now_s)
        self._away = not sight.connected

    def _grant(self, now_s: float) -> None:
        if self._graces <= GRACES:
            self._owed_since = max(self._owed_since, now_s - GIVE_UP_SECONDS + GRACE_SECONDS)

    def _wait_for_bot(self, now_s: float, sight: Sight) -> Action | None:
        assert self._due_since is not None
        quiet = now_s - self._quiet_since
        owed = now_s - self._owed_since
        may_ask = sight.connected and not (sight.tool_runs or self._nudged)
        if may_ask and owed >= NUDGE_SECONDS and now_s - self._voiced_at >= LISTEN_SECONDS:
            # Also while a filler plays: the answer then follows it.
            self._nudged = True
            return "nudge"
        if quiet < BREATH_SECONDS:
            return None
        if owed >= GIVE_UP_SECONDS:
            self._over = True
            return "give_up"
        gap = FILL_GAPS[min(self._fills, len(FILL_GAPS) - 1)]
        if quiet >= gap and now_s - self._due_since >= FILL_SECONDS and owed < LAST_FILL_SECONDS:
            self._fills += 1
            self._quiet_since = now_s
            return "one_moment"
        return None

    def _wait_for_caller(self, now_s: float) -> Action | None:
        if now_s - self._quiet_since < self._caller_seconds:
            return None
        self._quiet_since = now_s
        if self._questions < self._most_questions:
            self._questions += 1
            return "still_there"
        self._over = True
        return "goodbye"
