"""The tutorial does what it says: its own commands, in its order, in an empty folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from model_store import Pattern, Store
from tests.browser.driving import labels, launched, send, until_ready
from tests.support.tutorial import Tutorial, followed

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")]
CHANCE = 0.25  # four kinds, equally frequent


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    with followed(tmp_path_factory.mktemp("tutorial")) as reader:
        yield reader


def test_the_tutorial_prints_the_output_on_its_page(tutorial: Tutorial) -> None:
    shown = [step for step in tutorial.steps if step.said]

    assert len(shown) == 2
    for step in shown:
        assert step.said in step.output


def test_the_service_is_right_about_an_image_a_text_and_both(tutorial: Tutorial) -> None:
    image, text, both, second, back = [step.answer for step in tutorial.steps if step.commands.startswith("curl")]

    assert [answer["labels"][0]["label"] for answer in (image, text, both)] == ["fruit", "clothing", "fruit"]
    used = [[*answer["modalities"].values()] for answer in (image, text, both)]
    assert used == [["used", "absent"], ["absent", "used"], ["used", "used"]]
    assert (image["latency_ms"]["text_encoder"], text["latency_ms"]["image_encoder"]) == (0, 0)
    assert both["explanation"]["carried_by"] == "image"
    assert [answer["version"] for answer in (text, second, back)] == [1, 2, 1]
    assert back["labels"] == text["labels"]
    assert second["labels"][0]["label"] == "clothing"


def test_the_task_is_on_the_playground(tutorial: Tutorial) -> None:
    with launched() as browser:
        page = browser.new_page()
        page.goto(tutorial.url)
        until_ready(page)
        page.fill("#text", "a warm jacket")
        answer = send(page)

        assert (answer["task"], labels(page)[0]) == ("shop-kind", "✓ clothing")


def test_the_tutorial_trains_on_every_presence_pattern(tutorial: Tutorial) -> None:
    scores = Store(tutorial.folder / "my-shop/store").verify("shop-kind", 1).metrics["test"]

    assert min(scores[pattern]["accuracy"] for pattern in Pattern) > 2 * CHANCE
    assert scores["both"]["accuracy"] > 0.9


def test_every_file_that_the_page_names_exists(tutorial: Tutorial) -> None:
    folder = tutorial.folder / "my-shop"

    assert [*Store(folder / "store").verify("shop-kind", 2).graphs] == ["fp32"]
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "examples.png", "photos", "run", "shop.csv", "shop.yaml", "store"
    }  # fmt: skip
    assert (folder / "run" / "report.html").is_file()
    assert {path.name for path in tutorial.folder.iterdir()} == {"examples", "my-shop"}
