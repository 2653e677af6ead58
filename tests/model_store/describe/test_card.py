"""The model card of a version: front matter that the hub can read, complete sections, and escaped text.

Covers model_store.describe.front_matter, model_store.describe.manifest_summary.
"""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console
from typer.testing import CliRunner

from model_store import DEFAULT_STORE, Backbone, Manifest, Precision, Problem, Store, publish
from model_store.cli import app
from model_store.describe.bom import ml_bom
from model_store.describe.card import model_card
from model_store.describe.front_matter import as_yaml, front_matter
from model_store.describe.tables import summary
from tests.support.tiny import Shelf

GOLDEN = Path(__file__).parent / "clipart-category.md"
HOSTILE = [
    "a|b",
    "`code`",
    "first\nsecond",
    "\n---\nlicense: mit\n---\n",
    "<script>alert(1)</script>",
    "```\n# title",
    "[link](http://example.org)",
    "http://example.org www.example.org",
    "ends\n```\n<script>the code</script>\n",
    "\\| &lt; $x$ **bold** __bold__ ~~gone~~",
    "\x1b[31mred\u202e",
    "- item",
    "# title",
]


@pytest.fixture
def manifest(store: Store, draft: Callable) -> Manifest:
    return publish(store, *draft())


def shipped(task: str) -> Manifest:
    return Store(DEFAULT_STORE).manifest(task)


def changed(manifest: Manifest, **changes: object) -> Manifest:
    """The changed manifest, validated like one that is read from a store."""
    return Manifest.model_validate(manifest.model_dump() | changes)


def with_config(manifest: Manifest, config: dict) -> Manifest:
    return changed(manifest, provenance=manifest.provenance.model_dump() | {"config": config})


def on_backbone(manifest: Manifest, name: str) -> Manifest:
    return changed(manifest, backbone=Backbone.model_validate(manifest.backbone.model_dump() | {"name": name}))


def hub_data(manifest: Manifest) -> dict:
    """The front matter after the hub's own library has read and checked it."""
    return ModelCard(model_card(manifest)).data.to_dict()


def rendered(manifest: Manifest) -> str:
    """The page as HTML, by a renderer that passes HTML through."""
    body = ModelCard(model_card(manifest)).text
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(body)


def test_the_card_of_the_shipped_task_is_the_reviewed_one() -> None:
    cure = f"if the change is intended, run mora-store card clipart-category --output {GOLDEN.name}"

    assert model_card(shipped("clipart-category")) == GOLDEN.read_text(encoding="utf-8"), cure


@pytest.mark.parametrize("task", Store(DEFAULT_STORE).tasks())
def test_the_hubs_library_reads_every_score_of_the_shipped_tasks(task: str) -> None:
    manifest = shipped(task)
    results = ModelCard(model_card(manifest)).data.eval_results

    scores = {(each.dataset_split, each.dataset_config, each.metric_name): each.metric_value for each in results}
    assert len(scores) == len(results)
    for split, rows in manifest.metrics.items():
        for pattern, row in rows.items():
            assert scores[split, pattern, "Macro-F1"] == row["macro_f1"]
    accuracy = {"clipart-category": ("accuracy", "Accuracy"), "clipart-keywords": ("exact_match", "Exact match")}[task]
    assert accuracy in {(each.metric_type, each.metric_name) for each in results}
    assert not {"items", "confidence"} & {each.metric_type for each in results}
    tasks = {each.dataset_config: each.task_type for each in results}
    assert tasks == dict.fromkeys(("overall", "both", "image"), "image-classification") | {
        "text": "text-classification"
    }


def test_the_library_of_the_hub_refuses_a_result_without_a_data_set(manifest: Manifest) -> None:
    card = model_card(manifest)

    with pytest.raises(ValueError, match="model_index"):
        ModelCard(card.replace("    dataset:\n", "    data:\n"))


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        ("openai/clip-vit-base-patch16", True),
        ("google/siglip-base-patch16-224", True),
        ("examples/openclipart/backbone", False),
        ("./models/clip", False),
        ("/srv/models", False),
        ("clip", False),
        ("a--b/c", False),
        ("owner/name\n---", False),
    ],
)
def test_only_a_backbone_of_the_hub_is_a_base_model(manifest: Manifest, name: str, is_known: bool) -> None:
    assert hub_data(on_backbone(manifest, name)).get("base_model") == (name if is_known else None)


