"""The report: one file, complete, harmless, and the same for the same run."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from model_store import Calibration, Pattern
from training.learning.calibration import Bins
from training.learning.formed_sets import SetScores
from training.report.html_report import Mistake, Report, published_report, report_html
from training.report.plots import INK, PAPER

EVIL = "<script>alert('title')</script><img src=x onerror=alert(1)>"
VOID = {"meta", "br", "img"}
BINS = Bins(np.array([0.25, 0.75]), np.array([0.2, 0.5]), np.array([4, 8]))
undrawn = pytest.mark.usefixtures("no_drawing")  # tests of the words: figures take most of the time
NO_BINS = Bins(np.zeros(2), np.zeros(2), np.zeros(2, dtype=np.int64))


def picture(edge: int = 256) -> bytes:
    """Noise, which compresses worst."""
    file = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (edge, edge, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def mistake(**fields: Any) -> Mistake:
    values = {"image": picture(), "text": "a red pear", "true": ("pear",), "predicted": "apple", "score": 0.98765}
    return Mistake(**{"pattern": Pattern.BOTH, **values, **fields})


@pytest.fixture
def report() -> Report:
    scores = {"items": 1234, "accuracy": 0.8125, "auroc": None}
    views = dict.fromkeys(("overall", "both", "image", "text"), scores)
    return Report(
        task="fruit",
        problem="single_label",
        labels=("apple", "pear"),
        config={"backbone": "openai/clip-vit-base-patch16", "train": {"epochs": 2}},
        metrics={
            "validation": views,
            "test": views | {"image": {"items": 0, "accuracy": None}},
            "trainable_parameters": 98765,
            "seconds": {"train": 12.5, "total": 20.0},
        },
        calibration={pattern: Calibration(temperature=1.25) for pattern in Pattern},
        metric="accuracy",
        history=[{"epoch": 1, "loss": 0.5}, {"epoch": 1, "eval_loss": 0.6, "eval_accuracy": 0.75}],
        robustness={kind: [(0.0, 0.8), (1.0, 0.5)] for kind in ("text", "image", "both")},
        confusion=np.array([[5, 3], [1, 9]]),
        reliability=dict.fromkeys(Pattern, (BINS, BINS)),
        set_scores={},
        mistakes=[mistake(), mistake(text=None, pattern=Pattern.IMAGE), mistake(image=None, pattern=Pattern.TEXT)],
        analysis=None,
        provenance={"code": "0.1.0", "machine": "2 cores"},
    )


class Page(HTMLParser):
    """Elements and text of a page; fails where one is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(element == tag for element, _ in self.elements)

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]


def test_every_section_exists_and_every_link_leads_to_a_section(report: Report) -> None:
    page = Page(report_html(report))

    headings = [attributes["id"] for tag, attributes in page.elements if tag == "h2"]
    assert headings == [
        "scores", "training", "robustness", "calibration", "confusion", "mistakes", "provenance", "labels"
    ]  # fmt: skip
    assert [f"#{heading}" for heading in headings] == page.values("href")
    assert page.count("figure") == page.count("figcaption") == page.count("svg") == 1 + 1 + 3 + 1
    for text in ("81.2", "1,234", "98,765", "12.5 seconds", "1.250", "98.77 %", "2 cores", "epochs: 2", "a red pear"):
        assert text in page.text
    assert re.search(r"pear\s+apple|apple\s+pear\s+3\s+37\.50", page.text)


