"""Pictures of the playground for its documentation: `make screenshots`, after `make setup-browser`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from examples.demo import HELD_OUT, service

_COLORS = 128  # size of the palette; the page has few colours


class View(NamedTuple):
    """Window size, colour scheme, and the part of the page in the picture."""

    name: str
    size: tuple[int, int]  # pixels
    color_scheme: str
    whole: bool


_VIEWS = [
    View("playground-light", (1200, 900), "light", whole=True),
    View("playground-dark", (1200, 900), "dark", whole=False),
    View("playground-phone", (390, 1700), "light", whole=False),
]


def main() -> None:
    """Serve the shipped store, classify one drawing, and write a PNG of each view to the given folder."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("error: chromium is not installed; `make setup-browser` installs it on Debian")
    with service() as url, sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for view in _VIEWS:
            _take(browser, url, view, folder / f"{view.name}.png")
        browser.close()


def _take(browser: Browser, url: str, view: View, path: Path) -> None:
    width, height = view.size
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=view.color_scheme, reduced_motion="reduce"
    )
    page.goto(url)
    page.locator("#card-body h3").first.wait_for()
    page.locator(".example").first.wait_for()
    page.set_input_files("#picture", HELD_OUT / "apple.png")
    page.fill("#text", "a red apple")
    page.select_option("#coverage", "0.9")
    for _ in range(2):  # the first request is slower than later ones
        page.click("#send")
        page.locator("#curl").wait_for()
        page.locator("#result[aria-busy=false]").wait_for()
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path, full_page=view.whole)
    page.close()
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
