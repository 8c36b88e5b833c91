"""The three servers that are compared, each in a process of its own: ``python -m benchmarks.servers KIND``.

``switchboard`` is the real server with everything on, configured by its environment. ``pipecat`` is a bot as Pipecat's
documentation builds it, at its defaults. ``relay`` has no pipeline: two sockets and our filters between them.
The process answers the commands (`benchmarks.children`) ``usage``, ``watch``, ``holds`` and ``stages``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import orjson
import uvloop

from benchmarks.children import answer_forever, take_standard_output
from benchmarks.holds import HoldMonitor
from bot.audio import MODEL_IN_HZ, Downsampler, Upsampler

GEMINI_MODEL = "gemini-3.1-flash-live-preview"


# -- Pipecat at its defaults ------------------------------------------------------------------------------------------


async def serve_pipecat(port: int, gemini_url: str) -> None:
    """A bot from Pipecat's documentation: its transport, serializer, service and aggregators as they come."""
    import uvicorn
    from fastapi import FastAPI
    from google.genai.types import HttpOptions
    from pipecat.frames.frames import LLMRunFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineParams, PipelineWorker
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
    from pipecat.serializers.twilio import TwilioFrameSerializer
    from pipecat.services.google.gemini_live.llm import GeminiLiveLLMService
    from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
    from pipecat.workers.runner import WorkerRunner
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    class PlainGemini(GeminiLiveLLMService):
        """The service as it is, but for the scheme: google-genai offers no way to a server without TLS."""

        def create_client(self) -> None:
            super().create_client()  # type: ignore[no-untyped-call]
            api: Any = self._client._api_client
            api._websocket_base_url = lambda http_options=None: gemini_url.replace("http://", "ws://", 1)
            api._websocket_ssl_ctx = {}

    async def media(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()
        start = orjson.loads(await socket.receive_text())["start"]
        transport = FastAPIWebsocketTransport(
            socket,
            FastAPIWebsocketParams(
                audio_in_enabled=True,
                audio_out_enabled=True,
                serializer=TwilioFrameSerializer(
                    start["streamSid"], params=TwilioFrameSerializer.InputParams(auto_hang_up=False)
                ),
            ),
        )
        llm = PlainGemini(
            api_key="key",
            http_options=HttpOptions(base_url=gemini_url),
            settings=GeminiLiveLLMService.Settings(
                model=f"models/{GEMINI_MODEL}", system_instruction="You answer the phone."
            ),
        )
        user, assistant = LLMContextAggregatorPair(LLMContext([{"role": "user", "content": "Greet the caller."}]))
        worker = PipelineWorker(
            Pipeline([transport.input(), user, llm, transport.output(), assistant]),
            params=PipelineParams(audio_out_sample_rate=8000, enable_metrics=True, enable_usage_metrics=True),
        )

        async def connected(*_: object) -> None:
            await worker.queue_frames([LLMRunFrame()])

        async def disconnected(*_: object) -> None:
            await worker.cancel()

        transport.add_event_handler("on_client_connected", connected)
        transport.add_event_handler("on_client_disconnected", disconnected)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        await runner.run()

    app = FastAPI(routes=[WebSocketRoute("/media", media)])
    await uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning")).serve()


# -- the floor --------------------------------------------------------------------------------------------------------


async def serve_relay(port: int, gemini_url: str) -> None:
    """No pipeline: the ``websockets`` library on both sides and our filters between."""
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    async def up(caller: ServerConnection, model: Any) -> None:
        converter = Upsampler()
        async for message in caller:
            content = orjson.loads(message)
            if content["event"] == "media":
                pcm = converter.feed(base64.b64decode(content["media"]["payload"]))
                data = base64.b64encode(pcm).decode()
                audio = f'{{"data":"{data}","mimeType":"audio/pcm;rate={MODEL_IN_HZ}"}}'
                await model.send(f'{{"realtimeInput":{{"audio":{audio}}}}}')

    async def down(caller: ServerConnection, model: Any, stream_sid: str) -> None:
        converter = Downsampler()
        async for message in model:
            content = orjson.loads(message).get("serverContent", {})
            if content.get("interrupted"):
                converter.reset()
                await caller.send(f'{{"event":"clear","streamSid":"{stream_sid}"}}')
            for part in content.get("modelTurn", {}).get("parts", ()):
                ulaw = converter.feed(base64.b64decode(part["inlineData"]["data"]))
                payload = base64.b64encode(ulaw).decode()
                await caller.send(f'{{"event":"media","streamSid":"{stream_sid}","media":{{"payload":"{payload}"}}}}')

    async def call(caller: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await caller.recv()
            stream_sid = orjson.loads(await caller.recv())["streamSid"]
            async with connect(gemini_url.replace("http://", "ws://", 1), compression=None, proxy=None) as model:
                await model.send(orjson.dumps({"setup": {"model": f"models/{GEMINI_MODEL}"}}).decode())
                await model.recv()
                await model.send('{"realtimeInput":{"text":"Greet the caller."}}')
                both = [asyncio.create_task(up(caller, model)), asyncio.create_task(down(caller, model, stream_sid))]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for task in both:
                    task.cancel()

    async with serve(call, "127.0.0.1", port, compression=None):
        await asyncio.get_running_loop().create_future()


# -- the process ------------------------------------------------------------------------------------------------------


def serve_switchboard() -> None:
    """The real server, from the environment; as ``server.py --no-sample-call`` runs it."""
    from bot.serve import serve

    serve(sample_call=False)


class Observer:
    """Answers the parent's commands from a thread of its own while the server runs."""

    def __init__(self) -> None:
        self._monitor: HoldMonitor | None = None
        self._stages: Any = None

    def loop_factory(self, make: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], asyncio.AbstractEventLoop]:
        """Make loops as ever, and watch the first."""

        def make_and_watch() -> asyncio.AbstractEventLoop:
            loop = make()
            self._monitor = self._monitor or HoldMonitor(loop)
            return loop

        return make_and_watch

    def install_stages(self) -> None:
        """Put stopwatches into the server's code; before it makes anything."""
        from benchmarks.stages import Stopwatches

        self._stages = Stopwatches()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One command."""
        match request["command"]:
            case "usage":
                return {"cpu_seconds": time.process_time(), "rss_mb": rss_mb(), "threads": threading.active_count()}
            case "watch":
                assert self._monitor
                self._monitor.start()
                return {}
            case "holds":
                assert self._monitor
                return self._monitor.stop()
            case "stages":
                return {"stages": self._stages.take()}
        raise ValueError(f"no such command: {request['command']}")


def rss_mb() -> float:
    """Resident memory of this process in MB, from /proc."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Run one server until the parent is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("switchboard", "pipecat", "relay"))
    parser.add_argument("--stages", action="store_true")
    options = parser.parse_args()
    line = take_standard_output()
    observer = Observer()
    if options.stages:
        observer.install_stages()
    uvloop.new_event_loop = observer.loop_factory(uvloop.new_event_loop)  # type: ignore[assignment]
    threading.Thread(target=answer_forever, args=(line, observer.answer), daemon=True).start()
    if options.kind == "switchboard":
        serve_switchboard()
        return
    port, gemini_url = int(os.environ["PORT"]), os.environ["GEMINI_BASE_URL"]
    serving: Coroutine[Any, Any, None] = {"pipecat": serve_pipecat, "relay": serve_relay}[options.kind](
        port, gemini_url
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


if __name__ == "__main__":
    main()