@undrawn
@pytest.mark.parametrize("items", [12, 49, 50])
def test_scores_have_intervals_baselines_and_a_mark_for_few_items(report: Report, items: int) -> None:
    views = {view: {"items": items, "accuracy": 0.75} for view in ("overall", "text")}
    intervals = {view: {"accuracy": (0.461, 0.914)} for view in views}
    baselines = {view: {"majority": 0.4, "chance": 0.25} for view in views}
    metrics = {
        **report.metrics,
        "test": views,
        "validation": views,
        "intervals": {"test": intervals, "validation": intervals},
        "baselines": {"metric": "accuracy", "majority_labels": ["pear"], "test": baselines, "validation": baselines},
    }

    text = " ".join(Page(report_html(replace(report, metrics=metrics))).text.split())

    assert text.count("75.0 (46.1\u201391.4)") == 4
    assert "46.1 to 91.4" in text
    assert "The majority answer scores 40.0 overall, chance 25.0." in text
    assert "every item is answered with pear" in text
    assert (f"{items}* items" in text) is (items < 50)
    assert ("* fewer than 50 items" in text) is (items < 50)


def test_the_same_run_has_the_same_report(report: Report) -> None:
    assert report_html(report) == report_html(report)


@undrawn
def test_texts_of_the_data_are_inert(report: Report) -> None:
    hostile = replace(
        report,
        task=EVIL,
        labels=(EVIL, "pear"),
        config={"backbone": EVIL},
        mistakes=[mistake(text=EVIL, true=(EVIL,), predicted=EVIL)],
        provenance={EVIL: EVIL},
    )

    page = Page(report_html(hostile))

    assert page.count("script") == 0
    assert page.count("img") == 1  # the picture of the mistake
    assert [name for _, attributes in page.elements for name in attributes if name.startswith("on")] == []
    assert page.text.count(EVIL) >= 8


def test_the_page_loads_no_other_file_and_forbids_it(report: Report) -> None:
    html = report_html(report)

    page = Page(html)
    declarations = r'xmlns(:xlink)?="http://www\.w3\.org/(2000/svg|1999/xlink)"'
    assert "http://" not in re.sub(declarations, "", html)
    assert "https://" not in html
    assert "default-src 'none'" in page.values("content")[1]
    assert {source.split(",")[0] for source in page.values("src")} == {"data:image/jpeg;base64"}
    assert page.count("link") == page.count("script") == page.count("iframe") == 0


@pytest.mark.slow
def test_a_dozen_mistakes_on_many_classes_stay_small(report: Report) -> None:
    classes = 30
    counts = np.random.default_rng(0).integers(1, 1000, (classes, classes))
    long = replace(
        report,
        labels=tuple(f"label {number}" for number in range(classes)),
        confusion=counts,
        mistakes=[mistake(text="long " * 2000)] * 12,
    )

    html = report_html(long)

    assert len(html.encode()) < 1_500_000
    assert "long " * 81 not in html


def test_figures_take_the_colours_of_the_page_and_keep_their_ids_apart(report: Report) -> None:
    html = report_html(report)

    figures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert INK not in figures
    assert PAPER not in figures
    assert "fill: var(--ink)" in figures
    page = Page(html)
    assert [name for name, count in Counter(page.values("id")).items() if count > 1] == []
    used = {link[1:] for link in page.values("xlink:href") if link.startswith("#")} | set(
        re.findall(r"url\(#([^)]+)\)", html)
    )
    assert len(used) > 10
    assert used <= set(page.values("id"))


def test_a_run_without_results_says_so(report: Report) -> None:
    empty = replace(
        report,
        history=[],
        robustness={"text": [], "image": [], "both": []},
        confusion=None,
        reliability=dict.fromkeys(Pattern, (NO_BINS, NO_BINS)),
        mistakes=[],
    )

    page = Page(report_html(empty))

    assert page.count("svg") == 0
    assert "No epochs were recorded." in page.text
    assert "No answer on the test split is wrong." in page.text
    assert "Confusion" not in page.text


@undrawn
def test_a_multi_label_task_shows_its_thresholds(report: Report) -> None:
    calibration = dict.fromkeys(Pattern, Calibration(thresholds=(0.125, 0.875)))

    page = Page(report_html(replace(report, problem="multi_label", confusion=None, calibration=calibration)))

    assert page.text.count("12.50") == page.text.count("87.50") == 3
    assert "multi-label task" in page.text


