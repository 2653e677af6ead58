"""Versions that are damaged on disk, in any bit: refused, and the version before keeps answering.

tests/model_store/test_store.py has what the store itself refuses; here a catalog and a running service read it.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from onnxruntime import RunOptions
from structlog.testing import capture_logs
from typer.testing import CliRunner

from model_store import Store, rollback
from model_store.cli import app
from service.api.answers import Refusal
from service.api.item import Item
from service.models.catalog import Catalog
from service.models.loading import Loader
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.support.faults.asking import get, label, refusal
from tests.support.faults.raw_http import events_named
from tests.support.tiny import Shelf, TinyDraft
from tests.support.waiting import eventually


def second(shelf: Shelf) -> TinyDraft:
    """A draft none of whose graphs or tokenizers a service has open from version 1: it must read every file."""
    draft = shelf.draft(seed=2, backbone_seed=1)
    return draft.replacing(text=draft.manifest.text.model_copy(update={"max_length": 9}))


def point(store: Store, version: int) -> None:
    """Move `live` as an operator with an editor would: without any check."""
    staged = store.root / "tasks/fruit/next"
    staged.write_text(f"{version}\n")
    staged.replace(store.root / "tasks/fruit/live")


class Target:
    """Version 1 answers; version 2 is there, good, and waits to be damaged."""

    def __init__(self, shelf: Shelf) -> None:
        self.store = shelf.store
        self.first = shelf.publish(seed=1)
        self.manifest = shelf.publish_draft(second(shelf))
        rollback(self.store, "fruit")
        version = self.store.root / "tasks/fruit/2"
        self.blobs = [self.store.root / "blobs/sha256" / blob.sha256 for blob in self.manifest.blobs()]
        self.files = [*self.blobs, version / "manifest.json", version / "manifest.sha256"]
        self.head = self.store.root / "blobs/sha256" / self.manifest.head.sha256


@pytest.fixture
def target(shelf: Shelf) -> Target:
    return Target(shelf)


@pytest.fixture
def catalog(target: Target) -> Catalog:
    """What a service follows the store with."""
    settings = Settings(store=target.store.root, intra_op_threads=1)
    return Catalog(target.store, Loader(target.store, settings), Metrics(), 2)


@pytest.fixture
def follow(target: Target, catalog: Catalog) -> Callable[[int], tuple[Refusal | None, int, list[float]]]:
    """`follow(version)`: points to it; what a catalog refused then, which version answers, and with what logits."""
    item = Item(text="a red apple")

    def show(version: int) -> tuple[Refusal | None, int, list[float]]:
        point(target.store, version)
        with capture_logs():
            catalog.refresh()
        model = catalog.find("fruit")
        logits = model.golden_logits(item, RunOptions())
        return catalog.refusal("fruit"), model.manifest.version, logits.tolist()

    return show


def flip(path: Path, bit: int) -> bytes:
    """Flip one bit; the content before."""
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(flipped)
    return data


def test_any_flipped_bit_of_a_version_is_refused_and_the_old_one_answers(target, follow, counts, reliability):
    flips, choose = counts(60, 1000), random.Random(0)  # noqa: S311
    before = follow(1)
    reasons: dict[str, int] = {}
    for number in range(flips):
        path = target.files[number % len(target.files)]
        data = flip(path, choose.randrange(8 * path.stat().st_size))
        refused, *answer = follow(2)
        path.write_bytes(data)
        assert answer == list(before[1:]), f"{path.name} was loaded damaged"
        reasons[refused.reason] = reasons.get(refused.reason, 0) + 1
        assert follow(1) == before

    assert follow(2)[:2] == (None, 2), "the control: undamaged, it is loaded"
    refused = sum(reasons.values())
    reliability(
        "one bit of a version's files is flipped (graphs, head, tokenizer, pictures, manifest and its digest)",
        "each refused; the old version answers bit-identically",
        f"{refused} of {flips} refused ({', '.join(f'{reason} {count}' for reason, count in sorted(reasons.items()))})",
        reached=refused == flips,
    )


def test_a_running_service_refuses_flipped_bits_and_keeps_answering(target, server, counts, reliability):
    flips, choose = counts(4, 60), random.Random(1)  # noqa: S311
    running = server(target.store)
    before, open_files = label(running), running.open_files
    for number in range(flips):
        path = target.files[number * 5 % len(target.files)]
        data = flip(path, choose.randrange(8 * path.stat().st_size))
        point(target.store, 2)
        eventually(lambda: refusal(running))
        path.write_bytes(data)
        assert refusal(running)["version"] == 2
        assert label(running) == before
        point(target.store, 1)
        eventually(lambda: refusal(running) is None)

    refused = int(running.metric('mora_model_loads_total{result="refused",task="fruit"}'))
    eventually(lambda: running.open_files <= open_files)
    eventually(lambda: len(events_named(running, "model_refused")) == refused)
    reliability(
        "one bit of a version's files is flipped under a running service",
        "each refused once; the old version answers bit-identically; no file stays open",
        f"{refused} of {flips} refused",
        reached=refused == flips,
    )


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def link(path: Path, make: Callable[[Path, Path], None]) -> None:
    moved = path.rename(path.parent.parent / "the same content")
    make(path, moved)


DAMAGES: dict[str, tuple[str, Callable[[Target], object]]] = {
    "cut by a byte": ("size", lambda t: os.truncate(t.head, t.head.stat().st_size - 1)),
    "emptied": ("size", lambda t: os.truncate(t.head, 0)),
    "longer": ("size", lambda t: t.head.write_bytes(t.head.read_bytes() + b"\0")),
    "of 1 TB": ("size", lambda t: os.truncate(t.head, 10**12)),
    "of zeros": ("sha256", lambda t: t.head.write_bytes(bytes(t.head.stat().st_size))),
    "swapped blobs of one size": ("sha256", lambda t: swap(*_alike(t))),
    "swapped blobs": ("size", lambda t: swap(t.head, t.blobs[0])),
    "a symlink": ("link", lambda t: link(t.head, Path.symlink_to)),
    "a hard link to other content": ("size", lambda t: (t.head.unlink(), t.head.hardlink_to(t.blobs[0]))),
    "a fifo": ("link", lambda t: (t.head.unlink(), os.mkfifo(t.head))),
    "a folder": ("link", lambda t: (t.head.unlink(), t.head.mkdir())),
    "a device": ("link", lambda t: (t.head.unlink(), t.head.symlink_to("/dev/zero"))),
    "gone": ("missing", lambda t: t.head.unlink()),
    "manifest gone": ("missing", lambda t: t.files[-2].unlink()),
    "manifest of version 1": (
        "manifest",
        lambda t: shutil.copy(t.store.root / "tasks/fruit/1/manifest.json", t.files[-2]),
    ),
    "manifest cut": ("manifest", lambda t: os.truncate(t.files[-2], 1000)),
    "label renamed": (
        "sha256",
        lambda t: t.files[-2].write_bytes(t.files[-2].read_bytes().replace(b'"apple"', b'"aqple"')),
    ),
}


def _alike(target: Target) -> tuple[Path, Path]:
    """Two files of one size: the image tails of both versions."""
    tails = (manifest.graphs["fp32"].image_tail for manifest in (target.first, target.manifest))
    return tuple(target.store.root / "blobs/sha256" / tail.sha256 for tail in tails)


def test_a_running_service_refuses_every_kind_of_damage_with_its_reason(target, server, tmp_path, reliability):
    intact = shutil.copytree(target.store.root, tmp_path / "intact")
    running = server(target.store)
    before = label(running)
    found = {}
    for name, (_, damage) in DAMAGES.items():
        damage(target)
        point(target.store, 2)
        eventually(lambda: refusal(running))
        found[name] = refusal(running)["reason"]
        assert label(running) == before
        point(target.store, 1)
        eventually(lambda: refusal(running) is None)
        for folder in ("blobs", "tasks/fruit/2"):
            shutil.rmtree(target.store.root / folder)
            shutil.copytree(intact / folder, target.store.root / folder)

    wrong = {name: reason for name, reason in found.items() if reason != DAMAGES[name][0]}
    point(target.store, 2)
    eventually(lambda: label(running)["version"] == 2)
    reliability(
        "a version's files are cut, swapped, linked to others, replaced by a fifo, a folder or a device, or deleted",
        "refused with the reason; the old version answers",
        f"{len(found)} kinds of damage, {len(wrong)} with another reason {wrong or ''}".rstrip(),
        reached=not wrong,
    )


def test_files_that_change_after_they_were_loaded_change_no_answer(shelf, server, reliability):
    manifest = shelf.publish()
    running = server(shelf.store)
    before, answers = label(running), []
    files = [shelf.store.root / "blobs/sha256" / blob.sha256 for blob in manifest.blobs()]
    for spoil in (
        lambda path: path.write_bytes(b"?" * path.stat().st_size),
        lambda path: os.truncate(path, 0),
        os.unlink,
    ):
        for path in files:
            spoil(path)
        answers += [label(running) for _ in range(3)]

    assert running.process.poll() is None
    again = server(shelf.store)
    assert get(again.base, "/readyz").code == "no_model"
    assert get(again.base, "/tasks/fruit").code == "version_refused"
    wrong = sum(answer != before for answer in answers)
    reliability(
        "every file of the live version is overwritten, truncated to nothing, deleted",
        "answers stay bit-identical; a service that starts then refuses it",
        f"{wrong} of {len(answers)} answers differ",
        reached=wrong == 0,
    )


def test_a_store_may_be_missing_at_start_and_disappear_later(shelf, server, reliability):
    running = server(shelf.store)
    assert get(running.base, "/livez").status == 200
    assert get(running.base, "/readyz").code == "no_model"

    shelf.publish(seed=1)
    eventually(lambda: get(running.base, "/readyz").status == 200)
    before = label(running)
    away = shelf.store.root.rename(shelf.store.root.with_name("away"))
    states = []
    for state in (
        lambda: None,
        shelf.store.root.mkdir,
        (shelf.store.root / "tasks").mkdir,
    ):  # unmounted, empty, emptier
        state()
        eventually(lambda: get(running.base, "/readyz").status == 200)
        states.append(label(running))
    (shelf.store.root / "tasks").rmdir()
    shelf.store.root.rmdir()
    away.rename(shelf.store.root)
    shelf.publish(seed=2)
    eventually(lambda: label(running)["version"] == 2)

    wrong = sum(state != before for state in states)
    reliability(
        "the store is missing at start; later it goes away, is empty, and comes back with a new version",
        "alive throughout, not ready before the first version, then answers go on",
        f"{wrong} of {len(states)} answers differ while it was away",
        reached=wrong == 0,
    )


def test_the_live_file_decides_and_file_times_do_not(target, catalog, reliability):
    answered = []
    for version, hours in ((2, -1), (1, -1), (2, 1), (1, 1)):
        point(target.store, version)
        for path in target.store.root.rglob("*"):
            moment = 1e9 + 3600 * (hours if "fruit/2" in str(path) else 0)  # `live` is always of the same age
            os.utime(path, (moment, moment))
        catalog.refresh()
        answered.append((catalog.find("fruit").manifest.version, version))

    wrong = sum(found != version for found, version in answered)
    reliability(
        "the newer version's files are dated an hour before or after the older one's, `live` moves to and fro",
        "the version that `live` names answers, independent of file times",
        f"{wrong} of {len(answered)} moves answered by another version",
        reached=wrong == 0,
    )


def test_mora_store_show_reports_the_refusal(target, server, monkeypatch):
    running = server(target.store)
    flip(target.head, 100)
    point(target.store, 2)
    eventually(lambda: refusal(running))
    monkeypatch.setenv("COLUMNS", "160")

    arguments = ["show", "fruit", "--store", str(target.store.root), "--url", running.base]
    shown = CliRunner().invoke(app, arguments)
    verified = CliRunner().invoke(app, ["verify", "fruit", "--store", str(target.store.root)])

    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[-1] == (
        f"{running.base} answers with version 1 because it refused version 2: sha256 (see its log)"
    )
    assert verified.exit_code == 1
    assert "BAD  fruit 2: " in verified.stdout
