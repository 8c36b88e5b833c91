"""One Live session, without its socket: fed client messages and the time, it says what to send and when.

Pure (sans-I/O). Voice and ear are asked through the outbox; the mind and the turn detector are called directly. This
module is the client's side: setup, what the caller says or types, history, the ageing of the session. The model's side
is `sandbox.gemini.turns`. There is no language model here: the mind is a stand-in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import soxr

from sandbox.gemini.conversation import Conversation, Handles, Role, Saved, text_tokens
from sandbox.gemini.faults import FaultPlan, Faults
from sandbox.gemini.outbox import Outbox
from sandbox.gemini.playout import input_transcript_pieces
from sandbox.gemini.profiles import Profile, find_profile
from sandbox.gemini.setup import Settings, read_setup, read_tools
from sandbox.gemini.turns import Turns
from sandbox.gemini.wire import (
    BAD_KEY,
    INPUT_RATE,
    MEDIA_CHUNKS,
    NOT_ENABLED,
    Json,
    Reject,
    content_text,
    decode_bytes,
    duration,
    invalid,
    parse_client_message,
    pcm_rate,
    refuse,
    server_content,
    unknown_model,
)
from sandbox.mind import Mind, Remembers

if TYPE_CHECKING:
    from sandbox.ear import Grammar

_BYTES_PER_MS = INPUT_RATE * 2 // 1000


class SpeechEvent(Protocol):
    """Speech began or ended at `offset_ms` of the audio fed so far; an end also carries `audio` (s16le 16 kHz)."""

    @property
    def offset_ms(self) -> int: ...


class Detector(Protocol):
    """Finds turns in s16le mono 16 kHz (`sandbox.ear.TurnDetector`)."""

    def feed(self, pcm16k: bytes, /) -> Sequence[SpeechEvent]: ...


@dataclass(frozen=True)
class Parts:
    """What all sessions of a stand-in share. `make_detector(silence_ms, prefix_padding_ms)`."""

    profiles: tuple[Profile, ...]
    make_mind: Callable[[], Mind]
    make_detector: Callable[[int, int], Detector]
    handles: Handles
    faults: FaultPlan


class Session:
    """One connection. `number` counts connections of the stand-in from 1, `version` is "v1beta" or "v1alpha".

    `admit(setup)` returns the setup with the fields that an ephemeral token locks, or raises Reject (a bad key, a spent
    token: told after the setup, as the service does). `on_audio` gets what the client sent, as s16le mono 16 kHz.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        number: int,
        version: str,
        chance: random.Random,
        admit: Callable[[Json], Json],
        on_audio: Callable[[bytes], None],
    ) -> None:
        self.outbox = Outbox()
        self.setup: Json | None = None
        self.sends_binary = True
        self._parts = parts
        self._number = number
        self._version = version
        self._chance = chance
        self._admit = admit
        self._on_audio = on_audio
        self._ready = False
        self._settings: Settings
        self._profile: Profile
        self._mind: Mind
        self._turns: Turns
        self._conversation: Conversation
        self._resampler: tuple[int, soxr.ResampleStream] | None = None
        self._detector: Detector | None = None
        self._detector_began_ms = 0.0
        self._audio_ms = 0.0
        self._talking_since_ms: float | None = None
        self._utterances = 0
        self._activity: bytearray | None = None
        self._pending: list[tuple[str, Literal["audio", "text"]]] = []
        self._client_turns: list[tuple[Role, str]] = []
        self._seeding = False
        self._had_a_turn = False
        self._began = 0.0
        self._age_before = 0.0
        self._saw_video = False

    # --- what the shell calls

    def received(self, data: str | bytes, now: float) -> tuple[str, Json] | None:
        """One WebSocket message of the client. A violation ends the session with the service's close code.

        Returns (kind, body in camelCase) for the record, None where the message could not be read.
        """
        if self.outbox.ended:
            return None
        message: tuple[str, Json] | None = None
        try:
            message = parse_client_message(data)
            self._dispatch(*message, now)
        except Reject as reject:
            self.outbox.end(reject.close)
        return message

    def closed(self, now: float) -> None:
        """The connection is gone: from now on its resumption handles age."""
        self.outbox.ended = True
        self._parts.handles.session_ended(self._number, now)

    def _dispatch(self, kind: str, body: Json, now: float) -> None:
        if self.setup is None:
            if kind != "setup":
                raise invalid("The first message must be a setup.")
            self._set_up(body, now)
            return
        handler = {
            "clientContent": self._client_content,
            "realtimeInput": self._realtime_input,
            "toolResponse": self._tool_response,
            "contextUpdate": self._context_update,
        }.get(kind)
        if handler is None:
            raise invalid("setup can only be sent once.")
        if not self._ready:
            raise invalid("Wait for setupComplete before sending anything.")
        handler(body, now)

    @property
    def _faults(self) -> Faults:
        return self._parts.faults.of(self._number)

    # --- setup

    def _set_up(self, body: Json, now: float) -> None:
        self.setup = body
        faults = self._faults
        if faults.wrong_key:
            raise invalid(BAD_KEY)
        if faults.setup_close is not None:
            raise refuse(faults.setup_close)
        self.setup = body = self._admit(body)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise invalid()
        profile = find_profile(self._parts.profiles, model)
        if profile is None or faults.model_gone:
            raise unknown_model(model, self._version)
        self._profile = profile
        self.sends_binary = profile.binary_frames
        self._settings = read_setup(body, profile, self._version)
        self._restore(now)
        self._mind.begin(body)
        self._seeding = self._settings.seeds_history
        self._turns = Turns(
            outbox=self.outbox,
            profile=profile,
            settings=self._settings,
            faults=lambda: self._faults,
            mind=self._mind,
            conversation=self._conversation,
            chance=self._chance,
            ended=self._turn_ended,
            tools_answered=self._tools_answered,
        )
        self.outbox.at(now + profile.setup_seconds + faults.setup_seconds, self._set_up_complete)

    def _restore(self, now: float) -> None:
        handle = self._settings.handle
        if handle is not None:
            if self._faults.expired_handle:
                raise refuse(self._profile.bad_handle)
            saved = self._parts.handles.redeem(handle, self._settings.model, now, self._profile)
            self._mind, self._conversation = saved.mind, saved.conversation.copy()
            self._age_before = saved.age
        else:
            self._mind, self._conversation = self._parts.make_mind(), Conversation()
        self._count_fixed_tokens()

    def _count_fixed_tokens(self) -> None:
        declared = sum(text_tokens(str(declaration)) for declaration in self._settings.tools.declarations)
        self._conversation.fixed_tokens = text_tokens(self._settings.system_instruction) + declared

    def _set_up_complete(self, now: float) -> None:
        self._ready = True
        self._began = now
        self.outbox.send({"setupComplete": {}})
        if self._settings.wants_handles or self._profile.handle_at_setup_unasked:
            self._offer_handle(now)
        if self._settings.wants_handles and self._profile.handle_every_seconds:
            every = self._profile.handle_every_seconds
            self.outbox.every(now + every, every, self._offer_handle)
        self._plan_the_end(now)

    # --- ageing

    def _plan_the_end(self, now: float) -> None:
        profile, faults = self._profile, self._faults
        if faults.drop_after_ms is not None:
            self.outbox.at(now + faults.drop_after_ms / 1000, lambda _: self.outbox.end(self._faults.drop_close))
        lives = profile.connection_seconds
        if self._settings.compression is None:
            lives = min(lives, max(0.0, profile.audio_session_seconds - self._age_before))
        warned = max(0.0, lives - profile.go_away_seconds)
        if faults.go_away_at_seconds is not None:
            warned, lives = (
                faults.go_away_at_seconds,
                faults.go_away_at_seconds + faults.go_away_left_seconds,
            )
        left = duration(lives - warned)
        self.outbox.send_at(now + warned, {"goAway": {"timeLeft": left}})
        self.outbox.at(now + lives, self._end_of_life)

    def _end_of_life(self, _now: float) -> None:
        self.outbox.end(self._faults.go_away_close or self._profile.go_away_close)

    def _offer_handle(self, now: float) -> None:
        if self._faults.no_handle or self._turns.turn is not None:
            return
        self._send_handle(now)

    def _send_handle(self, now: float) -> None:
        age = self._age_before + now - self._began
        saved = Saved(self._number, self._settings.model, self._conversation.copy(), self._mind, age)
        handle = self._parts.handles.issue(saved)
        self.outbox.send({"sessionResumptionUpdate": {"newHandle": handle, "resumable": True}})

    def _tools_answered(self, now: float) -> None:
        if self._profile.handle_after_tool_unasked and not self._faults.no_handle:
            self._send_handle(now)

    def _turn_ended(self, now: float) -> None:
        if self._settings.compression is not None:
            self._conversation.compress(self._settings.compression)
        if self._settings.wants_handles:
            self._offer_handle(now)
        self._consider_answer(now)
        self._turns.deliver_results(now)

    # --- what the client says in text

    def _client_content(self, body: Json, now: float) -> None:
        if self._profile.client_content == "initial only" and self._had_a_turn:
            raise invalid()
        turns = body.get("turns") or []
        if not isinstance(turns, list):
            raise invalid()
        for content in turns:
            self._add_client_turn(content)
        complete = body.get("turnComplete") is True
        if self._seeding:
            self._seeding = not complete
            if complete:
                self._remember_client_turns()
            return
        self._turns.interrupt(now)
        if complete:
            asked = self._remember_client_turns(keep_last=True)
            self._pending.append((asked, "text"))
            self._consider_answer(now)

    def _add_client_turn(self, content: object) -> None:
        if not isinstance(content, dict) or content.get("role", "user") not in ("user", "model"):
            raise invalid()
        role: Role = "model" if content.get("role") == "model" else "user"
        text = content_text(content)
        self._conversation.add(role, text, text_tokens=text_tokens(text))
        self._client_turns.append((role, text))

    def _remember_client_turns(self, *, keep_last: bool = False) -> str:
        turns, self._client_turns = self._client_turns, []
        asked: list[str] = []
        while keep_last and turns and turns[-1][0] == "user":
            asked.insert(0, turns.pop()[1])
        if turns and isinstance(self._mind, Remembers):
            self._mind.remember(turns)
        return "\n".join(asked)

    def _context_update(self, body: Json, now: float) -> None:
        settings, raw = self._settings, dict(self._settings.raw)
        if body.get("systemInstruction") is not None:
            settings = replace(settings, system_instruction=content_text(body["systemInstruction"]))
            raw["systemInstruction"] = body["systemInstruction"]
        if body.get("tools") is not None:
            listed = body["tools"].get("tools") if isinstance(body["tools"], dict) else body["tools"]
            settings = replace(settings, tools=read_tools(listed or [], self._profile))
            raw["tools"] = listed or []
        self._settings = self._turns.settings = replace(settings, raw=raw)
        self._count_fixed_tokens()
        self._mind.begin(raw)

    def _tool_response(self, body: Json, now: float) -> None:
        self._turns.tool_response(body, now)

    # --- what the client says in real time

    def _realtime_input(self, body: Json, now: float) -> None:
        if self._seeding:
            self._seeding = False
            self._remember_client_turns()
        for name, handler in (
            ("activityStart", self._activity_start),
            ("audio", self._audio),
            ("mediaChunks", self._media_chunks),
            ("text", self._text),
            ("video", self._video),
            ("activityEnd", self._activity_end),
            ("audioStreamEnd", self._audio_stream_end),
        ):
            if body.get(name) is not None:
                handler(body[name], now)

    def _text(self, text: object, now: float) -> None:
        if not isinstance(text, str):
            raise invalid()
        if not text.strip() and self._turns.turn is not None:
            return  # Pipecat nudges with " " after a clientContent that is being answered already
        if self._settings.interrupts:
            self._turns.interrupt(now)
        self._conversation.add("user", text, text_tokens=text_tokens(text))
        self._pending.append((text, "text"))
        self._consider_answer(now)

    def _video(self, _blob: object, now: float) -> None:
        if not self._saw_video and self._settings.compression is None:
            self._saw_video = True
            self.outbox.at(self._began + self._profile.video_session_seconds, self._end_of_life)

    def _media_chunks(self, chunks: object, now: float) -> None:
        if not self._profile.media_chunks_allowed:
            raise invalid(MEDIA_CHUNKS)
        if not isinstance(chunks, list):
            raise invalid()
        if chunks:
            self._audio(chunks[0], now)

    def _audio(self, blob: object, now: float) -> None:
        if not isinstance(blob, dict):
            raise invalid()
        rate = pcm_rate(blob.get("mimeType"))
        data = decode_bytes(blob.get("data", ""))
        if rate is None:
            if self._profile.wrong_mime == "reject":
                raise invalid()
            return
        if self._faults.refuse_audio_in_tool_call and self._turns.waits_for_tools:
            raise Reject(1008, NOT_ENABLED)
        pcm = self._at_16k(data, rate)
        self._on_audio(pcm)
        self._audio_ms += len(pcm) / _BYTES_PER_MS
        if self._settings.automatic_detection:
            self._detect(pcm, now)
        elif self._activity is not None:
            self._activity += pcm
        self._drop_in_caller_speech()

    def _at_16k(self, pcm: bytes, rate: int) -> bytes:
        samples = np.frombuffer(pcm, "<i2", count=len(pcm) // 2)
        if rate == INPUT_RATE:
            return samples.tobytes()
        if self._resampler is None or self._resampler[0] != rate:
            self._resampler = (rate, soxr.ResampleStream(rate, INPUT_RATE, 1, dtype="int16", quality="LQ"))
        resampled: bytes = self._resampler[1].resample_chunk(samples).tobytes()
        return resampled

    # --- turns of the caller

    def _detect(self, pcm: bytes, now: float) -> None:
        if self._detector is None:
            silence = self._faults.pause_split_ms or self._settings.silence_ms
            self._detector = self._parts.make_detector(silence, self._settings.prefix_padding_ms)
            self._detector_began_ms = self._audio_ms - len(pcm) / _BYTES_PER_MS
        for event in self._detector.feed(pcm):
            at_ms = self._detector_began_ms + event.offset_ms
            audio = getattr(event, "audio", None)
            if audio is None:
                self._speech_started(at_ms, now)
            else:
                self._speech_ended(audio, at_ms, now)

    def _audio_stream_end(self, _flag: object, now: float) -> None:
        if not self._settings.automatic_detection:
            raise invalid()
        if self._detector is not None:
            silence = max(self._settings.silence_ms, self._faults.pause_split_ms or 0) + 200
            self._detect(bytes(silence * _BYTES_PER_MS), now)
            self._detector = None

    def _activity_start(self, _body: object, now: float) -> None:
        if self._settings.automatic_detection or self._activity is not None:
            raise invalid()
        self._activity = bytearray()
        self._speech_started(self._audio_ms, now)

    def _activity_end(self, _body: object, now: float) -> None:
        if self._settings.automatic_detection or self._activity is None:
            raise invalid()
        audio, self._activity = bytes(self._activity), None
        self._speech_ended(audio, self._audio_ms, now)

    def _speech_started(self, at_ms: float, now: float) -> None:
        self._talking_since_ms = at_ms
        self._turns.user_is_talking = True
        self._tell_activity("ACTIVITY_START", at_ms)
        if self._settings.interrupts:
            self._turns.interrupt(now)

    def _speech_ended(self, audio: bytes, at_ms: float, now: float) -> None:
        self._talking_since_ms = None
        self._turns.user_is_talking = False
        self._utterances += 1
        number = self._utterances
        if self._faults.mute or number in self._faults.swallowed_utterance:
            self._tell_activity("ACTIVITY_END", at_ms)
            return
        self.outbox.hear(
            audio, self._mind.grammar(), lambda text, then: self._heard(number, text, len(audio), at_ms, then)
        )

    def expected(self) -> Grammar | None:
        """What the mind expects to hear next; None before a setup was accepted, when there is no mind."""
        return self._mind.grammar() if hasattr(self, "_mind") else None

    def _heard(self, number: int, text: str, size: int, at_ms: float, now: float) -> None:
        faults = self._faults
        if text and self._settings.transcribes_input and number not in faults.missing_transcript:
            times = 2 if number in faults.duplicate_transcript else 1
            for piece in input_transcript_pieces(self._profile, text) * times:
                self.outbox.send(server_content(inputTranscription={"text": piece}))
        self._tell_activity("ACTIVITY_END", at_ms)
        tokens = size // _BYTES_PER_MS * self._profile.audio_tokens_per_second // 1000
        self._conversation.add("user", text, audio_tokens=tokens)
        self._pending.append((text, "audio"))
        self._consider_answer(now)
        self._turns.deliver_results(now)

    def _tell_activity(self, kind: str, at_ms: float) -> None:
        if not self._profile.voice_activity:
            return
        frame: Json = {"voiceActivity": {"type": kind, "audioOffset": duration(at_ms / 1000)}}
        if self._profile.voice_activity_beside_content:
            frame = {"serverContent": {}, **frame}
        self.outbox.send(frame)

    def _drop_in_caller_speech(self) -> None:
        faults = self._faults
        if faults.drop_at_caller_ms is None or self._talking_since_ms is None:
            return
        if self._audio_ms - self._talking_since_ms >= faults.drop_at_caller_ms:
            self.outbox.end(faults.drop_close)

    def _consider_answer(self, now: float) -> None:
        """Lets the mind answer what the user said, once the model is free and the user is not talking on."""
        typed = any(source == "text" for _, source in self._pending)
        talks_on = self._turns.user_is_talking and self._settings.interrupts and not typed
        if not self._pending or self._turns.turn is not None or talks_on:
            return
        said, self._pending = self._pending, []
        if self._faults.mute:
            return
        self._had_a_turn = True
        source: Literal["audio", "text"] = "text" if typed else "audio"
        text = said[0][0] if len(said) == 1 else " ".join(part for part, _ in said if part.strip())
        self._turns.answer(self._mind.on_user(text, source), now)
