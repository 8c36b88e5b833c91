"""The JSON API and the call's page, on both engines; and what is answered while the records are away."""

from __future__ import annotations

import json
from typing import Any

from fakes.console import CALL
from pydantic import TypeAdapter

from records.record import CallRecord
from records.store import CallPage


async def test_a_calls_record_comes_as_json(open_console: Any, empty_url: str) -> None:
    async with open_console(database_url=empty_url) as site:
        answer = await site.client.get(f"/api/calls/{CALL}")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "private, no-store"
        assert TypeAdapter(CallPage).validate_json(answer.content) == site.parts.store.page(CALL)
        record = answer.json()["record"]
        assert [turn["text"] for turn in record["turns"] if turn["speaker"] == "caller"] == ["When are you open?"]
        assert TypeAdapter(CallRecord).validate_python(record).call_id == CALL
        for unknown in ("CA78", "CA%00", "-"):
            missing = await site.client.get(f"/api/calls/{unknown}")
            assert missing.status_code == 404
            assert "detail" in missing.json()


async def test_calls_are_listed_filtered_and_searched(open_console: Any, empty_url: str) -> None:
    async with open_console(database_url=empty_url) as site:
        record = site.parts.store.call(CALL)
        for n in range(3):
            site.parts.store.save(type(record)(**{**vars(record), "call_id": f"CB{n}", "flow": "home_repair"}))

        async def ids(path: str) -> list[str]:
            answer = await site.client.get(path)
            assert answer.status_code == 200, answer.text
            return [item.get("call_id") or item["call"]["call_id"] for item in answer.json()["items"]]

        assert await ids("/api/calls") == ["CB2", "CB1", "CB0", CALL]
        first = (await site.client.get("/api/calls?limit=3")).json()
        assert [item["call_id"] for item in first["items"]] == ["CB2", "CB1", "CB0"]
        assert await ids(f"/api/calls?limit=3&after={first['next']}") == [CALL]
        assert await ids("/api/calls?flow=dental&number=%2B1207&duration_ms_from=1000") == [CALL]
        assert await ids("/api/calls?number=%2B49") == []
        began = record.began_at.isoformat().replace("+00:00", "Z")
        assert await ids(f"/api/calls?flow=dental&began_from={began}") == [CALL]
        assert await ids(f"/api/calls?began_until={began}") == []
        assert await ids('/api/search?q="are you" open&flow=dental') == [CALL]
        hit = (await site.client.get("/api/search?q=open&flow=dental")).json()["items"][0]
        assert hit["speaker"] in ("caller", "bot")
        assert "open" in hit["excerpt"]["text"]
        assert await ids("/api/search?q=nobody") == []


async def test_a_filter_that_makes_no_sense_is_told(open_console: Any) -> None:
    async with open_console() as site:
        for query in (
            "limit=0", "limit=201", "after=x", "after=-1", "flow=%00", "cost_usd_to=nan",
            "began_from=2026-11-23T10:00:00", "began_from=0001-01-01T00:00:00Z",
            "began_until=9999-12-31T23:59:59-14:00",
        ):  # fmt: skip
            answer = await site.client.get(f"/api/calls?{query}")
            assert answer.status_code == 422
            assert answer.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]


async def test_the_api_is_described(open_console: Any) -> None:
    async with open_console() as site:
        described = (await site.client.get("/openapi.json")).json()
        paths = described["paths"]
        assert {path for path in paths if path.startswith(("/api", "/console"))} == {
            "/api/calls",
            "/api/search",
            "/api/calls/{call_id}",
            "/api/calls/{call_id}/recordings/{name}",
        }
        recording = paths["/api/calls/{call_id}/recordings/{name}"]
        assert set(recording) == {"get", "head"}
        assert set(recording["get"]["responses"]) >= {"200", "206", "307", "401", "404", "416", "503"}
        record = paths["/api/calls/{call_id}"]["get"]
        assert record["security"] == [{"APIKeyCookie": []}]
        assert record["responses"]["200"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/CallPage"
        }
        assert {"record", "scores", "recordings", "expired"} <= set(
            described["components"]["schemas"]["CallPage"]["properties"]
        )


async def test_a_calls_page_shows_what_was_said_and_escapes_it(open_console: Any, empty_url: str) -> None:
    async with open_console(database_url=empty_url) as site:
        page = await site.client.get(f"/console/calls/{CALL}")
        assert page.status_code == 200
        assert "<h1>Call from +12075550100</h1>" in page.text
        assert f'src="/api/calls/{CALL}/recordings/stereo.ogg"' in page.text
        assert 'controls preload="metadata"' in page.text
        assert "Hello, this is Ivory &lt;Dental&gt;." in page.text
        assert "nine &amp; close" in page.text
        said = page.text.partition('class="transcript"')[2]
        assert said.index("Ivory") < said.index("When are you open?") < said.index("close at five")
        for unknown in ("CA78", "CA%00", "x%2fy"):
            assert (await site.client.get(f"/console/calls/{unknown}")).status_code == 404


async def test_a_call_is_opened_by_its_id(open_console: Any) -> None:
    async with open_console() as site:
        assert (await site.client.get(f"/console?call=%20{CALL}")).headers["location"] == f"/console/calls/{CALL}"
        refused = await site.client.get("/console?call=//evil.example")
        assert (refused.status_code, "This is not the id of a call." in refused.text) == (200, True)
        async with site.browser() as other:
            assert (await other.get("/console")).headers["location"] == "/console/login?next=/console"


async def test_while_the_records_are_away_the_server_stays_up(open_console: Any, empty_url: str) -> None:
    async with open_console(database_url=empty_url) as site:
        with site.parts.database.writing() as session:
            for table in ("recordings", "changes", "details", "search", "turns", "tool_calls", "flags", "scores"):
                session.connection().exec_driver_sql(f"DROP TABLE records_{table}")
            session.connection().exec_driver_sql("DROP TABLE records_calls")
        for path in (f"/api/calls/{CALL}", "/api/calls", f"/api/calls/{CALL}/recordings/stereo.ogg"):
            answer = await site.client.get(path)
            assert answer.status_code == 503
            assert json.loads(answer.content) == {"detail": "The records cannot be reached at the moment."}
        page = await site.client.get(f"/console/calls/{CALL}")
        assert (page.status_code, "cannot be reached" in page.text) == (503, True)
        assert site.figure("console_unavailable_total") == 4
        assert (await site.client.get("/healthz")).status_code == 200


async def test_nobody_is_let_in_whose_deeds_cannot_be_written_down(open_console: Any) -> None:
    async with open_console(logged_in=False) as site:
        with site.parts.database.writing() as session:
            session.connection().exec_driver_sql("DROP TABLE records_audit_log")
        answer = await site.log_in()
        assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)
        assert (await site.log_in("wrong")).status_code == 401
        assert site.figure('console_logins_total{outcome="records_away"}') == 1
