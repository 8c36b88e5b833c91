"""The Gemini Live session of one call: connects early, falls back, comes back, and forgets nothing on the way.

Pipecat's `GeminiLiveLLMService` is the engine: its place in the pipeline, its frames, its running of functions. Its
connection is not used, because it fails silently in a dozen ways (docs/decisions/0001 lists them, and each private name
of Pipecat that is used here; tests/bot/test_pipecat_seams.py watches them). One task per call opens, serves and renews
the connection; what must survive between two connections is kept by bot/gemini_memory.py, and when to try what is
decided by `bot.gemini_models.Attempts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from google.genai import types
from loguru import logger
from pipecat.frames.frames import (
    Frame,
    FunctionCallFromLLM,
    InputAudioRawFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMServiceMetadataFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.google.gemini_live.llm import GeminiLiveLLMService
from pipecat.services.llm_service import FunctionCallParams
from pipecat.utils.text.base_text_aggregator import TextType

from bot.audio import MODEL_OUT_HZ
from bot.errors import ModelError
from bot.events import CallerSaid, CallEvent, Grounded, ModelConnected, ModelFailed, ModelGoAway, TokensUsed, Trouble
from bot.flow import Flow
from bot.gemini_client import Connection, GeminiClients, Tap
from bot.gemini_frames import audio_of
from bot.gemini_memory import CallerAudio, CallerWords, Conversation, note
from bot.gemini_models import EXPECTED, Attempt, Attempts, classify, live_config, profile_of
from bot.gemini_uplink import Uplink, send_history
from bot.ports import Clock
from bot.tools import ToolDeclaration, UnheardResult

TOOL_BACKSTOP_SECONDS = 75.0
"""The tools answer within their own time (60 s at most); this is for a tool layer that has broken down."""
LEAVE_BEFORE_SECONDS = 2.0
"""A connection that the service will close is left this long before it does, if no pause comes earlier."""
WORDS_SECONDS = 0.5
"""The caller's words count as a whole utterance when no more of them come for this long."""
_MOST_UNREADABLE = 20
_MOST_NUDGES = 2


