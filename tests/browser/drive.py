"""Drives a headless Chromium: a command a line on stdin, an answer a line on stdout, both in JSON.

A command is a list: its name and its arguments. The answer is {"ok": VALUE} or {"failed": TEXT}.
"""

import json
import shutil
import sys
from pathlib import Path

import axe_playwright_python
from playwright.sync_api import sync_playwright

PATIENCE_MS = 30_000
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = next(Path(axe_playwright_python.__file__).parent.rglob("axe.min.js")).read_text("utf-8")


class Browser:
    def __init__(self, chromium):
        self.page = chromium.new_page(viewport={"width": 1200, "height": 900})
        self.page.set_default_timeout(PATIENCE_MS)
        self.told = []
        self.page.on("console", lambda message: self.hear(message.type, message.text))
        self.page.on("pageerror", lambda error: self.hear("error", error.message))
        self.asked = 0
        self.page.on("response", self.count_status)

    def hear(self, kind, text):
        if kind in ("error", "warning"):
            self.told.append(text)

    def count_status(self, response):
        self.asked += response.url.endswith("/statusz")

    def statuses(self):
        """How many answers of /statusz the page has got, and how many points its chart has."""
        # Events are taken in during calls only.
        points = self.page.evaluate(
            """() => {
                const path = document.querySelector("#rates path");
                return path ? path.getAttribute("d").split(/[ML]/).length - 1 : 0;
            }"""
        )
        return [self.asked, points]

    def stop_clock(self):
        """From the next page on, time passes only by `pass_time`."""
        self.page.clock.install(time=0)
        # An installed clock goes on with the machine's until it is paused.
        self.page.clock.pause_at(1000)

    def pass_time(self, seconds):
        self.page.clock.run_for(seconds * 1000)

    def hide(self, hidden):
        """Puts the page into a hidden tab, or back."""
        script = """(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        self.page.evaluate(script, hidden)

    def open(self, url):
        self.page.goto(url)

    def wait(self, selector, text):
        """Waits until an element holds the text."""
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def count(self, selector):
        return self.page.locator(selector).count()

    def fill(self, selector, value):
        self.page.locator(selector).fill(value)

    def select(self, selector, label):
        self.page.locator(selector).select_option(label=label)

    def click(self, selector):
        self.page.locator(selector).click()

    def look(self, width, scheme):
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)

    def overflow(self):
        """By how many pixels the page is wider than its window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )

    def picture(self, path):
        self.page.screenshot(path=path, full_page=True)

    def errors(self):
        """What the browser's console was told since the last call."""
        told, self.told = self.told, []
        return told

    def axe(self):
        """The faults of accessibility that axe-core finds."""
        self.page.evaluate(AXE)
        found = self.page.evaluate("axe.run()")
        return [
            [fault["id"], fault["help"], [node["html"][:200] for node in fault["nodes"]]]
            for fault in found["violations"]
        ]


def main():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        browser = Browser(chromium)
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            try:
                answer = {"ok": getattr(browser, name)(*arguments)}
            except Exception as error:  # whatever it is, the test tells it
                answer = {"failed": str(error)}
            print(json.dumps(answer), flush=True)
        chromium.close()


main()
