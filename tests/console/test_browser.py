"""An operator in a real browser: logs in, opens a call, listens from the middle."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.console import CALL, PASSWORD
from fakes.server import serving

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")


def remembering(app: Any, answers: list[tuple[str, int, str]]) -> Callable[..., Any]:
    """The app, noting of each answer: path, status, range that was asked for."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                asked = dict(scope["headers"]).get(b"range", b"").decode()
                answers.append((scope["path"], message["status"], asked))
            await send(message)

        await app(scope, receive, noting)

    return wrapped


async def test_an_operator_logs_in_opens_a_call_and_listens_from_the_middle(open_console: Any, tmp_path: Path) -> None:
    answers: list[tuple[str, int, str]] = []
    async with open_console(logged_in=False) as site, serving(remembering(site.app, answers), "off") as url:
        heard = await asyncio.to_thread(listen, url, tmp_path / "browser")
        audit = site.audit()
    assert heard["title"] == "Call from +12075550100 · Switchboard"
    assert heard["said"] == [
        "Hello, this is Ivory <Dental>.", "When are you open?", "We open at nine & close at five.",
    ]  # fmt: skip
    assert heard["problems"] == []
    assert heard["duration"] == pytest.approx(9, abs=0.1)
    assert heard["sought"] == pytest.approx(4.5, abs=0.05)
    assert heard["played_to"] > 4.6, "it plays on from there"
    sound = [(status, asked) for path, status, asked in answers if path.endswith("stereo.ogg")]
    assert sound
    assert all(status == 206 and asked.startswith("bytes=") for status, asked in sound)
    assert (("/console/static/console.css", 200, "")) in answers
    assert [what for _, what, _ in audit] == ["logged in", "listened"]


def listen(url: str, profile: Path) -> dict[str, Any]:
    """What the operator does and sees. Blocks."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By

    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
        f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, Service(str(DRIVER)))
    try:
        browser.set_script_timeout(60)
        browser.get(f"{url}/console/calls/{CALL}")
        browser.find_element(By.ID, "password").send_keys(PASSWORD)
        browser.find_element(By.CSS_SELECTOR, "form button").click()
        heard = browser.execute_async_script(_SEEK)
        heard["title"] = browser.title
        heard["said"] = [turn.text for turn in browser.find_elements(By.CSS_SELECTOR, ".transcript p")]
        heard["problems"] = [entry["message"] for entry in browser.get_log("browser")]
        return heard
    finally:
        browser.quit()


_SEEK = """
const done = arguments[0], audio = document.querySelector("audio");
const once = (name, ready) => ready ? Promise.resolve()
  : new Promise(resolve => audio.addEventListener(name, resolve, { once: true }));
(async () => {
  await once("loadedmetadata", audio.readyState >= 1);
  const duration = audio.duration, seeked = once("seeked", false);
  audio.currentTime = duration / 2;
  await seeked;
  const sought = audio.currentTime;
  await audio.play();
  while (audio.currentTime < sought + 0.2) await once("timeupdate", false);
  done({ duration, sought, played_to: audio.currentTime });
})().catch(error => done({ problem: String(error) }));
"""
