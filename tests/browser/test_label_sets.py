"""Label sets on the playground: the control, the set in the answer, and the same request with curl."""

from __future__ import annotations

import itertools
import json
import subprocess

import pytest

from model_store import Store
from tests.browser.driving import labels, send, until_ready
from tests.support.closed_service import publish_label_sets
from tests.support.sampling import each
from tests.support.tiny import PICTURE, Shelf

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make setup").expect


@pytest.fixture(scope="module")
def base(browser, tmp_path_factory, serving) -> str:
    """A service with the tasks of `publish_label_sets`."""
    shelf = Shelf(Store(tmp_path_factory.mktemp("sets") / "store"))
    publish_label_sets(shelf)
    server = serving(shelf.store)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture
def page_of(opened, base):
    """`page_of(task, is_refused=False)`: the page of a task."""

    def go(task: str, is_refused: bool = False):
        page = opened(f"{base}/#task={task}", is_refused).page
        until_ready(page)
        return page

    return go


@pytest.mark.parametrize(
    ("task", "choices", "hint"),
    [
        ("fruit", ["off", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "0.99"], "the true one is with this probability"),
        ("tags", ["off", "0.5", "0.6", "0.7", "0.8"], "this share of the true ones on average"),
        ("older", ["off"], "this version has no label sets"),
    ],
)
@pytest.mark.slow
def test_the_control_offers_what_the_task_supports_and_is_off(page_of, task, choices, hint):
    page = page_of(task)

    control = page.get_by_label("Coverage of the label set")
    assert control.locator("option").all_inner_texts() == choices
    assert control.input_value() == ""
    assert control.is_enabled() is (len(choices) > 1)
    expect(page.locator("#coverage-hint")).to_contain_text(hint)
    page.fill("#text", "a red apple")
    assert "label_set" not in send(page)
    assert page.locator(".set, .in-set").count() == 0
    expect(page.locator("#curl")).not_to_contain_text("coverage")


def test_another_task_keeps_the_coverage_only_if_it_supports_it(page_of):
    page = page_of("fruit")
    for coverage, task, kept in (("0.8", "tags", "0.8"), ("0.8", "fruit", "0.8"), ("0.95", "tags", "")):
        page.select_option("#coverage", coverage)
        page.select_option("#task", task)
        expect(page.locator("#card-title")).to_have_text(f"About {task}")
        expect(page.locator("#coverage")).to_have_value(kept)
    page.select_option("#task", "older")
    expect(page.locator("#coverage")).to_be_disabled()
    page.select_option("#task", "fruit")
    expect(page.locator("#coverage")).to_be_enabled()


@pytest.mark.parametrize(
    ("coverage", "modalities"),
    each(
        itertools.product(["0.5", "0.9", "0.99"], ["image", "text", "both"]),
        tried=[("0.5", "both"), ("0.9", "image"), ("0.99", "text")],
    ),
)
@pytest.mark.slow
def test_the_set_is_beside_the_labels_and_says_whether_to_review(page_of, modalities, coverage):
    page = page_of("fruit")
    if modalities != "text":
        page.set_input_files("#picture", {"name": "a.png", "mimeType": "image/png", "buffer": PICTURE})
    if modalities != "image":
        page.fill("#text", "a red apple")
    page.select_option("#coverage", coverage)
    page.fill("#top-k", "2")

    answer = send(page)

    found = answer["label_set"]
    assert found["coverage"] == float(coverage)
    said = f"Label set with coverage {coverage}: {', '.join(found['labels'])}; "
    said += "review: a person should look at this one." if found["review"] else "no review needed."
    expect(page.locator("#headline .set")).to_have_text(said)
    assert len(labels(page)) == 2, "the sentence names also labels that are not listed"
    marked = page.locator(".labels li:has(.in-set) .name").all_inner_texts()
    assert [name.removeprefix("✓ ") for name in marked] == found["labels"][:2]


def test_the_curl_command_asks_for_the_same_set(page_of, tmp_path):
    page = page_of("fruit")
    page.fill("#text", "it's a red apple")
    page.select_option("#coverage", "0.95")
    answer = send(page)

    command = page.locator("#curl").inner_text()
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout)["label_set"] == answer["label_set"]
    assert answer["label_set"]["coverage"] == 0.95


def test_an_unsupported_pattern_is_reported_beside_the_control(page_of):
    page = page_of("tags", is_refused=True)
    page.set_input_files("#picture", {"name": "a.png", "mimeType": "image/png", "buffer": PICTURE})
    page.select_option("#coverage", "0.8")
    page.click("#send")

    expect(page.locator("#coverage-notice")).to_contain_text("The version does not support this coverage.")
    expect(page.locator("#coverage-notice")).to_contain_text("(image)")
    assert page.get_attribute("#coverage", "aria-invalid") == "true"
    page.click("#remove")
    page.fill("#text", "a red apple")
    assert "label_set" in send(page)


@pytest.mark.parametrize(
    ("task", "color_scheme"),
    each(itertools.product(["fruit", "older"], ["light", "dark"]), tried=[("fruit", "dark"), ("older", "light")]),
)
@pytest.mark.slow
def test_axe_finds_nothing_serious(page_of, color_scheme, task):
    from axe_playwright_python.sync_playwright import Axe

    page = page_of(task)
    page.emulate_media(color_scheme=color_scheme, reduced_motion="reduce")
    if task == "fruit":
        page.select_option("#coverage", "0.99")
    page.fill("#text", "a red apple")
    send(page)

    found = Axe().run(page).response["violations"]
    assert [it["id"] for it in found if it["impact"] in ("serious", "critical")] == []


def test_a_phone_shows_the_set_without_scrolling_sideways(page_of):
    page = page_of("fruit")
    page.set_viewport_size({"width": 360, "height": 740})
    page.fill("#text", "a red apple")
    page.select_option("#coverage", "0.99")
    send(page)

    assert page.locator(".in-set").count() == 3
    assert page.evaluate("document.scrollingElement.scrollWidth") == 360
