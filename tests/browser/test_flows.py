"""What a person can do on the playground, on the store that ships."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.browser.driving import hand_over, labels, send, until_ready

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make setup").expect
DRAG_A_TEXT = """() => {
  const dataTransfer = new DataTransfer();
  dataTransfer.setData("text/plain", "a red apple");
  return ["dragover", "drop"].every((kind) => document.querySelector("#text").dispatchEvent(
    new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer})));
}"""
APPLE = Path("examples/openclipart/held_out/apple.png")


@pytest.mark.parametrize("modalities", ["image", "text", "both"])
@pytest.mark.slow
def test_an_item_of_each_pattern_is_answered_and_explained(opened, shipped, modalities):
    page = opened(shipped).page
    until_ready(page)
    if modalities != "text":
        page.set_input_files("#picture", APPLE)
        expect(page.locator("#preview img")).to_be_visible()
    if modalities != "image":
        page.fill("#text", "a red apple")

    answer = send(page)

    expected = {
        "image": "used" if modalities != "text" else "absent",
        "text": "used" if modalities != "image" else "absent",
    }
    assert answer["modalities"] == expected
    assert [label.removeprefix("✓ ") for label in labels(page)] == [label["label"] for label in answer["labels"]]
    assert labels(page)[0] == f"✓ {answer['labels'][0]['label']}", "marked by more than its colour"
    expect(page.locator(".labels .number").first).to_have_text(f"{answer['labels'][0]['score']:.1%}")
    expect(page.locator(".verdict strong")).to_have_text(answer["labels"][0]["label"])
    expect(page.locator(".sentence")).to_contain_text(f"{answer['explanation']['carried_by']} carried this answer")
    sums = [float(text.replace("\u2212", "-").split()[-1]) for text in page.locator(".figure.sum").all_inner_texts()]
    assert sums == [round(part["logit"], 2) for part in answer["explanation"]["labels"]]
    titles = page.locator(".columns h4").all_inner_texts()
    assert titles == (["With both", "Without the image", "Without the text"] if modalities == "both" else [])
    rows = page.locator(".waterfall tr").all_inner_texts()
    assert len(rows) == 7
    skipped = {"image": "text encoder", "text": "image encoder", "both": None}[modalities]
    assert [row.split("\t")[0] for row in rows if "encoder" in row and "not run" in row] == (
        [skipped] if skipped else []
    )


@pytest.mark.slow
def test_encoders_are_drawn_side_by_side_and_parts_add_up(opened, shipped):
    page = opened(shipped).page
    until_ready(page)
    page.set_input_files("#picture", APPLE)
    page.fill("#text", "a red apple")
    answer = send(page)

    image, text, head = (
        page.locator(f".span.{stage}").bounding_box() for stage in ("image_encoder", "text_encoder", "head")
    )
    assert image["x"] == pytest.approx(text["x"])
    assert head["x"] == pytest.approx(max(it["x"] + it["width"] for it in (image, text)), abs=3)
    part = answer["explanation"]["labels"][0]
    assert part["image"] > 0
    assert part["text"] > 0
    drawn = {it: page.locator(f".contributions li:first-child .part.{it}").bounding_box() for it in ("image", "text")}
    assert drawn["text"]["x"] == pytest.approx(drawn["image"]["x"] + drawn["image"]["width"], abs=1)
    ratio = drawn["text"]["width"] / drawn["image"]["width"]
    assert ratio == pytest.approx(part["text"] / part["image"], rel=0.02)


def test_an_image_is_dropped_pasted_and_removed(opened, shipped):
    page = opened(shipped).page
    until_ready(page)
    hand_over(page, "drop", APPLE.read_bytes(), "dropped.png")
    expect(page.locator("#preview")).to_contain_text("dropped.png")
    hand_over(page, "paste", APPLE.read_bytes(), "pasted.png", target="#text")
    expect(page.locator("#preview")).to_contain_text("pasted.png")
    page.click("#remove")
    expect(page.locator("#preview")).to_be_hidden()
    expect(page.locator("#picture")).to_be_focused()
    assert page.get_attribute("#photograph", "capture") == "environment"
    assert page.evaluate(DRAG_A_TEXT), "a dragged text is for the field it is dropped on"
    hand_over(page, "paste", APPLE.read_bytes(), target="#text")
    assert send(page)["modalities"] == {"image": "used", "text": "absent"}


def test_an_example_is_one_click_and_answered_as_it_was_when_exported(opened, shipped):
    page = opened(shipped).page
    until_ready(page)
    examples = page.request.get(f"{shipped}/tasks/clipart-category/examples").json()["examples"]
    assert len(examples) == page.locator(".example").count() == 6
    for number, example in enumerate(examples):
        with page.expect_response("**/classify") as answered:
            page.locator(".example").nth(number).click()
        answer = answered.value.json()
        assert answer["labels"][0]["label"] == example["best_label"]
        used = {modality for modality, state in answer["modalities"].items() if state == "used"}
        assert used == ({"image", "text"} if example["pattern"] == "both" else {example["pattern"]})
        expect(page.locator(".request-id code").last).to_have_text(answer["request_id"])
        assert page.input_value("#text") == (example["text"] or "")


def test_the_curl_command_asks_the_same(opened, shipped, context, tmp_path):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = opened(shipped).page
    until_ready(page)
    name = 'it\'s "1"; a,b $HOME.png'
    (tmp_path / name).write_bytes(APPLE.read_bytes())
    page.set_input_files("#picture", tmp_path / name)
    page.fill("#text", "@it's <a> red; 'apple' \\ $(echo no) ünï")
    page.fill("#top-k", "3")
    answer = send(page)
    page.click("#copy")
    expect(page.get_by_text("Copied.")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")

    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)

    by_curl = json.loads(done.stdout)
    assert by_curl["labels"] == answer["labels"]
    assert len(by_curl["labels"]) == 3
    assert by_curl["explanation"] == answer["explanation"]
    assert by_curl["modalities"] == {"image": "used", "text": answer["modalities"]["text"]}


def test_the_curl_command_of_an_example_fetches_its_picture(opened, shipped, tmp_path):
    page = opened(shipped).page
    until_ready(page)
    with page.expect_response("**/classify") as answered:
        page.locator(".example:has(img)").first.click()
    page.locator("#result[aria-busy=false]").wait_for()
    command = page.locator("#curl").inner_text()

    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout)["labels"] == answered.value.json()["labels"]
    assert page.get_by_text("Run it in the folder").count() == 0


def test_a_task_is_chosen_and_linked_to(opened, shipped):
    page = opened(f"{shipped}/#task=clipart-keywords").page
    until_ready(page)
    assert page.input_value("#task") == "clipart-keywords"
    expect(page.locator("#card-title")).to_have_text("About clipart-keywords")
    expect(page.locator(".chips .live")).to_have_text(re.compile(r"^[1-9][0-9]* live$"))
    page.fill("#text", "a red apple")
    assert send(page)["task"] == "clipart-keywords"

    page.select_option("#task", "clipart-category")

    expect(page.locator("#card-title")).to_have_text("About clipart-category")
    assert page.url.endswith("#task=clipart-category")
    assert labels(page) == [], "the answer was another task's"
    assert send(page)["task"] == "clipart-category"
    page.evaluate("location.hash = 'task=nothing'")
    expect(page.locator("#task-notice")).to_contain_text("names a task that is not loaded")


def test_the_task_card_shows_what_the_service_answers(opened, shipped, context):
    page = opened(shipped).page
    until_ready(page)
    detail = page.request.get(f"{shipped}/tasks/clipart-category").json()
    assert page.locator("#card .chips").first.locator("li").all_inner_texts() == detail["labels"]
    score = detail["metrics"]["test"]["image"]["accuracy"]
    row = page.get_by_role("region", name="Scores on the test split").get_by_role("row", name="image only")
    expect(row).to_contain_text(f"{score:.1%}")
    with context.expect_page() as shown:
        page.get_by_role("link", name="Training report").click()
    report = shown.value
    report.wait_for_load_state()
    assert "clipart-category" in report.title()
    assert report.evaluate("origin") == "null", "it is sandboxed away from the service"


def test_the_page_works_with_the_keyboard_alone(opened, shipped):
    page = opened(shipped).page
    until_ready(page)
    coverage = ["coverage"] if page.is_enabled("#coverage") else []  # disabled for a version without label sets
    seen = []
    for _ in range(9 + len(coverage)):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert page.evaluate("""() => {
          const it = document.activeElement;
          const shown = getComputedStyle(it.classList.contains("unseen") ? it.parentElement : it);
          return shown.outlineStyle !== "none" && parseFloat(shown.outlineWidth) >= 2 }"""), seen
        if seen[-1] == "text":
            page.keyboard.type("a red apple")
    assert seen == [
        "Skip to the answer",
        "API",
        "task",
        "picture",
        "text",
        *coverage,
        "top-k",
        "send",
        "Armadillo",
        "bird of peace",
    ]
    page.focus("#send")
    with page.expect_response("**/classify"):
        page.keyboard.press("Enter")
    expect(page.locator("#headline")).to_contain_text("carried this answer")
    assert page.locator("#headline").get_attribute("aria-live") == "polite"
    expect(page.locator("#send")).to_be_focused()
    page.focus(".skip")
    page.keyboard.press("Enter")
    expect(page.locator("#result")).to_be_focused()


@pytest.mark.parametrize("task", ["clipart-category", "clipart-keywords"])
def test_a_phone_never_scrolls_sideways(opened, shipped, task):
    page = opened(f"{shipped}/#task={task}").page
    page.set_viewport_size({"width": 360, "height": 740})
    until_ready(page)
    page.set_input_files("#picture", APPLE)
    page.fill("#text", "a red apple " + "x" * 300)
    send(page)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.scrollingElement.scrollWidth") == 360


def test_it_works_behind_a_prefix(opened, shipped, context):
    """As a proxy does that takes `/shop/` away again."""
    context.route(
        "**/shop/**", lambda route: route.fulfill(response=route.fetch(url=route.request.url.replace("/shop/", "/")))
    )
    page = opened(f"{shipped}/shop/").page
    until_ready(page)
    page.fill("#text", "a red apple")  # Playwright hands no files on through a route
    send(page)
    expect(page.locator("#curl")).to_contain_text(f"{shipped}/shop/classify")
    assert page.locator(".example img").first.evaluate("image => image.naturalWidth") > 0


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.slow
def test_axe_finds_nothing_serious(opened, shipped, color_scheme):
    page = opened(shipped).page
    page.emulate_media(color_scheme=color_scheme, reduced_motion="reduce")
    until_ready(page)
    assert serious(page) == []
    page.set_input_files("#picture", APPLE)
    page.fill("#text", "a red apple")
    send(page)
    assert serious(page) == []


def serious(page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{it['id']}: {it['nodes'][0]['html']}" for it in found if it["impact"] in ("serious", "critical")]


@pytest.mark.slow
def test_the_documentation_of_the_api_can_be_used(shipped, opened):
    page = opened(shipped).page
    page.goto(f"{shipped}/docs")
    operation = page.locator(".opblock", has_text="/livez")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_text("Try it out").click()
    operation.get_by_text("Execute").click()
    expect(operation.locator(".live-responses-table td.response-col_status").last).to_have_text("200")
