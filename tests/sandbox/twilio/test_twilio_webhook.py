"""Signatures against the official validator, and how webhooks are made, retried, redirected and replaced."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import Response
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import HMAC_SHA256, RequestValidator, get_signature_algorithm

from sandbox.conversation import Conversation, Habits
from sandbox.twilio import Phone
from sandbox.twilio.webhook import SETTINGS_HEADER, Route, Signer, Webhooks, pairs, signature

PUBLIC = "https://bot.example.com"
DONE = "<Response/>"
NAMES = st.text(alphabet="ABCabc_019", min_size=1, max_size=8)


class TestSignature:
    @given(fields=st.dictionaries(NAMES, st.text(max_size=20), max_size=8), path=NAMES)
    def test_the_official_validator_accepts_any_form(self, fields: dict[str, str], path: str) -> None:
        url = f"{PUBLIC}/{path}?a=1&b="
        ours = signature("secret", url, pairs(fields))
        assert RequestValidator("secret").validate(url, fields, ours)
        assert not RequestValidator("other").validate(url, fields, ours)

    @given(fields=st.dictionaries(NAMES, st.text(max_size=20), max_size=8))
    def test_and_the_sha256_of_a_shared_key(self, fields: dict[str, str]) -> None:
        headers = Signer("key-secret", shared_key="webhooks_sharedkey_1").headers(PUBLIC, pairs(fields))
        algorithm = get_signature_algorithm(headers[SETTINGS_HEADER])
        assert algorithm == HMAC_SHA256
        assert RequestValidator("key-secret").validate(PUBLIC, fields, headers["X-Twilio-Signature"], algorithm)

    def test_repeated_and_blank_fields_count(self) -> None:
        from starlette.datastructures import FormData

        fields = {"Event": ["b", "a", "b"], "Blank": "", "Name": "Zoë"}
        ours = signature("secret", PUBLIC, pairs(fields))
        assert RequestValidator("secret").validate(PUBLIC, FormData(pairs(fields)), ours)

    def test_the_fragment_is_not_signed(self) -> None:
        assert signature("s", f"{PUBLIC}/v#rc=2") == signature("s", f"{PUBLIC}/v")

    def test_a_socket_is_signed_without_parameters(self) -> None:
        url = "wss://bot.example.com/media"
        assert RequestValidator("secret").validate(url, {}, signature("secret", url))


@pytest.fixture
async def webhooks(server: Any, account: tuple[str, str]) -> Any:
    made = Webhooks(Signer(account[1]), Route(local=server.url, public=PUBLIC), timeout=1)
    yield made
    await made.aclose()


class TestRequests:
    async def test_a_request_is_signed_for_the_public_address_and_goes_to_the_local_one(
        self, webhooks: Webhooks, server: Any
    ) -> None:
        server.pages["/voice"] = DONE
        await webhooks.request(f"{PUBLIC}/voice?x=1", {"Blank": "", "CallerName": "Zoë + Söhne", "From": "+15"})
        (got,) = server.got
        assert got.signed
        assert got.headers["host"] == "bot.example.com"
        assert got.headers["x-forwarded-proto"] == "https"
        assert got.headers["content-type"] == "application/x-www-form-urlencoded; charset=UTF-8"
        assert got.form["Blank"] == ""
        assert got.form["CallerName"] == "Zoë + Söhne"
        assert b"From=%2B15" in got.body

    async def test_get_puts_the_fields_into_the_signed_url(self, webhooks: Webhooks, server: Any) -> None:
        server.pages["/voice"] = DONE
        await webhooks.request(f"{PUBLIC}/voice", {"From": "+15", "Blank": ""}, method="GET")
        (got,) = server.got
        assert (got.method, got.query, got.signed) == ("GET", "From=%2B15&Blank=", True)

    async def test_json_is_signed_by_its_hash(self, webhooks: Webhooks, server: Any) -> None:
        server.pages["/events"] = DONE
        await webhooks.post_json(f"{PUBLIC}/events?v=2", {"a": "ü"})
        (got,) = server.got
        assert "bodySHA256=" in got.query
        assert json.loads(got.body) == {"a": "ü"}
        assert got.signed

    @pytest.mark.parametrize(
        ("signer", "headers"),
        [
            (Signer("t", fault="missing"), set()),
            (Signer("t", fault="wrong"), {"x-twilio-signature"}),
            (Signer("another token"), {"x-twilio-signature"}),
        ],
    )
    async def test_bad_signatures_on_purpose(self, server: Any, signer: Signer, headers: set[str]) -> None:
        server.pages["/voice"] = DONE
        webhooks = Webhooks(signer, Route(local=server.url, public=PUBLIC))
        await webhooks.request(f"{PUBLIC}/voice", {"a": "b"})
        await webhooks.aclose()
        assert not server.got[0].signed
        assert {name for name in server.got[0].headers if "signature" in name} == headers

    async def test_a_shared_key_on_the_wire(self, server: Any) -> None:
        server.pages["/voice"] = DONE
        server.token, server.algorithm = "key-secret", HMAC_SHA256
        webhooks = Webhooks(Signer("key-secret", shared_key="k1"), Route(local=server.url, public=PUBLIC))
        await webhooks.request(f"{PUBLIC}/voice", {"a": "b"})
        await webhooks.aclose()
        assert server.got[0].signed
        assert server.got[0].headers[SETTINGS_HEADER.lower()] == "key=k1,algorithm=HMAC_SHA256"

    async def test_cookies_live_as_long_as_the_call(self, webhooks: Webhooks, server: Any) -> None:
        server.pages["/voice"] = Response(DONE, headers={"set-cookie": "who=me; Secure; Path=/"}, media_type="text/xml")
        for _ in range(2):
            await webhooks.request(f"{PUBLIC}/voice", {})
        assert ["who=me" in got.headers.get("cookie", "") for got in server.got] == [False, True]

    async def test_redirects_are_followed_and_signed_anew(self, webhooks: Webhooks, server: Any) -> None:
        server.pages |= {"/a": Response(status_code=307, headers={"location": "/b"}), "/b": DONE}
        sent = await webhooks.request(f"{PUBLIC}/a", {"x": "1"})
        assert sent.status == 200
        assert [(got.path, got.method, got.signed) for got in server.got] == [
            ("/a", "POST", True),
            ("/b", "POST", True),
        ]

    async def test_a_302_is_followed_with_get(self, webhooks: Webhooks, server: Any) -> None:
        server.pages |= {"/a": Response(status_code=302, headers={"location": f"{PUBLIC}/b"}), "/b": DONE}
        await webhooks.request(f"{PUBLIC}/a", {"x": "1"})
        assert [(got.method, got.query, got.signed) for got in server.at("/b")] == [("GET", "x=1", True)]

    async def test_a_circle_ends_with_11215(self, webhooks: Webhooks, server: Any) -> None:
        server.pages["/a"] = Response(status_code=307, headers={"location": "/a"})
        sent = await webhooks.request(f"{PUBLIC}/a", {})
        assert sent.code == 11215
        assert len(server.got) == 11

    async def test_a_retry_carries_the_same_idempotency_token(self, webhooks: Webhooks, server: Any) -> None:
        answers = iter([Response(status_code=503), Response(status_code=503), Response(DONE, media_type="text/xml")])
        server.pages["/voice"] = lambda got: next(answers)
        sent = await webhooks.request(f"{PUBLIC}/voice#rc=2&rp=5xx", {})
        assert (sent.status, sent.error) == (200, "")
        assert len({got.headers["i-twilio-idempotency-token"] for got in server.got}) == 1
        await webhooks.request(f"{PUBLIC}/nothing", {})
        assert len({got.headers["i-twilio-idempotency-token"] for got in server.got}) == 2

    async def test_without_a_policy_a_503_is_not_tried_again(self, webhooks: Webhooks, server: Any) -> None:
        server.pages["/voice"] = Response(status_code=503)
        sent = await webhooks.request(f"{PUBLIC}/voice#rc=2", {})
        assert (sent.code, len(server.got)) == (11200, 1)

    async def test_the_fragment_sets_the_time_limit(self, webhooks: Webhooks, server: Any) -> None:
        async def slow(_: Any) -> str:
            await asyncio.sleep(2)
            return DONE

        server.pages["/voice"] = slow
        sent = await webhooks.request(f"{PUBLIC}/voice#rt=200", {})
        assert (sent.status, sent.code) == (0, 11200)
        assert sent.seconds < 1.5

    async def test_nobody_listens(self, account: tuple[str, str]) -> None:
        webhooks = Webhooks(Signer(account[1]), Route(local="http://127.0.0.1:1", public=PUBLIC))
        sent = await webhooks.request(f"{PUBLIC}/voice", {})
        await webhooks.aclose()
        assert (sent.status, sent.code) == (0, 11205)


class TestVoiceWebhook:
    @pytest.fixture
    def phone(self, account: tuple[str, str], voice: Any) -> Phone:
        return Phone(*account, public_url=PUBLIC, voice=voice, webhook_timeout=1)

    async def test_every_documented_field_is_there(self, phone: Phone, server: Any) -> None:
        server.pages["/voice"] = "<Response><Reject/></Response>"
        record = await phone.call(f"{server.url}/voice", from_="anonymous", to="+15005550006")
        form = server.got[0].form
        assert form["From"] == form["Caller"] == "anonymous"
        assert form["To"] == form["Called"] == "+15005550006"
        assert form["CallSid"] == record.call_sid
        assert len(form["CallSid"]) == len(form["AccountSid"]) == 34
        assert (form["CallStatus"], form["Direction"], form["ApiVersion"]) == ("ringing", "inbound", "2010-04-01")
        blanks = {name for name in form if form[name] == ""}
        assert {"CallerCity", "FromState", "CalledZip", "ToCity", "ForwardedFrom"} <= blanks
        assert {"StirVerstat", "CallToken", "CallerCountry"} <= set(form)
        assert not form["CallerName"].isascii()
        assert server.got[0].headers["i-twilio-idempotency-token"]

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (Response(status_code=500), "11200"),
            (Response(status_code=403), "11200"),
            ("<Response><Say>", "12100"),
            ("<Answer/>", "12100"),
            (Response("{}", media_type="application/json"), "12300"),
        ],
    )
    async def test_what_cannot_be_used_leads_to_the_fallback(
        self, phone: Phone, server: Any, answer: Any, code: str
    ) -> None:
        server.pages |= {"/voice": answer, "/safety": "<Response><Hangup/></Response>"}
        record = await phone.call(f"{server.url}/voice", fallback_url=f"{PUBLIC}/safety")
        (asked,) = server.at("/safety")
        assert asked.signed
        assert (asked.form["ErrorCode"], asked.form["ErrorUrl"]) == (code, f"{PUBLIC}/voice")
        assert asked.form["CallSid"] == record.call_sid
        assert [str(error.code) for error in record.errors] == [code]
        assert record.ended_by == "<Hangup>"

    async def test_silence_leads_to_the_fallback_after_the_limit(self, phone: Phone, server: Any) -> None:
        async def slow(_: Any) -> str:
            await asyncio.sleep(3)
            return DONE

        server.pages |= {"/voice": slow, "/safety": "<Response><Hangup/></Response>"}
        await phone.call(f"{server.url}/voice", fallback_url=f"{PUBLIC}/safety")
        assert server.at("/safety")[0].form["ErrorCode"] == "11200"

    async def test_fifteen_seconds_are_the_default(self, account: tuple[str, str]) -> None:
        assert Phone(*account).webhook_timeout == 15

    async def test_without_a_fallback_the_caller_hears_an_apology(self, phone: Phone, server: Any) -> None:
        server.pages["/voice"] = Response(status_code=500)
        record = await phone.call(f"{server.url}/voice", caller=Conversation(habits=Habits(stays=True)))
        assert "application error" in record.announcements[0][1]
        assert (record.ended_by, record.status) == ("application error 11200", "completed")
        assert record.heard_segments

    async def test_plain_text_is_read_aloud(self, phone: Phone, server: Any) -> None:
        server.pages["/voice"] = Response("Closed & gone", media_type="text/plain")
        record = await phone.call(f"{server.url}/voice")
        assert [text for _, text in record.announcements] == ["Closed & gone"]

    async def test_audio_is_played(self, phone: Phone, server: Any) -> None:
        from sandbox import sound

        tone = sound.tone((500,), 400)
        server.pages["/voice"] = Response(sound.wav(tone), media_type="audio/wav")
        record = await phone.call(f"{server.url}/voice")
        assert tone in record.heard
        assert record.interpreter.executed == ["Play"]