@undrawn
def test_a_missing_modality_is_named(report: Report) -> None:
    text = Page(report_html(report)).text

    assert (text.count("no text\n"), text.count("no image\n")) == (1, 1)


@pytest.mark.slow
def test_scores_read_back_from_a_file_make_the_same_report(report: Report) -> None:
    stored = replace(report, metrics=json.loads(json.dumps(report.metrics)))

    assert report_html(stored) == report_html(report)


@undrawn
@pytest.mark.parametrize(
    "text", ["a red pear", EVIL, "<!--end of examples--> a red pear", "--> <section>", "<!--examples-->"]
)
def test_a_report_is_published_without_items_of_the_test_split(report: Report, text: str) -> None:
    page = report_html(replace(report, mistakes=[mistake(text=text), mistake(image=None, text=text)])).encode()

    shown, hidden = (published_report(page, with_examples) for with_examples in (True, False))

    assert shown == page
    assert hidden is not None
    public = Page(hidden.decode())
    assert [tag for tag, _ in public.elements if tag == "img"] == []
    assert text not in public.text
    assert "#mistakes" not in hidden.decode()
    assert {"scores", "provenance"} <= {attributes.get("id") for _, attributes in public.elements}


@undrawn
def test_a_report_without_mistakes_is_published(report: Report) -> None:
    page = report_html(replace(report, mistakes=[])).encode()

    hidden = published_report(page, with_examples=False)

    assert hidden is not None
    assert "No answer on the test split is wrong" not in hidden.decode()


@pytest.mark.parametrize("page", [b"", b"<html></html>", b"<pre>data: {train: /home/nobody/shop.csv}</pre>"])
def test_a_report_of_an_earlier_version_is_not_published(page: bytes) -> None:
    assert published_report(page, with_examples=True) is None


@undrawn
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_in_a_report_has_no_comments_and_no_exif_of_its_source(report: Report, file_format: str) -> None:
    exif, texts, file = Image.Exif(), PngImagePlugin.PngInfo(), BytesIO()
    exif[ExifTags.Base.ImageDescription] = "taken by nobody"
    texts.add_text("comment", "taken by nobody")
    options = {"PNG": {"pnginfo": texts}, "JPEG": {"comment": b"taken by nobody"}, "WEBP": {}}[file_format]
    Image.new("RGB", (30, 20)).save(file, file_format, exif=exif, **options)

    page = Page(report_html(replace(report, mistakes=[mistake(image=file.getvalue())])))

    (source,) = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert b"nobody" not in base64.b64decode((source or "").partition(",")[2])


def with_sets(report: Report, **classes: tuple[int, float]) -> Report:
    """The report of a task with label sets; `classes`: of each label the test items and their coverage."""
    rows = [SetScores(200, 0.8125, 1.25, 0.375, 0.96875), SetScores(20, 0.5, 0.0, 1.0, None)]
    watched = rows[0]._asdict()
    if classes:
        watched["by_class"] = {name: {"items": items, "covered": covered} for name, (items, covered) in classes.items()}
    metrics = {
        **report.metrics,
        "coverage": {"both": {"0.8": rows[0]._asdict(), "0.9": watched}, "image": {"0.9": rows[1]._asdict()}},
        "coverage_warnings": ["items with image and text: label sets cover less of pear"] if classes else [],
    }
    scores = {Pattern.BOTH: [(0.5, rows[0]), (0.9, rows[0])], Pattern.IMAGE: [(0.9, rows[1])], Pattern.TEXT: []}
    return replace(report, metrics=metrics, set_scores=scores)


