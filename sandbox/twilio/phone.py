"""A phone on the stand-in network: somebody who calls, and what is known of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sandbox.conversation import Caller, Conversation, Speaker
from sandbox.twilio.call import LiveCall, Registry
from sandbox.twilio.line import Pace
from sandbox.twilio.parties import Callee
from sandbox.twilio.record import CallRecord, new_sid
from sandbox.twilio.stream import Faults
from sandbox.twilio.webhook import Route, Signer, Webhooks

_TIME_LIMIT_SECONDS = 4 * 3600


@dataclass
class Phone:
    """Places calls to a server's voice webhook, as Twilio does when somebody dials the number.

    `public_url` is the server's name in signatures, Host headers and TwiML; empty: the address that is called.
    `exchange` lets REST updates reach the call: an `Exchange` in this process. `on_event(at_ms, kind, text)` is
    told what happens. `callees` are the people whom `<Dial>` and `<Enqueue>` reach, by number; "" is everybody else.
    `payment` is what `<Pay>` answers. `route` is the way to the server where it does not follow from the number's URL.
    """

    account_sid: str
    auth_token: str
    public_url: str = ""
    exchange: Registry | None = None
    voice: Speaker | None = None
    pace: Pace = field(default_factory=Pace)
    faults: Faults = field(default_factory=Faults)
    signer: Signer | None = None
    callees: Mapping[str, Callee] = field(default_factory=dict)
    payment: Mapping[str, str] = field(default_factory=lambda: {"Result": "payment-connector-error"})
    route: Route | None = None
    webhook_timeout: float = 15.0
    on_event: Callable[[int, str, str], None] = lambda at_ms, kind, text: None

    async def call(
        self,
        number_url: str,
        *,
        caller: Caller | None = None,
        from_: str = "+15005550100",
        to: str = "+15005550006",
        **options: Any,
    ) -> CallRecord:
        """Place a call and stay on it until it ends. The options are those of `dial`."""
        return await self.dial(number_url, caller=caller, from_=from_, to=to, **options).run()

    def dial(
        self,
        number_url: str,
        *,
        caller: Caller | None = None,
        from_: str = "+15005550100",
        to: str = "+15005550006",
        direction: str = "inbound",
        method: str = "POST",
        fallback_url: str = "",
        status_callback: str = "",
        status_callback_events: tuple[str, ...] = ("completed",),
        time_limit: float = _TIME_LIMIT_SECONDS,
        fields: Mapping[str, str] | None = None,
        call_sid: str = "",
        twiml: str = "",
        ring_timeout: float = 60,
        detect_machine: str = "",
    ) -> LiveCall:
        """A call that is not running yet: `await call.run()`; meanwhile `update` and `hang_up` steer it.

        `fields` are added to every webhook or replace one of it. With `twiml` that is executed instead of the webhook.
        `ring_timeout` in seconds and `detect_machine` (`sync`, or the URL that the asynchronous result is posted to)
        are for outbound calls, where the `Callee` of `to` answers.
        """
        webhooks = self.webhooks(number_url)
        return LiveCall(
            phone=self,
            sid=call_sid or new_sid("CA"),
            caller=caller or Conversation(),
            url=webhooks.route.public_form(number_url),
            method=method,
            twiml=twiml,
            from_=from_,
            to=to,
            direction=direction,
            fallback_url=fallback_url,
            status_callback=status_callback,
            status_callback_events=status_callback_events,
            time_limit=time_limit,
            ring_timeout=ring_timeout,
            detect_machine=detect_machine,
            fields=dict(fields or {}),
            webhooks=webhooks,
        )

    def webhooks(self, url: str) -> Webhooks:
        """Somebody to make signed requests to the server at `url`."""
        parts = urlsplit(url)
        local = f"{parts.scheme}://{parts.netloc}"
        route = self.route or Route(local=local, public=self.public_url.rstrip("/") or local)
        return Webhooks(self.signer or Signer(self.auth_token), route, self.webhook_timeout)

    async def speak(self, text: str) -> bytes:
        """What the network itself says (`<Say>`), as s16le at 8000 Hz."""
        if self.voice is None:
            from sandbox.voice import Voice

            self.voice = Voice()
        return await asyncio.to_thread(self.voice.speak, text, rate=8000)

    async def conference_sid(self, name: str) -> str:
        """The sid of a conference; every one is new where no exchange knows them."""
        return await self.exchange.conference_sid(name) if self.exchange else new_sid("CF")

    async def prepare(self, caller: Caller) -> None:
        """Let a caller render its speech, in a thread."""
        if self.voice is None:
            await self.speak("")
        assert self.voice is not None
        await asyncio.to_thread(caller.prepare, self.voice)
