"""Who is let in: the password, sessions, other sites' forms, guessing."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from fakes.console import CALL, ORIGIN, PASSWORD, make_settings
from pydantic import SecretStr

from bot.ports import Ids
from console.access import SESSION_SECONDS, Access, Throttle

PAGE = f"/console/calls/{CALL}"


async def test_a_page_leads_to_the_login_and_back(open_console: Any) -> None:
    async with open_console(logged_in=False) as site:
        asked = await site.client.get(PAGE)
        assert (asked.status_code, asked.headers["location"]) == (303, f"/console/login?next={PAGE}")
        form = await site.client.get(asked.headers["location"])
        assert form.status_code == 200
        assert f'value="{PAGE}"' in form.text
        entered = await site.log_in(next=PAGE)
        assert (entered.status_code, entered.headers["location"]) == (303, PAGE)
        assert (await site.client.get(PAGE)).status_code == 200
        assert (await site.client.get("/console/login")).headers["location"] == "/console"
        assert site.audit() == [("operator", "logged in", "")]


async def test_the_api_says_in_json_that_a_login_is_missing(open_console: Any) -> None:
    async with open_console(logged_in=False) as site:
        for path in ("/api/calls", "/api/search?q=open", f"/api/calls/{CALL}", f"/api/calls/{CALL}/recordings/none"):
            answer = await site.client.get(path)
            assert answer.status_code == 401
            assert answer.json() == {"detail": "Log in at /console/login."}
        assert (await site.recording()).status_code == 401
        assert (await site.recording(method="HEAD")).status_code == 401


async def test_the_login_leads_to_no_other_site(open_console: Any) -> None:
    async with open_console(logged_in=False) as site:
        for elsewhere in (
            "https://evil.example", "//evil.example", "/\\evil.example", "/console/../evil", "/console//evil", "x",
        ):  # fmt: skip
            assert (await site.log_in(next=elsewhere)).headers["location"] == "/console"


async def test_a_wrong_password_is_told_counted_and_written_down_without_it(open_console: Any) -> None:
    async with open_console(logged_in=False) as site:
        for wrong in ("", PASSWORD + "x", "\ud83d", PASSWORD.upper()):
            answer = await site.client.post(
                "/console/login",
                content=b"password=" + wrong.encode("utf-8", "surrogatepass"),
                headers={"Origin": ORIGIN},
            )
            assert answer.status_code == 401
            assert "This is not the password." in answer.text
            assert "set-cookie" not in answer.headers
        assert site.audit() == [("unknown", "login failed", "")] * 4
        assert [entry.detail for entry in site.parts.store.audit_log().items] == [{"client": "203.0.113.7"}] * 4
        assert site.figure('console_logins_total{outcome="wrong_password"}') == 4


async def test_a_form_that_is_too_large_or_none_is_a_wrong_password(open_console: Any) -> None:
    async with open_console(logged_in=False) as site:
        for body in (b"password=" + b"x" * 10_000, b"\xff\xfe", b"&".join(b"a=%d" % n for n in range(50))):
            answer = await site.client.post("/console/login", content=body, headers={"Origin": ORIGIN})
            assert answer.status_code == 401


async def test_whoever_guesses_has_to_wait_and_others_need_not(open_console: Any) -> None:
    async with open_console(logged_in=False) as site:
        assert [(await site.log_in(f"guess {n}")).status_code for n in range(6)] == [401] * 5 + [429]
        refused = await site.log_in()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "30"), "the right one, too"
        assert "Try again in 30 s" in refused.text
        async with site.browser("203.0.113.8") as other:
            assert (await site.log_in(by=other)).status_code == 303
        site.clock.forward(31)
        assert (await site.log_in()).status_code == 303
        assert site.figure('console_logins_total{outcome="throttled"}') == 2
        assert site.audit().count(("unknown", "login failed", "")) == 5, "what was not looked at is only counted"


def test_guesses_from_many_addresses_are_slowed_down_and_take_no_memory() -> None:
    throttle = Throttle()
    for n in range(30):
        assert throttle.wait_seconds(f"2001:db8:{n:x}::1", 100.0) == 0
        throttle.failed(f"2001:db8:{n:x}::1", 100.0)
    assert throttle.wait_seconds("192.0.2.1", 100.0) == pytest.approx(6)
    assert throttle.wait_seconds("192.0.2.1", 106.0) == 0
    for n in range(1_500):
        throttle.failed(f"10.0.{n // 250}.{n % 250}", 200.0)
    assert len(throttle._clients) <= 1000


def test_one_network_of_ipv6_is_one_client() -> None:
    throttle = Throttle()
    for n in range(5):
        throttle.failed(f"2001:db8::{n:x}", 100.0)
    assert throttle.wait_seconds("2001:db8::ffff", 100.0) == pytest.approx(30)
    assert throttle.wait_seconds("2001:db8:1::1", 100.0) == 0
    for n in range(5):
        throttle.failed(f"::ffff:192.0.2.{n}", 100.0)
    assert throttle.wait_seconds("::ffff:192.0.2.9", 100.0) == 0, "an IPv4 address has no such network"


async def test_a_form_of_another_site_is_refused(open_console: Any) -> None:
    async with open_console() as site, site.browser() as other:
        for origin in (None, "null", "https://evil.example", "http://switchboard.test.evil.example"):
            headers = {"Origin": origin} if origin else {}
            answer = await other.post("/console/login", data={"password": PASSWORD}, headers=headers)
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
            assert (await site.client.post("/console/logout", headers=headers)).status_code == 403
        assert (await site.client.get("/api/calls")).status_code == 200, "still logged in"
        assert site.figure('console_logins_total{outcome="foreign_origin"}') == 8


async def test_behind_a_proxy_that_ends_tls_the_public_address_counts_and_cookies_are_secure(
    open_console: Any,
) -> None:
    async with open_console(logged_in=False, public_url="https://bot.example.com") as site:
        headers = {"Origin": "https://bot.example.com"}
        entered = await site.client.post("/console/login", data={"password": PASSWORD}, headers=headers)
        assert entered.status_code == 303
        cookie = entered.headers["set-cookie"]
        for part in ("switchboard_session=", "HttpOnly", "SameSite=lax", "Secure", f"Max-Age={SESSION_SECONDS}"):
            assert part in cookie
        assert PASSWORD not in cookie


async def test_without_https_the_cookie_is_not_secure(open_console: Any) -> None:
    async with open_console(logged_in=False) as site:
        cookie = (await site.log_in()).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "Secure" not in cookie


async def test_a_session_ends_by_itself_by_logging_out_and_by_a_forged_cookie(open_console: Any) -> None:
    async with open_console() as site:
        assert (await site.client.get("/api/calls")).status_code == 200
        name, value = next(iter(site.client.cookies.items()))
        async with site.browser() as forger:
            changed = ("B" if value[0] != "B" else "C") + value[1:]
            for forged in (changed, value[:-3], value.rsplit(".", 1)[0], "", "x.y.z"):
                forger.cookies.set(name, forged)
                assert (await forger.get("/api/calls")).status_code == 401
        async with site.browser() as copy:
            copy.cookies.set(name, value)
            assert (await copy.get("/api/calls")).status_code == 200
            out = await site.client.post("/console/logout", headers={"Origin": ORIGIN})
            assert (out.status_code, out.headers["location"]) == (303, "/console/login")
            assert (await site.client.get("/api/calls")).status_code == 401
            assert (await copy.get("/api/calls")).status_code == 401, "a copy of the cookie is of no use either"
        await site.log_in()
        site.clock.forward(SESSION_SECONDS)
        assert (await site.client.get("/api/calls")).status_code == 200
        site.clock.forward(2)
        assert (await site.client.get("/api/calls")).status_code == 401
        assert ("operator", "logged out", "") in site.audit()


def access_of(tmp_path: Path, clock: Any, **changes: Any) -> Access:
    access = Access(make_settings(tmp_path, **changes), clock, Ids())
    access.open()
    return access


def test_a_session_outlives_a_restart_and_not_a_new_password(tmp_path: Path, hand_clock: Any) -> None:
    cookie = access_of(tmp_path, hand_clock).log_in(PASSWORD, "here").cookie
    assert access_of(tmp_path, hand_clock).session(cookie) is not None
    assert access_of(tmp_path, hand_clock, console_password=SecretStr("another")).session(cookie) is None
    (tmp_path / "console-key").unlink()
    assert access_of(tmp_path, hand_clock).session(cookie) is None


def test_the_first_start_makes_a_password_that_only_its_owner_can_read(tmp_path: Path, hand_clock: Any) -> None:
    first = access_of(tmp_path, hand_clock, console_password=None)
    assert first.password_file == tmp_path / "console-password"
    kept = first.password_file.read_text().strip()
    assert first.made_password == kept
    assert len(kept.replace("-", "")) == 20
    for name in ("console-password", "console-key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert not list(tmp_path.glob("*.part"))
    again = access_of(tmp_path, hand_clock, console_password=None)
    assert again.made_password is None
    assert again.log_in(kept, "here").outcome == "logged_in"
    assert access_of(tmp_path / "other", hand_clock, console_password=None).log_in(kept, "here").session is None


def test_a_password_file_that_others_could_read_is_closed_to_them(tmp_path: Path, hand_clock: Any) -> None:
    (tmp_path / "console-password").write_text("chosen by hand\n")
    (tmp_path / "console-password").chmod(0o644)
    assert access_of(tmp_path, hand_clock, console_password=None).log_in("chosen by hand", "here").session
    assert stat.S_IMODE((tmp_path / "console-password").stat().st_mode) == 0o600


@pytest.mark.parametrize("given", [None, SecretStr("")])
async def test_there_is_no_open_door_without_a_password(open_console: Any, given: SecretStr | None) -> None:
    async with open_console(logged_in=False, console_password=given) as site:
        assert [(await site.log_in(guess)).status_code for guess in ("", "admin", "None")] == [401] * 3


async def test_a_password_that_cannot_be_kept_leaves_the_console_closed_and_the_server_up(
    open_console: Any, tmp_path: Path
) -> None:
    (tmp_path / "console-password").write_text("")
    async with open_console(logged_in=False, console_password=None) as site:
        answer = await site.log_in("")
        assert answer.status_code == 503
        assert "closed" in answer.text
        assert site.figure('console_logins_total{outcome="closed"}') == 1
        assert (await site.client.get("/healthz")).status_code == 200


async def test_pages_load_nothing_from_elsewhere(open_console: Any) -> None:
    async with open_console() as site:
        async with site.browser() as other:
            pages = [await other.get("/console/login"), await site.client.get("/console"), await site.client.get(PAGE)]
        for page in pages:
            assert page.status_code == 200
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'self';")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert page.headers["cache-control"] == "no-store"
            assert page.headers["x-content-type-options"] == "nosniff"
            for inline in ("<script", "<style", "style=", "onclick", "http://", "https://"):
                assert inline not in page.text
        for name, kind in (("console.css", "text/css"), ("icon.svg", "image/svg+xml")):
            asset = await site.client.get(f"/console/static/{name}")
            assert asset.headers["content-type"].startswith(kind)
        assert (await site.client.get("/console/static/../web.py")).status_code == 404
        assert (await site.client.get("/console/static/%2e%2e/web.py")).status_code == 404
