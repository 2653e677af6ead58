"""A retrieval task on the playground: its catalogue, the nearest items, and the same vector with curl."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest

from model_store import Store
from tests.browser.driving import until_ready
from tests.support.tiny import PICTURE, PIXELS, Shelf, TinyTask, encode_png

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make setup").expect
OTHER = encode_png((255 - PIXELS).astype(np.uint8))


@pytest.fixture(scope="module")
def base(browser, tmp_path_factory, serving) -> str:
    shelf = Shelf(Store(tmp_path_factory.mktemp("search") / "store"))
    shelf.publish("fruit")
    shelf.publish("search")
    server = serving(shelf.store)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture
def page(opened, base):
    page = opened(f"{base}/#task=search").page
    until_ready(page)
    expect(page.locator("#catalogue-hint")).to_contain_text("3 items")
    return page


def search(page) -> dict:
    """Click on Search; the service's own answer."""
    with page.expect_response("**/embed") as answered:
        page.click("#send")
    page.locator("#result[aria-busy=false]").wait_for()
    return answered.value.json()


def test_a_text_finds_the_nearest_items_of_the_examples(page):
    page.fill("#text", "a red apple")

    answer = search(page)

    expect(page.locator("#send")).to_have_text("Search")
    expect(page.get_by_label("Coverage of the label set")).to_be_hidden()
    rows = page.locator(".nearest li")
    expect(rows).to_have_count(3)
    expect(rows.first.locator(".name")).to_have_text("a red apple")
    expect(rows.first.locator(".number")).to_have_text("1.00")
    expect(rows.first.locator("img")).to_have_count(0)
    found = [float(number) for number in page.locator(".nearest .number").all_inner_texts()]
    assert found == sorted(found, reverse=True)
    assert np.linalg.norm(answer["embedding"]) == pytest.approx(1, abs=1e-5)


def test_added_pictures_are_searched(page):
    files = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in (("a", PICTURE), ("b", OTHER))]
    page.set_input_files("#catalogue-pictures", files)
    expect(page.locator("#catalogue-hint")).to_contain_text("5 items")
    page.set_input_files("#picture", {"name": "query.png", "mimeType": "image/png", "buffer": OTHER})
    page.fill("#top-k", "2")

    search(page)

    rows = page.locator(".nearest li")
    expect(rows).to_have_count(2)
    expect(rows.first.locator("img")).to_be_visible()
    expect(rows.first.locator(".name")).to_have_text("b")
    expect(rows.first.locator(".number")).to_have_text("1.00")
    vectors = [TinyTask("search").logits(pixels, None) for pixels in (PIXELS, 255 - PIXELS)]
    if float(vectors[0] @ vectors[1]) < 0.99:
        expect(rows.nth(1).locator(".number")).not_to_have_text("1.00")


def test_a_broken_picture_is_named_at_the_catalogue(opened, base):
    page = opened(f"{base}/#task=search", True).page
    until_ready(page)

    page.set_input_files("#catalogue-pictures", {"name": "a.png", "mimeType": "image/png", "buffer": PICTURE[:60]})

    expect(page.locator("#catalogue-notice")).to_contain_text("The image is damaged")
    expect(page.locator("#catalogue-hint")).to_contain_text("3 items")


def test_the_curl_command_gets_the_same_vector(page, tmp_path):
    page.fill("#text", "green square")
    answer = search(page)

    command = page.locator("#curl").inner_text()

    assert "top_k" not in command
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["embedding"] == pytest.approx(answer["embedding"], abs=1e-6)


def test_the_card_shows_recall_in_place_of_labels(page):
    expect(page.locator("#card-body")).to_contain_text("retrieval")
    expect(page.locator("#card-body")).to_contain_text("5 numbers")
    assert "Labels" not in page.locator("#card-body h3").all_inner_texts()
    assert "Calibration" not in page.locator("#card-body h3").all_inner_texts()


def test_another_task_is_classified_again(page):
    page.select_option("#task", "fruit")

    expect(page.locator("#card-title")).to_have_text("About fruit")
    expect(page.locator("#send")).to_have_text("Classify")
    expect(page.locator("#catalogue")).to_be_hidden()
    page.fill("#text", "a red apple")
    with page.expect_response("**/classify"):
        page.click("#send")
    expect(page.locator(".labels .name").first).to_be_visible()
    expect(page.locator(".nearest")).to_have_count(0)


def test_the_page_of_a_search_is_accessible(page):
    from axe_playwright_python.sync_playwright import Axe

    page.fill("#text", "a red apple")
    search(page)

    assert Axe().run(page).violations_count == 0