def test_the_card_names_only_known_data_sources(manifest: Manifest) -> None:
    of_hub = {"data": {"train": "owner/shop:train", "test": "owner/shop:test", "validation": "photos/valid"}}

    assert hub_data(with_config(manifest, of_hub))["datasets"] == ["owner/shop"]
    assert "datasets" not in hub_data(with_config(manifest, {"data": {"train": "photos/train"}}))
    assert not {"license", "language"} & hub_data(manifest).keys()


def test_zero_is_a_score_and_an_undefined_score_is_left_out(manifest: Manifest) -> None:
    (result,) = ModelCard(
        model_card(changed(manifest, metrics={"test": {"text": {"accuracy": 0.0, "ece": None}}}))
    ).data.eval_results

    assert (result.metric_type, result.metric_value) == ("exact_match", 0.0)


def test_a_version_without_scores_has_a_card(manifest: Manifest) -> None:
    bare = changed(manifest, metrics={}, training_mix={"both": 1.0})

    assert not {"model-index", "metrics"} & hub_data(bare).keys()
    page = rendered(bare)
    assert "No scores were recorded" in page
    assert "No training item had image only" in page
    assert "image and text are was not measured" in page


def test_the_card_lists_thresholds_precisions_and_limits(manifest: Manifest) -> None:
    int8 = manifest.graphs[Precision.FP32].model_copy(update={"metric_change": {"image": -0.25}})
    scores = {"test": {"image": {"items": 100.0, "accuracy": 0.5}}}
    page = rendered(changed(manifest, graphs={**manifest.graphs, Precision.INT8: int8}, metrics=scores))

    for cells in (
        ["apple", "0.40", "0.40", "0.40"],
        ["image only", "1.250", "0.40 to 0.60, one a label"],
        ["int8", "82 B", "1.0e-06", "-", "-0.25", "-"],
        ["image only", "100", "0.5000"],
        ["text only", "35%"],
        ["torch", "2.13.0"],
    ):
        assert "\n".join(f"<td>{cell}</td>" for cell in cells) in page
    assert "100 test items with image only has a standard error of up to 5.0 points" in page
    assert "with seed 0" in page


def test_markup_in_labels_is_shown_as_text(manifest: Manifest) -> None:
    calibration = manifest.calibration["both"].model_dump() | {"thresholds": None}
    logits = (0.0,) * len(HOSTILE)
    hostile = changed(
        with_config(
            manifest,
            {"labels": HOSTILE, "backbone": "\n".join(HOSTILE), "data": {"train": HOSTILE[3], "test": HOSTILE[0]}},
        ),
        problem=Problem.SINGLE_LABEL,
        labels=HOSTILE,
        calibration=dict.fromkeys(("both", "image", "text"), calibration),
        golden=[example.model_dump() | {"logits": logits} for example in manifest.golden],
    )
    tame = changed(hostile, labels=[f"label {number}" for number in range(len(HOSTILE))])

    tokens = [MarkdownIt("commonmark").enable("table").parse(model_card(each)) for each in (hostile, tame)]

    assert [token.type for token in tokens[0]] == [token.type for token in tokens[1]]
    inline = [[child.type for token in each for child in token.children or []] for each in tokens]
    assert [*filter(lambda kind: kind != "text_special", inline[0])] == inline[1]
    page = rendered(hostile)
    assert "<script" not in page
    assert "<a " not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</td>" in page
    assert "<td>a|b</td>" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert hub_data(hostile).keys() == hub_data(manifest).keys()
    fences = [token for token in tokens[0] if token.type == "fence" and token.info == "yaml"]
    assert [yaml.safe_load(fence.content)["labels"] for fence in fences] == [HOSTILE]


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_front_matter_is_valid_yaml_for_any_source_name(source: str, metric: str) -> None:
    manifest = with_config(shipped("clipart-category"), {"data": {"train": source}})
    manifest = changed(manifest, metrics={"test": {"both": {metric: 0.5}}})

    content = front_matter(manifest)

    assert content.count("\n---\n") == 1
    (model,) = yaml.safe_load(content.removesuffix("---\n"))["model-index"]
    assert [each["dataset"]["split"] for each in model["results"]] == ["test"] * len(model["results"])


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))))
def test_yaml_reads_back_as_it_was_written(values: dict[str, str]) -> None:
    assert yaml.safe_load(as_yaml(values)) == values


