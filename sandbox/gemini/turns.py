"""The model's side of a session: its turns, its function calls, and what an interruption does to them.

Pure. A turn goes: (thought, calls, speech) -> generationComplete -> turnComplete, the last held back until the speech
would have been played out. Interrupted: interrupted -> turnComplete. Source: Live API reference (BidiGenerateContent
ServerContent, ToolCall, ToolCallCancellation) and recorded sessions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import orjson

from sandbox.gemini.conversation import Conversation, text_tokens, usage
from sandbox.gemini.faults import Faults
from sandbox.gemini.outbox import Outbox
from sandbox.gemini.playout import markers, speech_frames
from sandbox.gemini.profiles import Profile
from sandbox.gemini.setup import Settings
from sandbox.gemini.wire import ENTITY_NOT_FOUND, OUTPUT_RATE, Json, Reject, grounding, invalid, server_content
from sandbox.mind import Mind, NoticesInterruption, Reply, ToolCall, ToolResult

UNKNOWN_FUNCTION = "function_nobody_declared"
_SCHEDULINGS = ("INTERRUPT", "WHEN_IDLE", "SILENT")


@dataclass
class Turn:
    """One turn of the model, from the first sign of generation to `turnComplete`."""

    number: int
    playback_end: float = 0.0
    audio_ms: int = 0
    text: list[str] = field(default_factory=list)
    call_tokens: int = 0
    thought: str = ""
    results: list[ToolResult] = field(default_factory=list)
    put_off: Reply | None = None


@dataclass(frozen=True)
class OpenCall:
    """A function call that the client has not finished answering."""

    name: str
    non_blocking: bool


class Turns:
    """Plays a mind's replies out. `settings` may be replaced in mid-session (contextUpdate)."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        profile: Profile,
        settings: Settings,
        faults: Callable[[], Faults],
        mind: Mind,
        conversation: Conversation,
        chance: random.Random,
        ended: Callable[[float], None],
        tools_answered: Callable[[float], None],
    ) -> None:
        self.settings = settings
        self.user_is_talking = False
        self.turn: Turn | None = None
        self._outbox = outbox
        self._profile = profile
        self._faults = faults
        self._mind = mind
        self._conversation = conversation
        self._chance = chance
        self._ended = ended
        self._tools_answered = tools_answered
        self._count = 0
        self._bot_ms = 0
        self._calls: dict[str, OpenCall] = {}
        self._cancelled: set[str] = set()
        self._for_later: list[ToolResult] = []

    @property
    def waits_for_tools(self) -> bool:
        """True while a blocking call holds the turn."""
        return any(not call.non_blocking for call in self._calls.values())

    # --- replies

    def answer(self, reply: Reply, now: float) -> None:
        """Starts a turn with this reply, or goes on with the one that waited for tools. A reply to the user without
        words and calls starts nothing: the model stays silent."""
        turn = self.turn
        if turn is None:
            if not (reply.say or reply.calls):
                self._stay_silent()
                return
            self._count += 1
            turn = self.turn = Turn(self._count)
            reply = self._spoilt(turn, reply)
        begin = now + self._profile.first_audio_seconds
        for marker in markers(self._profile):
            self._outbox.send_at(begin, marker, turn=turn.number)
        if turn.number in self._faults().close_before_first_word:
            self._outbox.at(begin, lambda _: self._outbox.end(self._faults().first_word_close), turn=turn.number)
        self._think(turn, reply, begin)
        held = [call for call in reply.calls if not self._is_non_blocking(call)]
        free = [call for call in reply.calls if self._is_non_blocking(call)]
        if free:
            self._outbox.at(begin, partial(self._call, turn, free), turn=turn.number)
        if reply.say:
            self._outbox.speak(reply.say, partial(self._spoken, turn, reply, held, begin))
        else:
            self._finish(turn, reply, held, begin)

    def _stay_silent(self) -> None:
        # Where interactionStatus is told, a client waits for IDLE: silence must end the interaction too.
        if self._profile.interaction_status and self.turn is None and not self._calls:
            self._close_turn(Turn(self._count))

    def _spoilt(self, turn: Turn, reply: Reply) -> Reply:
        faults = self._faults()
        if turn.number in (*faults.empty_turn, *faults.refused_turn):
            return Reply()
        if turn.number in faults.unknown_function_call:
            turn.put_off = reply
            return Reply(calls=[ToolCall(UNKNOWN_FUNCTION)])
        return reply

    def _think(self, turn: Turn, reply: Reply, begin: float) -> None:
        turn.thought += reply.thought
        if reply.thought and (self.settings.include_thoughts or self._profile.thoughts_unasked):
            part = {"text": reply.thought, "thought": True}
            self._outbox.send_at(begin, server_content(modelTurn={"parts": [part]}), turn=turn.number)

    def _spoken(self, turn: Turn, reply: Reply, held: Sequence[ToolCall], begin: float, pcm: bytes, now: float) -> None:
        if self.turn is not turn:
            return  # interrupted while the voice was at work
        begin = max(begin, now)
        turn.playback_end = max(turn.playback_end, begin) + len(pcm) / (2 * OUTPUT_RATE)
        faults = self._faults()
        end, sent_ms = begin, 0
        for frame in speech_frames(
            self._profile,
            reply.say,
            pcm,
            transcript=self.settings.transcribes_output,
            two_parts=faults.two_parts,
        ):
            if faults.stall_at_bot_ms is not None and sent_ms < faults.stall_at_bot_ms <= sent_ms + frame.audio_ms:
                begin += faults.stall_seconds
                turn.playback_end += faults.stall_seconds
            sent_ms += frame.audio_ms
            end = begin + frame.offset
            step = partial(self._send_speech, turn, frame.frame, frame.audio_ms, frame.text)
            self._outbox.at(end, step, turn=turn.number)
        if not self.settings.transcribes_output:
            turn.text.append(reply.say)
        self._finish(turn, reply, held, end)

    def _send_speech(self, turn: Turn, frame: Json, audio_ms: int, text: str, _now: float) -> None:
        turn.audio_ms += audio_ms
        turn.text.append(text)
        self._bot_ms += audio_ms
        self._outbox.send(frame)
        faults = self._faults()
        if faults.drop_at_bot_ms is not None and self._bot_ms >= faults.drop_at_bot_ms and audio_ms:
            self._outbox.end(faults.drop_close)

    def _finish(self, turn: Turn, reply: Reply, held: Sequence[ToolCall], end: float) -> None:
        if held:
            self._outbox.at(end, partial(self._call, turn, held), turn=turn.number)
            return
        if reply.search_queries and self.settings.tools.google_search:
            found = grounding(list(reply.search_queries))
            self._outbox.send_at(end, server_content(groundingMetadata=found), turn=turn.number)
        faults = self._faults()
        if turn.number not in (*faults.empty_turn, *faults.refused_turn):
            self._outbox.send_at(end, server_content(generationComplete=True), turn=turn.number)
        self._outbox.at(max(end, turn.playback_end), self._complete, turn=turn.number)

    # --- the end of a turn

    def interrupt(self, now: float) -> None:
        """The client took the floor: blocking calls are cancelled, the turn is over, what was to come is dropped."""
        turn = self.turn
        if turn is None:
            return
        self._outbox.drop_turn(turn.number)
        self._cancel([id for id, call in self._calls.items() if not call.non_blocking])
        self._outbox.send(server_content(interrupted=True))
        if isinstance(self._mind, NoticesInterruption):
            self._mind.interrupted("".join(turn.text))
        self._close_turn(turn)

    def _complete(self, now: float) -> None:
        if self.turn is not None:
            self._close_turn(self.turn)
            self._ended(now)

    def _close_turn(self, turn: Turn) -> None:
        content: Json = {"turnComplete": True}
        if self._profile.interaction_status:
            content["interactionStatus"] = "IN_PROGRESS" if self._calls or self._for_later else "IDLE"
        bill = usage(
            self._profile,
            self._conversation,
            audio_ms=turn.audio_ms,
            response_text_tokens=turn.call_tokens,
            thought=turn.thought,
        )
        faults = self._faults()
        if turn.number in faults.refused_turn:
            content["turnCompleteReason"] = "RESPONSE_REJECTED"
        if turn.number not in faults.missing_turn_complete:
            if faults.usage_alone:
                self._outbox.send({"serverContent": content})
                self._outbox.send({"usageMetadata": bill})
            else:
                self._outbox.send({"serverContent": content, "usageMetadata": bill})
        self._conversation.add(
            "model",
            "".join(turn.text).strip(),
            text_tokens=turn.call_tokens,
            audio_tokens=turn.audio_ms * self._profile.audio_tokens_per_second // 1000,
        )
        self.turn = None

    # --- functions

    def _is_non_blocking(self, call: ToolCall) -> bool:
        return self.settings.tools.non_blocking.get(call.name, False)

    def _call(self, turn: Turn, calls: Sequence[ToolCall], now: float) -> None:
        listed: list[Json] = []
        for call in calls:
            id = f"{self._profile.call_id_prefix}{self._chance.randrange(10**18, 10**19)}"
            self._calls[id] = OpenCall(call.name, self._is_non_blocking(call))
            listed.append({"name": call.name, "args": dict(call.args), "id": id})
            turn.call_tokens += text_tokens(call.name + orjson.dumps(call.args).decode())
        self._outbox.send({"toolCall": {"functionCalls": listed}})
        if self.settings.wants_handles:
            self._outbox.send({"sessionResumptionUpdate": {}})
        faults = self._faults()
        if faults.drop_in_tool_call:
            self._outbox.end(faults.drop_close)
        if faults.cancel_tool_call_ms is not None:
            cancel = partial(self._cancel_unasked, turn, [call["id"] for call in listed])
            self._outbox.at(now + faults.cancel_tool_call_ms / 1000, cancel, turn=turn.number)

    def _cancel(self, ids: list[str]) -> None:
        if ids:
            self._cancelled.update(ids)
            for id in ids:
                del self._calls[id]
            self._outbox.send({"toolCallCancellation": {"ids": ids}})

    def _cancel_unasked(self, turn: Turn, ids: Sequence[str], now: float) -> None:
        self._cancel([id for id in ids if id in self._calls])
        if self.turn is turn:
            self._complete(now)

    def tool_response(self, body: Json, now: float) -> None:
        """The client's `toolResponse`. Late answers to cancelled calls are ignored.

        Raises Reject: 1007 for a malformed response, 1008 for an id that was never open (profile switch).
        """
        responses = body.get("functionResponses")
        if isinstance(responses, dict):
            responses = [responses]
        if not isinstance(responses, list) or not responses:
            raise invalid()
        for response in responses:
            if not isinstance(response, dict) or not isinstance(response.get("id"), str):
                raise invalid()
            self._take_response(response, now)

    def _take_response(self, response: Json, now: float) -> None:
        id = response["id"]
        if id in self._cancelled:
            return
        call = self._calls.get(id)
        if call is None:
            if self._profile.unknown_call_id == "reject":
                raise Reject(1008, ENTITY_NOT_FOUND)
            return
        content = response.get("response") or {}
        if not isinstance(content, dict):
            raise invalid()
        result = ToolResult(id, call.name, content)
        self._conversation.add("user", "", text_tokens=text_tokens(orjson.dumps(content).decode()))
        if not (call.non_blocking and response.get("willContinue")):
            del self._calls[id]
        if call.non_blocking:
            self._schedule(result, _scheduling(response, content), now)
            return
        if self.turn is not None:
            self.turn.results.append(result)
            if not self.waits_for_tools:
                self._go_on(self.turn, now)

    def _go_on(self, turn: Turn, now: float) -> None:
        self._tools_answered(now)
        results, turn.results = turn.results, []
        if turn.put_off is not None:
            reply, turn.put_off = turn.put_off, None
        else:
            reply = self._mind.on_tool_results(results)
        self.answer(reply, now)

    def _schedule(self, result: ToolResult, scheduling: str, now: float) -> None:
        if scheduling == "SILENT":
            self._mind.on_tool_results([result])
            self._stay_silent()
        elif scheduling == "INTERRUPT" and not (self.user_is_talking and self._profile.interrupt_waits_for_user):
            self.interrupt(now)
            self.answer(self._mind.on_tool_results([result]), now)
        else:
            self._for_later.append(result)
            self.deliver_results(now)

    def deliver_results(self, now: float) -> None:
        """Gives the mind the results of NON_BLOCKING calls that waited for a quiet moment, if this is one."""
        if self._for_later and self.turn is None and not self.user_is_talking:
            results, self._for_later = self._for_later, []
            self.answer(self._mind.on_tool_results(results), now)


def _scheduling(response: Json, content: Json) -> str:
    # Google's guide and Pipecat put `scheduling` inside `response`, the proto beside it: either counts.
    value = str(response.get("scheduling") or content.get("scheduling") or "WHEN_IDLE")
    return value if value in _SCHEDULINGS else "WHEN_IDLE"
