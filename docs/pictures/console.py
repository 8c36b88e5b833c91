"""Photographs the console of a running server for the README: its login and a call's page.

    uv run server.py                                                      # with its sample call, which is shown
    uv run docs/pictures/console.py http://127.0.0.1:7860 CALL "$(cat data/console-password)"

Needs Chromium and its driver. Writes console-login.png and console-call.png beside this file.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

HERE = Path(__file__).parent
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


def photograph(url: str, call_id: str, password: str, profile: str) -> None:
    """Log in and open the call, as an operator does."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    browser = Chrome(options, Service(str(shutil.which("chromedriver"))))
    try:
        browser.set_window_size(900, 620)
        browser.get(f"{url}/console/calls/{call_id}")
        browser.save_screenshot(str(HERE / "console-login.png"))
        browser.find_element(By.ID, "password").send_keys(password)
        browser.find_element(By.CSS_SELECTOR, "form button").click()
        browser.execute_async_script(
            "const audio = document.querySelector('audio'), done = arguments[0];"
            "audio.addEventListener('seeked', () => setTimeout(done, 500), { once: true });"
            "audio.currentTime = 12;"
        )
        browser.set_window_size(900, 1120)
        browser.save_screenshot(str(HERE / "console-call.png"))
    finally:
        browser.quit()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        photograph(*sys.argv[1:4], folder)