def test_the_command_prints_the_card_or_writes_it_to_a_file(
    store: Store, draft: Callable, manifest: Manifest, tmp_path: Path
) -> None:
    second = publish(store, *draft(tail="second"))
    line = ["card", "fruit", "--store", str(store.root)]

    live = CliRunner().invoke(app, line)
    first = CliRunner().invoke(app, [*line, "--version", "1", "--output", str(tmp_path / "README.md")])
    refused = CliRunner().invoke(app, [*line, "--output", str(tmp_path / "README.md")])
    gone = CliRunner().invoke(app, [*line, "--version", "7"])

    assert live.stdout == model_card(second)
    assert (first.exit_code, first.stdout) == (0, "")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == model_card(manifest)
    assert (refused.exit_code, "README.md exists" in refused.stderr) == (1, True)
    forced = CliRunner().invoke(app, [*line, "--output", str(tmp_path / "README.md"), "--force"])
    assert (forced.exit_code, (tmp_path / "README.md").read_text(encoding="utf-8")) == (0, model_card(second))
    assert gone.exit_code == 1
    assert gone.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("items", "cell", "has_legend"),
    [(12.0, "12&#42;", True), (49.0, "49&#42;", True), (50.0, "50", False), (0.0, "0", False)],
)
def test_scores_have_intervals_and_few_items_are_marked(
    manifest: Manifest, items: float, cell: str, has_legend: bool
) -> None:
    scores = {"test": {"text": {"items": items, "macro_f1": 0.75}}}
    intervals = {"test": {"text": {"macro_f1": (0.5, 0.875)}}}

    page = model_card(changed(manifest, metrics=scores, intervals=intervals))

    assert f"| text only | {cell} | 0.7500 (0.5000\u20130.8750) |" in page
    assert ("An asterisk marks fewer than 50 items" in page) is has_legend
    assert "The 95 % interval of a score stands in brackets." in page


def test_the_summary_has_the_intervals_too(manifest: Manifest) -> None:
    scores = {"test": {"text": {"items": 12.0, "macro_f1": 0.75}, "image": {"items": 0.0, "macro_f1": None}}}
    described = changed(manifest, metrics=scores, intervals={"test": {"text": {"macro_f1": (0.5, 0.875)}}})
    console = Console(file=StringIO(), width=200)

    console.print(summary(described, is_live=True, signature="none"))

    rows = [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in console.file.getvalue().splitlines()]
    assert ["test", "Items", "12*", "0"] in rows
    assert ["test", "Macro-F1", "0.7500 (0.5000\u20130.8750)", "-"] in rows


def test_a_retrieval_task_is_described_without_labels(shelf: Shelf):
    metrics = {"test": {view: {"items": 120.0, "recall_at_1": 0.5} for view in ("overall", "both", "image", "text")}}
    manifest = shelf.publish_draft(shelf.draft("search").replacing(metrics=metrics))

    card = model_card(manifest)
    written = StringIO()
    Console(file=written, width=120).print(summary(manifest, is_live=True, signature="none"))
    head = yaml.safe_load(front_matter(manifest).strip("-\n"))

    assert "to a vector of 5 numbers and length 1 (retrieval)" in card
    assert "Recall@1" in card
    assert "A recall over the 120 test items" in card
    assert "mora-serve embed catalogue.csv vectors.parquet --store DIR --task search" in card
    for word in ("## Labels", "## Calibration", "thresholds were chosen", "classification"):
        assert word not in card
    assert "a vector of 5 numbers and length 1" in written.getvalue()
    assert "Temperature" not in written.getvalue()
    assert (head["pipeline_tag"], "retrieval" in head["tags"]) == ("feature-extraction", True)
    assert {result["task"]["type"] for result in head["model-index"][0]["results"]} == {"feature-extraction"}
    parameters = ml_bom(manifest)["metadata"]["component"]["modelCard"]["modelParameters"]
    assert (parameters["task"], parameters["outputs"]) == ("retrieval", [{"format": "vector of length 1"}])
