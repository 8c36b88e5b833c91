"""What a session has in its context: for token counts, compression and resumption.

Pure. Token figures: audio 25 tokens a second in both directions (Gemini Live pricing), text about four characters a
token. Each turn bills the whole context again.
"""

from __future__ import annotations

import random
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from sandbox.gemini.profiles import Profile
from sandbox.gemini.setup import Compression
from sandbox.gemini.wire import Json, Reject, refuse
from sandbox.mind import Mind

Role = Literal["user", "model"]
_HANDLES_KEPT = 2000


def text_tokens(text: str) -> int:
    """About four characters a token; 0 for an empty text."""
    return (len(text) + 3) // 4


@dataclass(frozen=True)
class Entry:
    """One piece of context."""

    role: Role
    text: str
    text_tokens: int = 0
    audio_tokens: int = 0


@dataclass
class Conversation:
    """The context of a session: what was said, oldest first. `fixed_tokens` is instruction and tools, never dropped."""

    fixed_tokens: int = 0
    entries: list[Entry] = field(default_factory=list)

    def add(self, role: Role, text: str, *, text_tokens: int = 0, audio_tokens: int = 0) -> None:
        """Appends one entry with what it costs."""
        self.entries.append(Entry(role, text, text_tokens, audio_tokens))

    def copy(self) -> Conversation:
        """A snapshot, for a resumption handle."""
        return Conversation(self.fixed_tokens, list(self.entries))

    def tokens(self) -> tuple[int, int]:
        """(text, audio) tokens in the context."""
        text = self.fixed_tokens + sum(entry.text_tokens for entry in self.entries)
        return text, sum(entry.audio_tokens for entry in self.entries)

    def compress(self, window: Compression) -> bool:
        """Cuts the oldest entries once past the trigger, down to the target; what is left starts with a user turn.

        Source: Live API, contextWindowCompression (sliding window): the cut lands at the beginning of a user turn and
        the system instruction stays.
        """
        if sum(self.tokens()) <= window.trigger_tokens:
            return False
        while self.entries and (sum(self.tokens()) > window.target_tokens or self.entries[0].role != "user"):
            self.entries.pop(0)
        return True


def usage(profile: Profile, context: Conversation, *, audio_ms: int, response_text_tokens: int, thought: str) -> Json:
    """The `usageMetadata` of a turn: prompt is the whole context before the reply. Zero counts are left out, details do
    not add up to the total and the total leaves thoughts out: all three as recorded."""
    text, audio = context.tokens()
    audio += profile.phantom_audio_tokens
    out_audio = audio_ms * profile.audio_tokens_per_second // 1000
    response = out_audio + response_text_tokens
    prompt = text + audio + profile.unexplained_prompt_tokens
    counts = {
        "promptTokenCount": prompt,
        "responseTokenCount": response,
        "totalTokenCount": prompt + response,
        "thoughtsTokenCount": text_tokens(thought) or profile.thought_tokens,
    }
    body: Json = {name: count for name, count in counts.items() if count}
    for name, details in (
        ("promptTokensDetails", (("TEXT", text), ("AUDIO", audio))),
        ("responseTokensDetails", (("TEXT", response_text_tokens), ("AUDIO", out_audio))),
    ):
        listed = [{"modality": kind, "tokenCount": count} for kind, count in details if count]
        if listed:
            body[name] = listed
    return body


@dataclass
class Saved:
    """What a resumption handle stands for. `age` is how long the session had run (s), over all its connections.

    The mind is shared, not copied: a mind remembers everything it was told, also after the handle was given out.
    """

    session: int
    model: str
    conversation: Conversation
    mind: Mind
    age: float


class Handles:
    """The resumption handles of a stand-in, over all sessions. Valid for a while after their session ended."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._saved: OrderedDict[str, Saved] = OrderedDict()
        self._ended: dict[int, float] = {}

    def issue(self, saved: Saved) -> str:
        """A new handle (uuid) for this state."""
        handle = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        self._saved[handle] = saved
        if len(self._saved) > _HANDLES_KEPT:
            self._saved.popitem(last=False)
        return handle

    def session_ended(self, number: int, now: float) -> None:
        """Starts the clock on the handles of session `number`."""
        self._ended[number] = now

    def redeem(self, handle: str, model: str, now: float, profile: Profile) -> Saved:
        """The state behind a handle.

        Raises Reject: unknown or expired handle (closed as the profile says), another model (1007).
        """
        saved = self._saved.get(handle)
        if saved is None:
            raise refuse(profile.bad_handle)
        ended = self._ended.get(saved.session, now)
        if now - ended > profile.handle_valid_seconds:
            raise refuse(profile.bad_handle)
        if saved.model != model:
            raise Reject(1007, "The model cannot be changed when a session is resumed.")
        return saved
