"""Each problem is a sentence beside what it is about, with its cure and the request's id."""

from __future__ import annotations

import re

import pytest

from model_store import Store
from service.errors import queue_full
from service.inference.preparation import Preparation
from service.web.keys import key_line
from service.web.server import Server
from tests.browser.driving import labels, send, until_ready
from tests.support.tiny import PICTURE, Shelf

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make setup").expect
KEY = "shop-key-0123456789"
HOSTILE = "<img src=x onerror=document.title=1>"
REQUEST_ID = re.compile(r"Request id [0-9a-f]{32}")
PAGE_LOADS = 7  # requests with a key that count for the limit: tasks, task, versions, examples, two pictures, one more


def base_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def shelf_in(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(Store(tmp_path_factory.mktemp("browser") / "store"))


@pytest.fixture(scope="module")
def limited(browser, tmp_path_factory, serving) -> Server:
    """A service with low limits, on a task with a hostile label."""
    shelf = shelf_in(tmp_path_factory)
    shelf.publish_draft(shelf.draft("fruit").replacing(labels=(HOSTILE, "pear", "plum")))
    return serving(shelf.store, max_body_bytes=200_000, max_text_bytes=1_000)


@pytest.fixture
def page(opened, limited):
    page = opened(base_of(limited), is_refused=True).page
    until_ready(page)
    return page


def file(data: bytes, name: str = "apple.png") -> dict:
    return {"name": name, "mimeType": "image/png", "buffer": data}


def refused(page, place: str, *words: str) -> None:
    """The only notice is at that place and says all this; another request is possible."""
    expect(page.locator(f"#{place}-notice")).to_contain_text(re.compile(".*".join(map(re.escape, words)), re.DOTALL))
    expect(page.locator(f"#{place}-notice")).to_have_attribute("role", "alert")
    assert [node.get_attribute("id") for node in page.locator(".notices:not(:empty)").all()] == [f"{place}-notice"]
    expect(page.locator("#send")).to_be_enabled()
    expect(page.locator("#headline")).to_contain_text("There is no answer")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"plain text", ("The image is not JPEG, PNG, WebP, AVIF or GIF.", "Send a JPEG, PNG, WebP, AVIF or GIF file")),
        (PICTURE[:200], ("The image is damaged.", "damaged or cut short; send it whole.")),
        (
            PICTURE.ljust(300_000, b"\0"),
            ("The body is too large. A body may have 200000 bytes; send a smaller image.",),
        ),
    ],
    ids=["type", "damaged", "large"],
)
@pytest.mark.slow
def test_a_wrong_picture_is_reported_beside_the_picture(page, data, words):
    page.set_input_files("#picture", file(data))
    page.click("#send")
    refused(page, "picture", *words)
    expect(page.locator("#picture-notice")).to_contain_text(REQUEST_ID)
    page.set_input_files("#picture", file(PICTURE))
    expect(page.locator("#picture-notice")).to_be_empty()
    assert send(page)["modalities"]["image"] == "used"


def test_a_connection_cut_while_sending_is_reported(page):
    page.route("**/classify", lambda route: route.abort("connectionreset"))
    page.set_input_files("#picture", file(PICTURE))
    page.click("#send")
    refused(
        page, "picture", "The connection was closed while the request was being sent. It may be larger than the service"
    )
    page.unroute("**/classify")
    assert send(page)["modalities"]["image"] == "used"


def test_a_long_text_is_reported_beside_the_text(page):
    page.fill("#text", "a" * 1_001)
    page.click("#send")
    refused(page, "text", "The text is too large. A text may have 1000 bytes of UTF-8; shorten it.")


def test_an_empty_item_is_reported_beside_the_button(page):
    page.click("#send")
    refused(page, "send", "The item has neither image nor text. Give an image, a text, or both.")


def test_an_overloaded_service_is_reported_with_the_time_to_wait(page, monkeypatch):
    def full(preparation: Preparation, item: object) -> None:
        raise queue_full()

    page.fill("#text", "a red apple")
    with monkeypatch.context() as overload:
        overload.setattr(Preparation, "check", full)
        page.click("#send")
        refused(page, "send", "The service is at its limit.", "Try again in 1 second, at ", "Request id")
    assert send(page)["modalities"]["text"] == "used"
    expect(page.locator("#send-notice")).to_be_empty()


