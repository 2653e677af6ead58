"""The main job over real processes and real HTTP: train, merge, export, publish, serve, classify, roll back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml
from click.testing import Result
from typer.testing import CliRunner

from model_store import Store, read_trusted_keys
from model_store.cli import app as mora_store
from service.api.item import Item
from tests.support.snapshot import contents
from tests.support.waiting import eventually
from training.cli import app as mora_train
from training.data.splits import load_data
from training.learning.runs import load_trained

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1"}


BIN = Path(sys.executable).parent


def command(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands to its end."""
    line = [str(BIN / program), *map(str, arguments)]
    return subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def invoke(app: typer.Typer, *arguments: str | Path) -> Result:
    """Run a command in this process: most of the time of another goes into importing torch."""
    return CliRunner().invoke(app, [*map(str, arguments)])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(store: Path, precision: str = "auto") -> Iterator[str]:
    """The base URL of a service on this store."""
    port = free_port()
    line = [str(BIN / "mora-serve"), "run", "--store", str(store), "--port", str(port), "--precision", precision]
    process = subprocess.Popen(
        [*line, "--poll-seconds", "0.1", "--drain-delay-seconds", "0"], env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: is_ready(url), seconds=60)
        yield url
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def is_ready(url: str) -> bool:
    try:
        return urllib.request.urlopen(f"{url}/readyz", timeout=5).status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def classify(url: str, task: str, image: bytes | None = None, text: str | None = None) -> dict:
    """POST /classify as multipart/form-data."""
    boundary, parts = "test-boundary", {"task": task.encode(), "top_k": b"99"}
    if text is not None:
        parts["text"] = text.encode()
    body = b""
    for name, value in parts.items():
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
    if image is not None:
        head = 'Content-Disposition: form-data; name="image"; filename="x.png"\r\nContent-Type: image/png'
        body += f"--{boundary}\r\n{head}\r\n\r\n".encode() + image + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{url}/classify", body, headers)
    return json.load(urllib.request.urlopen(request, timeout=30))


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, tiny_siglip: Path, parquet_of: Callable
) -> tuple[Path, Path]:
    """A store with a single-label and a multi-label task, made by the command line; and the folder of their runs."""
    folder = tmp_path_factory.mktemp("main-path")
    assert command("mora-store", "keygen", folder / "key").returncode == 0
    lines = {}
    for task, problem, column, backbone in (
        ("colors", "single_label", "label", tiny_backbone),
        ("pairs", "multi_label", "labels", tiny_backbone),
        ("siglip-colors", "single_label", "label", tiny_siglip),
    ):
        config = {
            "task": task,
            "problem": problem,
            "backbone": str(backbone),
            "data": {**parquet_of(folder), "label": column},
            "missing": {"train": {"ratio": 0.5}},
            "mora": {"parametrization": "identity"},
            "train": {"epochs": 2, "batch_size": 8, "probe": False},
            "export": {"accuracy_budget": 100},  # int8 is published, whatever it costs this random backbone
        }
        (folder / f"{task}.yaml").write_text(yaml.safe_dump(config))
        line = [folder / f"{task}.yaml", "--output", folder / task, "--publish", folder / "store"]
        lines[task] = [*line, "--sign-with", folder / "key"]
    done = command("mora-train", "fit", *lines.pop("colors"))
    assert done.returncode == 0, done.stderr
    output = done.stdout
    for line in lines.values():
        result = invoke(mora_train, "fit", *line)
        assert result.exit_code == 0, result.output
        output += result.stdout
    for task in ("colors", "pairs", "siglip-colors"):
        assert f"{task} version 1 is live" in output
    assert output.count("int8 accepted") == 3
    return folder / "store", folder


@pytest.mark.slow
def test_the_second_task_adds_only_its_own_parts(published: tuple[Path, Path]) -> None:
    store = Store(published[0], read_trusted_keys(published[1] / "key.pub"))

    tasks = [store.verify(task).graphs for task in ("colors", "pairs")]

    for precision in ("fp32", "int8"):
        graphs = [task[precision] for task in tasks]
        assert graphs[0].image_trunk == graphs[1].image_trunk
        assert graphs[0].text_trunk == graphs[1].text_trunk
        assert (graphs[0].image_tail == graphs[1].image_tail) is (precision == "fp32")
        own = "image_weights" if precision == "fp32" else "image_tail"
        assert getattr(graphs[0], own) != getattr(graphs[1], own)


@pytest.mark.slow
def test_fit_given_again_changes_no_file_of_the_store(published: tuple[Path, Path]) -> None:
    store, folder = published
    before = contents(store)

    for task in ("colors", "pairs", "siglip-colors"):
        line = (folder / f"{task}.yaml", "--output", folder / task, "--publish", store, "--sign-with", folder / "key")
        again = invoke(mora_train, "fit", *line)
        assert again.exit_code == 0, again.output
        assert again.stdout.count("this run was published before") == 1

    assert contents(store) == before


