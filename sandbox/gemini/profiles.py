"""How the Live models differ, as data. Nothing else in the stand-in asks which model it plays.

Every field is a fact seen in Google's documentation or in recorded sessions; where reports disagree it is a switch,
so a test can take the other side with `dataclasses.replace`. Times are seconds of the real service;
`GeminiStandIn(speed=)` divides them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sandbox.gemini.wire import DEADLINE, ENTITY_NOT_FOUND, Close

Policy = Literal["accept", "ignore", "reject"]

HANDLE_NOT_FOUND = Close(1008, ENTITY_NOT_FOUND)
DEADLINE_EXPIRED = Close(1011, DEADLINE)


@dataclass(frozen=True)
class Profile:
    """One model's behaviour. `models` are the ids (without `models/`) that get it."""

    models: tuple[str, ...]

    # --- what a setup may ask for
    thinking: Literal["budget", "level", "none", "required"] = "level"
    thinking_config_when_none: Policy = "reject"
    blocking_default: bool = True
    blocking_allowed: bool = True
    non_blocking: Policy = "accept"
    proactive_audio: Literal["v1alpha", "unsupported", "always"] = "unsupported"
    affective_dialog_on_v1alpha: bool = False
    media_chunks_allowed: bool = False
    seeds_history: bool = True
    unsupported_tools: frozenset[str] = frozenset(
        {"codeExecution", "urlContext", "googleMaps", "fileSearch", "computerUse", "googleSearchRetrieval"}
    )
    client_content: Literal["any time", "initial only"] = "any time"
    null_handle_rejected: bool = False

    # --- turn detection
    silence_ms: int = 700
    honours_silence_duration: bool = True
    prefix_padding_ms: int = 100
    counts_all_input: bool = False
    wrong_mime: Policy = "ignore"

    # --- shape of server frames
    audio_frame_ms: int = 200
    bundles_transcript: bool = True
    transcribes_whole_utterance: bool = True
    output_transcript_unasked: bool = False
    before_reply: tuple[str, ...] = ()
    empty_before_audio: bool = False
    model_role: bool = False
    voice_activity: bool = True
    voice_activity_beside_content: bool = False
    interaction_status: bool = False
    call_id_prefix: str = "fc_"
    binary_frames: bool = True

    # --- usage
    audio_tokens_per_second: int = 25
    phantom_audio_tokens: int = 0
    unexplained_prompt_tokens: int = 30
    thought_tokens: int = 0
    thoughts_unasked: bool = False

    # --- tools
    unknown_call_id: Policy = "reject"
    interrupt_waits_for_user: bool = True

    # --- session
    handle_at_setup_unasked: bool = False
    handle_after_tool_unasked: bool = False
    handle_every_seconds: float | None = None
    handle_valid_seconds: float = 2 * 3600
    bad_handle: Close = HANDLE_NOT_FOUND
    connection_seconds: float = 600
    go_away_seconds: float = 50
    go_away_close: Close = DEADLINE_EXPIRED
    audio_session_seconds: float = 900
    video_session_seconds: float = 120
    context_window_tokens: int = 131_072

    # --- timing of the real service
    setup_seconds: float = 0.8
    first_audio_seconds: float = 0.6
    delivery_factor: float = 4.0

    def __post_init__(self) -> None:
        if self.delivery_factor < 1 or self.audio_frame_ms < 20:
            raise ValueError("A profile delivers audio at real time or faster, in frames of 20 ms or more.")


NATIVE_AUDIO_2_5 = Profile(
    models=(
        "gemini-2.5-flash-native-audio-preview-09-2025",
        "gemini-2.5-flash-native-audio-preview-12-2025",
        "gemini-2.5-flash-native-audio-latest",
    ),
    thinking="budget",
    proactive_audio="v1alpha",
    affective_dialog_on_v1alpha=True,
    media_chunks_allowed=True,
    seeds_history=False,
    audio_frame_ms=60,
    bundles_transcript=False,
    transcribes_whole_utterance=False,
    voice_activity=False,
    unexplained_prompt_tokens=0,
    thoughts_unasked=True,
    call_id_prefix="function-call-",
    interrupt_waits_for_user=False,
)

FLASH_LIVE_3_1 = Profile(
    models=("gemini-3.1-flash-live-preview",),
    non_blocking="ignore",
    null_handle_rejected=True,
    honours_silence_duration=False,
    before_reply=("content",),
    voice_activity_beside_content=True,
    handle_after_tool_unasked=True,
    handle_every_seconds=0.9,
    go_away_close=Close(
        1008,
        "Connection aborted because the client failed to close the connection after receiving a GoAway signal "
        "once the session",
    ),
)

LIVE_3_8 = Profile(
    models=("gemini-3.8-live",),
    thinking="none",
    blocking_default=False,
    proactive_audio="always",
    before_reply=("empty", "content"),
    empty_before_audio=True,
    model_role=True,
    phantom_audio_tokens=190,
    thought_tokens=40,
    handle_at_setup_unasked=True,
)

LIVE_3_8_EXTENDED_THINKING = replace(
    LIVE_3_8,
    models=("gemini-3.8-live-extended-thinking",),
    thinking="required",
    blocking_allowed=False,
    interaction_status=True,
)

PROFILES = (LIVE_3_8, LIVE_3_8_EXTENDED_THINKING, FLASH_LIVE_3_1, NATIVE_AUDIO_2_5)


def find_profile(profiles: tuple[Profile, ...], model: str) -> Profile | None:
    """The profile that plays `model` (with or without `models/`), or None: the model does not exist."""
    name = model.removeprefix("models/")
    return next((profile for profile in profiles if name in profile.models), None)