class Tools(Protocol):
    """The tools of a call; `bot.tools.ToolBox` fulfils it."""

    declarations: list[ToolDeclaration]

    def system_instruction(self) -> str:
        """Everything the model is told at connect, as of now."""

    async def run(self, call_id: str, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """The answer for the model; always one."""

    def cancel(self, call_id: str) -> None:
        """The model withdrew a call."""

    def unheard_results(self) -> list[UnheardResult]:
        """Results of writes that ended after the model had stopped waiting; each once."""


class BotTurns(Protocol):
    """Whose turn it is; `bot.turns.Turns` fulfils it."""

    on_heard: Callable[[str, float, bool], None]
    """Gets a speech of the model, how many ms of it were heard, and whether it was cut."""

    def model_spoke(self, now_ns: int) -> None:
        """Audio of the model arrived."""

    def text(self, words: str, speech: str) -> None:
        """Words of the turn that is being sent to the caller, and the speech of the model that they are from."""

    def clip(self, words: str, *, aside: bool) -> None:
        """Ready-made words are being sent to the caller."""


class GeminiSession(GeminiLiveLLMService):
    """The model's end of the pipeline, for one call. It connects when the pipeline is set up.

    `models`: the first that can be used answers. `record` gets the events of the model's side, `tap` every frame both
    ways. `on_lost` is called once, when no model is left: what the caller then hears is the call's business.
    """

    # Pipecat holds an EndFrame back until the bot has finished its turn; a turn without an end must not hold it long.
    _END_FRAME_DEFERRAL_TIMEOUT_SECS = 10.0

    def __init__(
        self,
        clients: GeminiClients,
        *,
        models: Sequence[str],
        flow: Flow,
        toolbox: Tools,
        turns: BotTurns,
        clock: Clock,
        record: Callable[[CallEvent], None],
        on_lost: Callable[[ModelError], None],
        tap: Tap | None = None,
    ) -> None:
        self._clients = clients
        self._flow = flow
        self._toolbox = toolbox
        self.bot_turns = turns
        self._port_clock = clock
        self._record_event = record
        self.acted_ns: int | None = None  # when the model last did anything, were it to write down what it heard
        self._on_lost = on_lost
        self._tap = tap
        self._attempts = Attempts(clients.preferred(models), self._now_s(), clients.spread)
        self._model = self._attempts.model
        self._profile = profile_of(self._model)
        self._connections = 0
        self._talk = Conversation()
        turns.on_heard = self._talk.bot_heard
        self._uplink = Uplink(self._audio_was_dropped)
        self._caller_words = CallerWords()
        self._words_timer: asyncio.TimerHandle | None = None
        self._asked: dict[str, int] = {}
        self._cut = self._leaving = False
        self._nudges = 0
        self._deadline: asyncio.Timeout | None = None
        super().__init__(
            api_key="held by the shared client",
            settings=self.Settings(model=self._attempts.model),
            inference_on_context_initialization=False,
            function_call_timeout_secs=TOOL_BACKSTOP_SECONDS,
        )
        # One handler for every function, known or not. Not cancelled by an interruption: the model says itself which
        # calls it withdraws (toolCallCancellation), and waits for the answers to all others.
        self.register_function(None, self._run_tool, cancel_on_interruption=False)
        self.add_event_handler("on_function_calls_cancelled", self._tools_broke_down)
        # Pipecat refuses functions without a context. The conversation itself is the model's, and `Conversation`'s.
        self._context = LLMContext()

    # -- for the call -------------------------------------------------------------------------------------------------

    @property
    def was_ready(self) -> bool:
        """Whether a session has been ready at least once."""
        return self._connections > 0

    @property
    def connected(self) -> bool:
        """Whether there is a session now."""
        return self._uplink.is_open

    @property
    def owes_words(self) -> bool:
        """Whether the model was told or asked something that it has not answered, or has not ended what it says."""
        return self._talk.owed or self._bot_is_responding

    @property
    def runs_tools(self) -> bool:
        """Whether the model waits for a function."""
        return bool(self._asked)

    async def greet(self, words: str) -> None:
        """Have the model speak the first words of the call; for when they are not at hand as audio."""
        await self.say_to_model(f'[The call has just been answered. Say exactly: "{words}"]')

    async def say_to_model(self, text: str) -> None:
        """Tell the model something that was not said aloud; it answers. Kept until there is a session."""
        self._talk.owed = True
        await self._uplink.text(text)

    # -- Pipecat's side -----------------------------------------------------------------------------------------------

    def create_client(self) -> None:
        """Use the process's client."""
        self._client = self._clients.client

    def service_metadata_frame(self) -> LLMServiceMetadataFrame:
        """Tells the pipeline that the model decides the turns."""
        return LLMServiceMetadataFrame(service_name=self.name, is_realtime_service=True)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """The caller's audio ends here: nothing behind the model has a use for it, and each hop costs 14 us."""
        if isinstance(frame, InputAudioRawFrame):
            await self._uplink.audio(frame.audio)
        else:
            await super().process_frame(frame, direction)

    async def _send_user_text(self, text: str) -> None:
        await self.say_to_model(text)

    async def _connect(self, session_resumption_handle: str | None = None) -> None:
        if self._connection_task is None:
            self._connection_task = self.create_task(self._stay_connected())  # type: ignore[assignment]

    async def _disconnect(self) -> None:
        self._take_caller_words()
        await super()._disconnect()  # type: ignore[no-untyped-call]

    # -- the connection -----------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        try:
            await self._serve_connections()
        except Exception as error:
            logger.opt(exception=error).error("The session's keeper failed by a fault of ours")
            self._on_lost(classify(error))

    async def _serve_connections(self) -> None:
        attempt: Attempt | None = Attempt(self._attempts.model, 0.0)
        while attempt is not None:
            if attempt.model != self._model:
                # Another model knows nothing of this one's sessions.
                self._model = attempt.model
                self._session_resumption_handle = None
            if attempt.delay_seconds:
                await self._port_clock.sleep(attempt.delay_seconds)
            failure = await self._serve_connection(attempt.model)
            if failure is None:
                attempt = self._attempts.left(self._now_s())
                continue
            logger.warning("Gemini session with {} failed: {}", attempt.model, failure.kind)
            self._record_event(ModelFailed(attempt.model, failure.kind, failure.problem))
            attempt = self._attempts.failed(failure.kind, self._now_s())
            if attempt is None:
                self._on_lost(failure)

    async def _serve_connection(self, model: str) -> ModelError | None:
        """Open a session and serve it to its end. None where it was left on purpose."""
        self._profile = profile_of(model)
        handle = self._session_resumption_handle
        began_ns = self._port_clock.now_ns()
        was_ready = False
        try:
            async with self._clients.connect(model, self._config(handle), self._tap) as connection:
                was_ready = True
                self._attempts.connected(self._now_s())
                setup_ms = (self._port_clock.now_ns() - began_ns) / 1e6
                self._record_event(ModelConnected(model, round(setup_ms, 1), resumed=handle is not None))
                await self._begin(connection, resumed=handle is not None)
                await self._receive(connection)
            failure = None
        except Exception as error:
            if not isinstance(error, EXPECTED):
                logger.opt(exception=error).error("The session failed by a fault of ours")
            failure = classify(error)
        if failure and handle and not was_ready and failure.kind in ("rejected_setup", "dropped"):
            # The handle has expired or is unknown, which has no wording of its own: begin anew and tell the history.
            self._session_resumption_handle = None
            failure = ModelError("dropped", failure.problem, failure.cure)
        await self._connection_gone()
        return failure

    def _config(self, handle: str | None) -> types.LiveConnectConfig:
        return live_config(
            self._profile,
            self._flow,
            self._toolbox.system_instruction(),
            self._toolbox.declarations,
            handle=handle,
            seed_history=handle is None and bool(self._talk.turns),
        )

    async def _begin(self, connection: Connection, *, resumed: bool) -> None:
        """Tell a new connection what it has to know, then let the caller's audio flow."""
        renewed = self.was_ready
        self._connections += 1
        self._leaving = False
        self._collect_unheard()
        recap = self._talk.recap(resumed=resumed, is_asked=self._uplink.has_texts) if renewed else ""
        turns = [] if resumed else self._talk.turns
        if turns and not self._profile.seeds_history:
            # 2.5 answers what it is given, and must be given a user's turn last.
            turns.append(("user", recap or note("The connection was renewed")))
            recap = ""
        if turns:
            await send_history(connection, turns)
        # Pipecat closes what it finds here when the pipeline ends.
        self._session = connection.session
        await self._uplink.open(connection, recap)
        await self._uplink.let_audio_flow()

    async def _receive(self, connection: Connection) -> None:
        """Handle what comes until the connection is lost (raises) or time to be left."""
        unreadable = 0
        try:
            async with asyncio.timeout(None) as self._deadline:
                while True:
                    try:
                        async for message in connection.messages():
                            unreadable = 0
                            await self._handle_whatever(message)
                            if self._leaving and self._may_leave():
                                return
                    except (TypeError, ValueError) as error:
                        # A frame that the SDK cannot read; the next one may be well.
                        unreadable += 1
                        self._trouble("model_frame_unreadable", type(error).__name__)
                        if unreadable > _MOST_UNREADABLE:
                            raise
        except TimeoutError:
            if self._deadline is None or not self._deadline.expired():
                raise
        finally:
            self._deadline = None

    def _may_leave(self) -> bool:
        """Nobody speaks, no function runs, and the session can be taken up as it is."""
        idle = not self._bot_is_responding and not self._asked and not self._talk.owed
        return idle and (self._talk.is_saved or self._session_resumption_handle is None)

    async def _connection_gone(self) -> None:
        self._session = None
        self._take_caller_words()
        self._uplink.lost()
        await self._end_speech()

    # -- from the model -----------------------------------------------------------------------------------------------

    async def _handle_whatever(self, message: types.LiveServerMessage | bytes) -> None:
        try:
            if isinstance(message, bytes):
                await self._speak(message)
            else:
                await self._handle_server_message(message)
        except Exception as error:
            logger.opt(exception=error).error("A message of the model could not be handled")
            self._trouble("model_message_failed", type(error).__name__)

    async def _handle_server_message(self, message: types.LiveServerMessage) -> None:
        if (content := message.server_content) or message.tool_call:
            self.acted_ns = self._port_clock.now_ns()
        if content:
            await self._handle_content(message, content)
        if message.usage_metadata:
            usage = message.usage_metadata.model_dump(mode="json", by_alias=True, exclude_none=True)
            self._record_event(TokensUsed(self._model, usage))
        if message.tool_call:
            await self._handle_msg_tool_call(message)
        if message.tool_call_cancellation:
            await self._withdraw(message.tool_call_cancellation.ids or [])
        if message.session_resumption_update:
            self._handle_msg_resumption_update(message)
        if message.go_away:
            self._warned(message.go_away)
        activity = message.voice_activity
        if activity and activity.voice_activity_type is types.VoiceActivityType.ACTIVITY_END:
            self._take_caller_words()

    async def _handle_content(self, message: types.LiveServerMessage, content: types.LiveServerContent) -> None:
        if content.interrupted:
            await self._interrupted()
        if content.input_transcription:
            self._hear(content.input_transcription)
        if content.output_transcription and content.output_transcription.text:
            await self._say(content.output_transcription.text)
        if audio := audio_of(message):
            await self._speak(audio)
        if content.grounding_metadata:
            self._ground(content.grounding_metadata)
        if content.generation_complete:
            await self._end_speech()
        if content.turn_complete:
            await self._end_turn(content)

    async def _speak(self, audio: bytes) -> None:
        self.acted_ns = self._port_clock.now_ns()
        self.bot_turns.model_spoke(self.acted_ns)
        self._uplink.answered()
        self._talk.owed, self._nudges = False, 0
        await self._begin_speech()
        self._talk.bot_sounds(len(audio) / (2 * MODEL_OUT_HZ) * 1000)
        await self.push_frame(TTSAudioRawFrame(audio=audio, sample_rate=MODEL_OUT_HZ, num_channels=1))

    async def _say(self, words: str) -> None:
        await self._begin_speech()
        frame = TTSTextFrame(words, TextType.WORD, context_id=self._talk.bot_says(words))
        frame.includes_inter_frame_spaces = True
        await self.push_frame(frame)

    async def _begin_speech(self) -> None:
        if self._bot_is_responding:
            return
        self._take_caller_words()
        # A turn that was never declared complete ends where the next one begins.
        self._talk.bot_done(interrupted=False)
        await self._set_bot_is_responding(True)
        await self.push_frame(TTSStartedFrame())
        await self.push_frame(LLMFullResponseStartFrame())

    async def _end_speech(self) -> None:
        """All audio of the turn is here. The service says ``turnComplete`` only when it thinks that it was played."""
        if not self._bot_is_responding:
            return
        await self.push_frame(TTSStoppedFrame())
        await self.push_frame(LLMFullResponseEndFrame())
        await self._set_bot_is_responding(False)

    async def _interrupted(self) -> None:
        self._cut = True
        await self.broadcast_interruption()  # type: ignore[no-untyped-call]
        self._talk.bot_done(interrupted=True)
        await self._end_speech()

    async def _end_turn(self, content: types.LiveServerContent) -> None:
        await self._end_speech()
        self._take_caller_words()
        self._talk.bot_done(interrupted=False)
        was_cut, self._cut = self._cut, False
        reason = content.turn_complete_reason
        if reason and reason is not types.TurnCompleteReason.NEED_MORE_INPUT:
            self._trouble("model_turn_refused", str(reason.value))
        self._collect_unheard()
        if news := self._talk.news():
            await self._uplink.note(news)
        elif self._talk.owed and not was_cut and not self._asked and self._nudges < _MOST_NUDGES:
            self._nudges += 1
            self._trouble("model_empty_turn", "a turn without a word")
            await self._uplink.note(note("You said nothing. Answer the caller now"))

    def _hear(self, transcription: types.Transcription) -> None:
        self._uplink.transcribed()
        self._caller_words.add(transcription.text or "")
        self._stop_words_timer()
        if transcription.finished:
            self._take_caller_words()
        else:
            self._words_timer = asyncio.get_running_loop().call_later(WORDS_SECONDS, self._take_caller_words)

    def _take_caller_words(self) -> None:
        self._stop_words_timer()
        if words := self._caller_words.take(self._now_s()):
            self._record_event(CallerSaid(words))
            self._talk.caller_said(words)
            # Nothing orders a transcript and the answer to it.
            self._talk.owed = self._talk.owed or not self._bot_is_responding

    def _stop_words_timer(self) -> None:
        if self._words_timer:
            self._words_timer.cancel()
            self._words_timer = None

    def _ground(self, metadata: types.GroundingMetadata) -> None:
        sources = [chunk.web.uri for chunk in metadata.grounding_chunks or () if chunk.web and chunk.web.uri]
        self._record_event(Grounded(list(metadata.web_search_queries or ()), sources))

    def _handle_msg_resumption_update(self, message: types.LiveServerMessage) -> None:
        super()._handle_msg_resumption_update(message)
        update = message.session_resumption_update
        if update and update.resumable and update.new_handle:
            self._talk.saved()

    def _warned(self, go_away: types.LiveServerGoAway) -> None:
        left_s = float((go_away.time_left or "0s").removesuffix("s") or 0)
        self._record_event(ModelGoAway(left_s * 1000))
        self._leaving = True
        if self._deadline:
            now = asyncio.get_running_loop().time()
            self._deadline.reschedule(now + max(0.0, left_s - LEAVE_BEFORE_SECONDS))

    # -- functions ----------------------------------------------------------------------------------------------------

    async def _handle_msg_tool_call(self, message: types.LiveServerMessage) -> None:
        self._take_caller_words()
        self._uplink.answered()
        for number, call in enumerate((message.tool_call and message.tool_call.function_calls) or (), 1):
            call.id = call.id or f"unnamed-{self._connections}-{number}"
            self._asked[call.id] = self._connections
        if self._profile.quiet_during_tools:
            self._uplink.hold_audio()
        await super()._handle_msg_tool_call(message)

    async def _run_tool(self, params: FunctionCallParams) -> None:
        arguments = dict(params.arguments)
        answer = await self._toolbox.run(params.tool_call_id, params.function_name, arguments)
        await params.result_callback(answer)

    async def _tool_result(
        self,
        tool_call_id: str,
        tool_name: str,
        tool_result_message: Mapping[str, Any],
        *,
        is_final: bool = True,
        spoken: bool = True,
    ) -> None:
        asked_on = self._asked.pop(tool_call_id, None)
        if asked_on is None:
            # Withdrawn: the model ignores an answer, and what a write came to is kept by the tools until it is told.
            return
        if asked_on == self._connections:
            answer = types.FunctionResponse(
                id=tool_call_id,
                name=tool_name,
                response=dict(tool_result_message),
                scheduling=types.FunctionResponseScheduling.WHEN_IDLE if self._profile.answers_wait else None,
            )
            if await self._uplink.answer(answer):
                self._talk.tool_done(tool_name, tool_result_message)
                await self._tools_answered()
                return
        # The connection that asked is gone, and the next one does not know the question.
        self._talk.tool_done_late(tool_name, tool_result_message)
        if self._uplink.is_open and not self._bot_is_responding:
            await self._uplink.note(self._talk.news())

    async def _withdraw(self, call_ids: Sequence[str]) -> None:
        for call_id in call_ids:
            self._asked.pop(call_id, None)
            self._toolbox.cancel(call_id)
        self._cut = True
        await self._tools_answered()

    async def _tools_answered(self) -> None:
        if self._profile.quiet_during_tools and self._connections not in self._asked.values():
            await self._uplink.let_audio_flow()

    def _collect_unheard(self) -> None:
        for unheard in self._toolbox.unheard_results():
            self._talk.tool_done_late(unheard.name, unheard.result)

    async def _tools_broke_down(self, _service: object, calls: Sequence[FunctionCallFromLLM]) -> None:
        for call in calls:
            self._trouble("tool_backstop", f"{call.function_name} did not end in {TOOL_BACKSTOP_SECONDS:g} s")
            error = {"error": "Our system had a problem.", "hint": "Apologise and offer to take a message."}
            await self._tool_result(call.tool_call_id, call.function_name, error)

    # -- small things -------------------------------------------------------------------------------------------------

    def _audio_was_dropped(self) -> None:
        self._trouble("caller_audio_dropped", f"the model took nothing for {CallerAudio.KEPT_S:g} s")

    def _trouble(self, failure: str, detail: str) -> None:
        self._record_event(Trouble(failure, "model", "nothing", detail))

    def _now_s(self) -> float:
        return self._port_clock.now_ns() / 1e9