@pytest.mark.parametrize(("precision", "difference"), [("fp32", 1e-4), ("int8", 0.02)])
@pytest.mark.slow
def test_the_service_answers_as_the_trained_model(
    published: tuple[Path, Path], precision: str, difference: float
) -> None:
    store, runs = published
    with serving(store, precision) as url:
        for task in ("colors", "pairs", "siglip-colors"):
            trained = load_trained(runs / task)
            data = load_data(trained.config.model_copy(update={"labels": trained.labels}))
            for item in data.test.items:
                answer = classify(url, task, item.image, item.text)
                collate = trained.collator()
                with torch.no_grad():
                    logits = trained.model(**collate([item]))["logits"][0]
                logits = logits / trained.calibration[Item(item.image, item.text).pattern].temperature
                expected = logits.sigmoid() if task == "pairs" else logits.softmax(0)
                found = {entry["label"]: entry["score"] for entry in answer["labels"]}
                np.testing.assert_allclose([found[x] for x in trained.labels], expected.numpy(), atol=difference)
                latency = answer["latency_ms"]
                assert (latency["image_encoder"] == 0) == (item.image is None)
                assert (latency["text_encoder"] == 0) == (item.text is None)


def test_a_new_version_goes_live_and_back_without_a_restart(published: tuple[Path, Path]) -> None:
    store, runs = published
    with serving(store) as url:
        assert classify(url, "colors", text="a red picture")["version"] == 1

        done = invoke(mora_train, "publish", runs / "colors", "--store", store, "--sign-with", runs / "key")
        assert done.exit_code == 0, done.output
        assert Store(store, read_trusted_keys(runs / "key.pub")).verify("colors").version == 2
        eventually(lambda: classify(url, "colors", text="a red picture")["version"] == 2, seconds=60)

        done = command("mora-store", "rollback", "colors", "--store", store)
        assert done.returncode == 0, done.stderr
        eventually(lambda: classify(url, "colors", text="a red picture")["version"] == 1, seconds=60)


def test_nothing_that_is_published_holds_a_path_of_this_machine(
    published: tuple[Path, Path], tiny_backbone: Path, tiny_siglip: Path
) -> None:
    """Manifests, graphs, reports, tokenizers; and the cards and bills of materials that are made of manifests."""
    store, folder = published
    files = {path.name: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    for task in ("colors", "pairs", "siglip-colors"):
        for describe in ("card", "sbom", "show"):
            files[f"{describe} of {task}"] = invoke(mora_store, describe, task, "--store", store).stdout.encode()

    temporary = Path(tempfile.gettempdir())
    local = [temporary, folder, Path.home(), tiny_backbone.parent, tiny_siglip.parent, Path.cwd(), Path(sys.prefix)]
    found = {(name, path) for name, content in files.items() for path in local if f"{path}/".encode() in content}

    assert found == set()
    assert len(files) > 20


@pytest.mark.slow
def test_the_provenance_of_a_version_is_enough_to_make_it_again(
    published: tuple[Path, Path], tiny_backbone: Path, tmp_path: Path
) -> None:
    manifest = Store(published[0]).verify("colors")
    (tmp_path / "again.yaml").write_text(json.dumps(manifest.provenance.config))  # JSON is YAML
    # Absolute paths are not published, only the names of their files.
    assert manifest.provenance.config["data"]["train"] == "train.parquet"
    paths = [f"--data.{split}={published[1] / split}.parquet" for split in ("train", "validation", "test")]
    line = ("fit", tmp_path / "again.yaml", "--output", tmp_path / "again", "--backbone", tiny_backbone, *paths)

    done = invoke(mora_train, *line)

    assert done.exit_code == 0, done.output
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert {split: again[split] for split in ("validation", "test")} == manifest.metrics
    assert load_trained(tmp_path / "again").dataset_fingerprint == manifest.provenance.dataset_fingerprint


def test_export_writes_graphs_that_stand_alone(published: tuple[Path, Path], tmp_path: Path) -> None:
    line = ("export", published[1] / "colors", "--output", tmp_path, "--single-file", "--export.precisions", "[fp16]")
    done = invoke(mora_train, *line)

    assert done.exit_code == 0, done.output
    assert "fp16 accepted\n  both: " in done.stdout
    names = {path.name for path in tmp_path.iterdir()}
    assert {
        "image_trunk.fp32.onnx",
        "image_weights.fp32.safetensors",
        "text_tail.fp32.onnx",
        "text_tail.fp16.onnx",
        "model.onnx",
        "manifest.json",
        "head.safetensors",
        "report.html",
        "test_scores.json",
    } <= names
