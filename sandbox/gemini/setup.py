"""What a client's `setup` asks for, checked against the model's profile.

Pure. Everything the session needs later is in `Settings`; what a model refuses is refused here, with the close code and
the words of the service (source: the facts in docs/sandbox-gemini.md, "Refusals").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sandbox.gemini.profiles import Profile
from sandbox.gemini.wire import (
    TEXT_MODALITY,
    Json,
    as_int,
    check_names,
    content_text,
    invalid,
)

_SETUP_FIELDS = frozenset(
    {
        "model",
        "generationConfig",
        "systemInstruction",
        "tools",
        "toolConfig",
        "realtimeInputConfig",
        "sessionResumption",
        "contextWindowCompression",
        "inputAudioTranscription",
        "outputAudioTranscription",
        "proactivity",
        "historyConfig",
        "avatarConfig",
        "safetySettings",
        "labels",
    }
)
_GENERATION_FIELDS_REFUSED = frozenset(
    {
        "responseLogprobs",
        "responseMimeType",
        "logprobs",
        "responseSchema",
        "responseJsonSchema",
        "stopSequences",
        "routingConfig",
        "audioTimestamp",
    }
)
_ENUMS = {
    "startOfSpeechSensitivity": ("START_SENSITIVITY_", ("UNSPECIFIED", "HIGH", "LOW")),
    "endOfSpeechSensitivity": ("END_SENSITIVITY_", ("UNSPECIFIED", "HIGH", "LOW")),
    "activityHandling": (
        "",
        ("ACTIVITY_HANDLING_UNSPECIFIED", "START_OF_ACTIVITY_INTERRUPTS", "NO_INTERRUPTION"),
    ),
    "turnCoverage": (
        "TURN_",
        (
            "COVERAGE_UNSPECIFIED",
            "INCLUDES_ONLY_ACTIVITY",
            "INCLUDES_ALL_INPUT",
            "INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO",
        ),
    ),
    "mediaResolution": ("MEDIA_RESOLUTION_", ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH")),
}
_THINKING_LEVELS = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_BEHAVIORS = ("UNSPECIFIED", "BLOCKING", "NON_BLOCKING")


@dataclass(frozen=True)
class Compression:
    """Sliding-window compression: past `trigger_tokens` the context is cut to `target_tokens`."""

    trigger_tokens: int
    target_tokens: int


@dataclass(frozen=True)
class Tools:
    """The declared functions (name -> is it NON_BLOCKING), Google Search, and the declarations as sent."""

    non_blocking: dict[str, bool] = field(default_factory=dict)
    google_search: bool = False
    declarations: tuple[Json, ...] = ()


@dataclass(frozen=True)
class Settings:
    """A checked setup. `raw` is the whole message body in camelCase, as the mind gets it."""

    raw: Json
    model: str
    system_instruction: str
    tools: Tools
    voice: str
    include_thoughts: bool
    automatic_detection: bool
    silence_ms: int
    prefix_padding_ms: int
    interrupts: bool
    counts_all_input: bool
    wants_handles: bool
    handle: str | None
    compression: Compression | None
    transcribes_input: bool
    transcribes_output: bool
    seeds_history: bool


def read_setup(setup: Json, profile: Profile, version: str) -> Settings:
    """Checks `setup` (camelCase) as `profile`'s model does on API `version` ("v1beta" or "v1alpha").

    Raises Reject with the service's close code and reason.
    """
    check_names(setup, _SETUP_FIELDS, "setup")
    model = str(setup["model"])
    generation = _object(setup, "generationConfig")
    _check_generation(generation, profile, version, model)
    _check_proactivity(setup, profile, version)
    detection_setup = _object(setup, "realtimeInputConfig")
    detection = _object(detection_setup, "automaticActivityDetection")
    silence = as_int(detection.get("silenceDurationMs", profile.silence_ms), "silence_duration_ms")
    prefix = as_int(detection.get("prefixPaddingMs", profile.prefix_padding_ms), "prefix_padding_ms")
    if silence < 0 or prefix < 0:
        raise invalid()
    handling = _enum(detection_setup, "activityHandling")
    coverage = _enum(detection_setup, "turnCoverage")
    _enum(detection, "startOfSpeechSensitivity")
    _enum(detection, "endOfSpeechSensitivity")
    resumption = _resumption(setup, profile)
    return Settings(
        raw=setup,
        model=model,
        system_instruction=_instruction(setup.get("systemInstruction")),
        tools=read_tools(setup.get("tools"), profile),
        voice=_voice(generation),
        include_thoughts=bool(_object(generation, "thinkingConfig").get("includeThoughts")),
        automatic_detection=not detection.get("disabled", False),
        silence_ms=silence if profile.honours_silence_duration else profile.silence_ms,
        prefix_padding_ms=prefix,
        interrupts=handling != "NO_INTERRUPTION",
        counts_all_input=coverage == "TURN_INCLUDES_ALL_INPUT" or (not coverage and profile.counts_all_input),
        wants_handles=resumption is not None,
        handle=(resumption or {}).get("handle"),
        compression=_compression(setup, profile),
        transcribes_input="inputAudioTranscription" in setup,
        transcribes_output="outputAudioTranscription" in setup or profile.output_transcript_unasked,
        seeds_history=profile.seeds_history
        and bool(_object(setup, "historyConfig").get("initialHistoryInClientContent")),
    )


def read_tools(tools: Any, profile: Profile) -> Tools:
    """The `tools` list of a setup or a contextUpdate. Raises Reject(1007)."""
    non_blocking: dict[str, bool] = {}
    declarations: list[Json] = []
    google_search = False
    for tool in _objects(tools, "tools"):
        refused = profile.unsupported_tools.intersection(tool)
        if refused:
            raise invalid(f"{min(refused)} is not supported by this model.")
        google_search = google_search or "googleSearch" in tool
        for declaration in _objects(tool.get("functionDeclarations"), "function_declarations"):
            name = declaration.get("name")
            if not isinstance(name, str) or not name or name in non_blocking:
                raise invalid("Function declarations need distinct names.")
            non_blocking[name] = _is_non_blocking(declaration, profile)
            declarations.append(declaration)
    return Tools(non_blocking, google_search, tuple(declarations))


def _is_non_blocking(declaration: Json, profile: Profile) -> bool:
    behavior = str(declaration.get("behavior") or "UNSPECIFIED")
    if behavior not in _BEHAVIORS:
        raise invalid()
    if behavior == "BLOCKING":
        if not profile.blocking_allowed:
            raise invalid("BLOCKING function calls are not supported by this model.")
        return False
    if behavior == "NON_BLOCKING":
        if profile.non_blocking == "reject":
            raise invalid("NON_BLOCKING function calls are not supported by this model.")
        return profile.non_blocking == "accept"
    return not profile.blocking_default


def _check_generation(generation: Json, profile: Profile, version: str, model: str) -> None:
    refused = _GENERATION_FIELDS_REFUSED.intersection(generation)
    if refused:
        raise invalid()
    modalities = generation.get("responseModalities") or ["AUDIO"]
    if modalities == ["TEXT"]:
        raise invalid(TEXT_MODALITY.format(model=model.removeprefix("models/")))
    if modalities != ["AUDIO"]:
        raise invalid()
    _enum(generation, "mediaResolution")
    if generation.get("enableAffectiveDialog") and not (profile.affective_dialog_on_v1alpha and version == "v1alpha"):
        raise invalid(f"enableAffectiveDialog is not supported by this model on {version}.")
    _check_thinking(generation, profile)


def _check_thinking(generation: Json, profile: Profile) -> None:
    thinking = _object(generation, "thinkingConfig")
    level = thinking.get("thinkingLevel")
    if level is not None and str(level).upper() not in _THINKING_LEVELS:
        raise invalid()
    if profile.thinking == "none" and thinking and profile.thinking_config_when_none == "reject":
        raise invalid("Thinking config is not supported by this model.")
    if profile.thinking == "budget" and level is not None:
        raise invalid("Thinking level is not supported by this model.")
    if profile.thinking == "level" and "thinkingBudget" in thinking:
        raise invalid("Thinking budget is not supported by this model.")
    if profile.thinking == "required" and (level is None or str(level).upper() == "MINIMAL"):
        raise invalid("This model needs a thinking level of LOW, MEDIUM or HIGH.")


def _check_proactivity(setup: Json, profile: Profile, version: str) -> None:
    proactive = _object(setup, "proactivity").get("proactiveAudio")
    if proactive is None:
        return
    on_alpha = profile.proactive_audio == "v1alpha" and version == "v1alpha"
    always_on = profile.proactive_audio == "always" and proactive is True
    if not (on_alpha or always_on):
        raise invalid("The requested proactive audio setting is not supported by this model.")


def _resumption(setup: Json, profile: Profile) -> Json | None:
    if "sessionResumption" not in setup:
        return None
    resumption = _object(setup, "sessionResumption")
    if "transparent" in resumption:
        raise invalid("Transparent session resumption is only supported on Vertex AI.")
    if "handle" in resumption and resumption["handle"] is None and profile.null_handle_rejected:
        raise invalid()
    handle = resumption.get("handle")
    if handle is not None and not isinstance(handle, str):
        raise invalid()
    return {"handle": handle or None}


def _compression(setup: Json, profile: Profile) -> Compression | None:
    if setup.get("contextWindowCompression") is None:
        return None
    wanted = _object(setup, "contextWindowCompression")
    trigger = as_int(wanted.get("triggerTokens", profile.context_window_tokens * 8 // 10), "trigger_tokens")
    target = as_int(_object(wanted, "slidingWindow").get("targetTokens", trigger // 2), "target_tokens")
    if not 0 < target < trigger <= profile.context_window_tokens:
        raise invalid()
    return Compression(trigger, target)


def _voice(generation: Json) -> str:
    voice = _object(_object(generation, "speechConfig"), "voiceConfig")
    return str(_object(voice, "prebuiltVoiceConfig").get("voiceName", ""))


def _instruction(content: Any) -> str:
    return "" if content is None else content_text(content)


def _enum(body: Json, name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    prefix, members = _ENUMS[name]
    if not isinstance(value, str) or value not in {prefix + member for member in members}:
        raise invalid(f"Invalid value at '{name}'.")
    return "" if value.endswith("UNSPECIFIED") else value


def _object(body: Json, name: str) -> Json:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(f"Invalid value at '{name}'.")
    return value


def _objects(value: Any, name: str) -> Iterable[Json]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise invalid(f"Invalid value at '{name}'.")
    return value