@pytest.mark.slow
def test_label_sets_have_a_section_with_a_table_and_three_figures(report: Report) -> None:
    page = Page(report_html(with_sets(report)))

    headings = [attributes["id"] for tag, attributes in page.elements if tag == "h2"]
    assert headings.index("coverage") == headings.index("calibration") + 1
    assert [f"#{heading}" for heading in headings] == page.values("href")
    assert page.count("svg") == page.count("figcaption") == 1 + 1 + 3 + 3 + 1
    text = " ".join(page.text.split())
    assert "both 80.0 81.25 1.25 37.50 96.88 200" in text
    assert "image only 90.0 50.00 0.00 100.00 - 20*" in text
    assert "Coverage by label" not in text


@undrawn
@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_the_promise_is_said_in_the_words_of_the_problem(report: Report, problem: str) -> None:
    text = " ".join(Page(report_html(with_sets(replace(report, problem=problem)))).text.split())

    assert ("A set has the true label at least as often as promised." in text) is (problem == "single_label")
    assert ("the promised share of an item's true labels" in text) is (problem == "multi_label")


@undrawn
@pytest.mark.parametrize(
    ("classes", "rows"),
    [
        ({"apple": (60, 0.95), "pear": (55, 0.75)}, ["apple 95.00 60", "pear 75.00 55"]),
        ({"apple": (60, 0.95)}, ["apple 95.00 60", "pear - 0"]),
        ({"pear": (9, 1.0)}, ["apple - 0", "pear 100.00 9*"]),
    ],
)
def test_coverage_by_label_and_its_warnings_are_shown(
    report: Report, classes: dict[str, tuple[int, float]], rows: list[str]
) -> None:
    text = " ".join(Page(report_html(with_sets(report, **classes))).text.split())

    assert "Coverage by label at 90 % promised" in text
    assert all(row in text for row in rows)
    assert "items with image and text: label sets cover less of pear" in text


@undrawn
def test_names_of_classes_in_warnings_are_inert(report: Report) -> None:
    hostile = with_sets(replace(report, labels=(EVIL, "pear")), **{EVIL: (60, 0.5)})
    hostile.metrics["coverage_warnings"] = [EVIL]

    page = Page(report_html(hostile))

    assert page.count("script") == 0
    assert page.text.count(EVIL) >= 3


def with_damage(report: Report, image_only: float | None = 0.5) -> Report:
    """The report of a task whose scores on damaged inputs are known."""
    damaged = {
        "blurred": {"both": {"1": 0.81, "2": 0.72, "3": 0.63}, "image": dict.fromkeys("123", image_only)},
        "words dropped": {"both": {"1": 0.8, "2": 0.7, "3": 0.6}, "text": {"1": 0.54, "2": 0.45, "3": 0.36}},
    }
    undamaged = {"both": 0.9, "image": image_only, "text": 0.58}
    scores = {"items": 120, "undamaged": undamaged, "damaged": damaged}
    return replace(report, metrics={**report.metrics, "damaged_inputs": scores})


@undrawn
def test_damaged_inputs_have_a_table_and_a_figure_for_each_modality(report: Report) -> None:
    html = report_html(with_damage(report))
    text = " ".join(Page(html).text.split())

    assert "of 120 test items with damaged pictures and texts" in text
    assert "blurred both 90.0 81.0 72.0 63.0" in text
    assert "words dropped text only 58.0 54.0 45.0 36.0" in text
    assert html.count("by strength of the damage</title>") == 2


@undrawn
def test_a_modality_that_no_item_has_alone_is_not_drawn(report: Report) -> None:
    html = report_html(with_damage(report, image_only=None))

    assert html.count("by strength of the damage</title>") == 1
    assert "blurred image only - - - -" in " ".join(Page(html).text.split())


@undrawn
@pytest.mark.parametrize("scores", [None, {}, {"items": 0, "undamaged": {}, "damaged": {}}])
def test_a_report_without_scores_on_damaged_inputs_says_nothing_of_them(report: Report, scores: dict | None) -> None:
    metrics = report.metrics if scores is None else {**report.metrics, "damaged_inputs": scores}
    assert "damaged pictures" not in report_html(replace(report, metrics=metrics))
