"""What a person does on the playground."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

# A file as the page gets it from a drag or the clipboard.
_HAND_OVER = """([target, kind, name, type, data]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, {type}));
  const what = {bubbles: true, cancelable: true};
  const event = kind === "paste" ? new ClipboardEvent(kind, {...what, clipboardData: transfer})
                                 : new DragEvent(kind, {...what, dataTransfer: transfer});
  document.querySelector(target).dispatchEvent(event);
}"""


def hand_over(page: Page, kind: str, data: bytes, name: str = "apple.png", target: str = "#drop") -> None:
    """`drop` or `paste` a PNG file."""
    page.evaluate(_HAND_OVER, [target, kind, name, "image/png", base64.b64encode(data).decode()])


def send(page: Page) -> dict:
    """Click on Classify; the service's own answer."""
    with page.expect_response("**/classify") as answered:
        page.click("#send")
    page.locator("#result[aria-busy=false]").wait_for()
    return answered.value.json()


def labels(page: Page) -> list[str]:
    return page.locator(".labels .name").all_inner_texts()


def until_ready(page: Page) -> None:
    """The card and the examples are there."""
    page.locator("#card-body h3").first.wait_for()
    page.locator("#examples").wait_for()
