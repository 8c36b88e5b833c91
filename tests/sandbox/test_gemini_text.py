"""generateContent of the stand-in, asked by the official SDK."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from typing import Any

import pytest
from fakes.gemini import ListedEar, ToneVoice, tone
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from sandbox.gemini import GeminiStandIn

MODEL = "gemini-flash-latest"


class Answer(BaseModel):
    summary: str
    name: str | None = None
    count: int


def stand_in(**options: Any) -> GeminiStandIn:
    return GeminiStandIn(voice=ToneVoice(), ear=options.pop("ear", ListedEar()), **options)


async def ask(server: GeminiStandIn, contents: Any, *, model: str = MODEL, key: str = "key", **config: Any) -> Any:
    client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=server.url))
    return await asyncio.to_thread(client.models.generate_content, model=model, contents=contents, config=config)


async def test_text_is_answered_and_says_that_no_model_did() -> None:
    async with stand_in() as server:
        answer = await ask(server, "What are your opening hours?")
    assert "not a model" in answer.text
    assert "opening hours" in answer.text
    assert answer.usage_metadata.total_token_count > 0
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP


async def test_an_answer_has_the_form_asked_for() -> None:
    async with stand_in() as server:
        answer = await ask(server, "caller: hello", response_mime_type="application/json", response_schema=Answer)
    assert isinstance(answer.parsed, Answer)
    assert "hello" in answer.parsed.summary
    assert (answer.parsed.name, answer.parsed.count) == (None, 0)


async def test_audio_is_written_down_by_the_ear() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(tone(500))
    ear = ListedEar("a quarter past nine")
    async with stand_in(ear=ear) as server:
        audio = types.Part.from_bytes(data=file.getvalue(), mime_type="audio/wav")
        answer = await ask(server, [audio, "Write down what is said."])
    assert answer.text == "a quarter past nine"
    assert ear.heard == [tone(500)]


async def test_a_test_may_say_what_is_answered_and_what_fails() -> None:
    async with stand_in() as server:
        server.text_answers += [{"count": 3}, 503]
        assert json.loads((await ask(server, "first")).text) == {"count": 3}
        with pytest.raises(errors.ServerError):
            await ask(server, "second")
        assert [request.text for request in server.text_requests] == ["first", "second"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": "wrong"}, 400),
        ({"model": "gemini-3.8-live"}, 404),
        ({"model": "somebody-elses"}, 404),
        ({"contents": types.Part.from_bytes(data=b"noise", mime_type="audio/wav")}, 400),
    ],
)
async def test_what_cannot_be_answered_is_refused(changes: dict[str, Any], code: int) -> None:
    async with stand_in(api_keys=["key"]) as server:
        with pytest.raises(errors.ClientError) as refused:
            await ask(server, **({"contents": "hello"} | changes))
    assert refused.value.code == code