def test_an_unreachable_service_is_reported_and_asked_again(page, context):
    page.fill("#text", "a red apple")
    context.set_offline(True)
    page.click("#send")
    refused(page, "send", "The service does not answer. Check the network and that the service runs")
    context.set_offline(False)
    send(page)
    expect(page.locator(".verdict")).to_be_visible()


def test_a_label_and_a_text_are_never_markup(page):
    page.fill("#text", HOSTILE)
    send(page)
    assert any(HOSTILE in label for label in labels(page))
    expect(page.locator("#card .chips li").first).to_have_text(HOSTILE)
    expect(page.locator("#curl")).to_contain_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0
    assert page.title() == "Playground: mora-serve"


def test_trusted_types_forbid_markup_from_strings(context, limited):
    page = context.new_page()
    page.goto(base_of(limited))
    attempt = "(text) => { try { document.body.innerHTML = text; return 'set'; } catch { return 'refused'; } }"
    assert page.evaluate(attempt, HOSTILE) == "refused"


def test_a_store_without_a_task_says_what_to_do(opened, serving, tmp_path_factory):
    page = opened(base_of(serving(shelf_in(tmp_path_factory).store)), is_refused=True).page
    expect(page.locator("#task-notice")).to_contain_text(
        "No task is loaded. Publish a version with mora-train or mora-store"
    )


@pytest.fixture(scope="module")
def locked(browser, tmp_path_factory, serving) -> Server:
    """A service that wants a key, and answers each one's first requests alone."""
    shelf = shelf_in(tmp_path_factory)
    shelf.publish("fruit")
    keys = shelf.store.root.parent / "keys"
    keys.write_text(key_line("shop", KEY))
    return serving(shelf.store, api_keys_file=keys, rate_limit=0.01, rate_burst=PAGE_LOADS)


def test_a_key_is_asked_for_and_kept_nowhere(opened, locked):
    page = opened(base_of(locked), is_refused=True).page
    expect(page.locator("#key-notice")).to_contain_text("The request has no valid key.")
    expect(page.locator("#key")).to_be_focused()
    page.keyboard.type("schlüssel")
    page.keyboard.press("Enter")
    expect(page.locator("#key-notice")).to_contain_text("This key is not valid.")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-notice")).to_contain_text(REQUEST_ID)
    page.fill("#key", KEY)
    page.click("#use-key")
    until_ready(page)
    expect(page.locator("#key-notice")).to_be_empty()
    assert page.input_value("#key") == ""
    assert page.locator(".example img").first.evaluate("image => image.naturalWidth") > 0
    page.fill("#text", "a red apple")
    send(page)
    expect(page.locator("#curl")).to_contain_text('-H "Authorization: Bearer $MORA_API_KEY"')
    kept = page.evaluate(
        "[JSON.stringify({...localStorage, ...sessionStorage}), document.cookie, location.href].join()"
    )
    assert KEY not in kept + page.content()

    page.click("#send")
    refused(page, "send", "The client asks too often. Send requests less often;", "Try again in", "seconds, at")


def test_a_version_without_examples_shows_none_and_no_problem(opened, serving, tmp_path_factory):
    """Also after a task that has examples, and before one."""
    shelf = shelf_in(tmp_path_factory)
    draft = shelf.draft("bare")
    made = draft.manifest.provenance.model_copy(update={"config": {"publish": {"examples": False, "report": False}}})
    shelf.publish_draft(draft.replacing(provenance=made))
    shelf.publish("fruit")
    page = opened(f"{base_of(serving(shelf.store))}/#task=fruit", is_refused=True).page
    until_ready(page)
    assert page.locator(".example").count() == 3

    page.select_option("#task", "bare")
    expect(page.locator("#card-body")).to_contain_text("Published without a training report.")
    expect(page.locator("#examples")).to_be_hidden()
    assert page.locator(".notices:not(:empty)").count() == 0
    page.fill("#text", "a red apple")
    assert send(page)["task"] == "bare"

    page.select_option("#task", "fruit")
    expect(page.locator("#examples")).to_be_visible()
    assert page.locator(".example").count() == 3
