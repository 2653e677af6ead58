"""Versions without a valid signature of a trusted key: refused, and the version before keeps answering."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from model_store import Manifest, Store, StoreError, publish, read_signing_key, read_trusted_keys, sign
from model_store.files import digest_line
from model_store.signing import make_key_pair
from service.cli import app
from service.models.catalog import Catalog
from service.models.loading import Loader
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.support.faults.asking import ITEM, as_json, ask, label, refusal
from tests.support.faults.killing import Killed, killed_at
from tests.support.tiny import Shelf, TinyDraft
from tests.support.waiting import eventually


class Target:
    """Version 1 answers, signed; version 2 is there, signed, and waits to be tampered with. So does another task."""

    def __init__(self, shelf: Shelf, folder: Path) -> None:
        self.shelf, self.store = shelf, shelf.store
        self.key, self.other_key = folder / "ours", folder / "theirs"
        self.trusted, self.others = folder / "ours.pub", folder / "theirs.pub"
        make_key_pair(self.key, self.trusted)
        make_key_pair(self.other_key, self.others)
        self.publish(shelf.draft("other"))
        self.first = self.publish(shelf.draft(seed=1))
        self.second = self.publish(shelf.draft(seed=2, backbone_seed=1))  # shares no graph with version 1
        self.folder = self.store.root / "tasks/fruit/2"
        self.manifest, self.signature = self.folder / "manifest.json", self.folder / "manifest.sig"
        self.head = self.store.root / "blobs/sha256" / self.second.head.sha256
        self.point(1)

    def publish(self, draft: TinyDraft) -> Manifest:
        return publish(self.store, draft.manifest, draft.blobs, read_signing_key(self.key))

    def point(self, version: int) -> None:
        """Move `live` as an editor would: without any check."""
        staged = self.store.root / "tasks/fruit/next"
        staged.write_text(f"{version}\n")
        staged.replace(self.store.root / "tasks/fruit/live")

    def signature_of(self, version: str) -> bytes:
        return (self.store.root / "tasks" / version / "manifest.sig").read_bytes()

    def replace_by(self, version: str) -> None:
        """Another version as it is, under this one's name and number."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.store.root / "tasks" / version, self.folder)

    def forge(self) -> None:
        """An attacker with write access to the store: an intact version with other labels."""
        content = self.manifest.read_bytes().replace(b'"apple"', b'"peach"')
        self.manifest.write_bytes(content)
        (self.folder / "manifest.sha256").write_bytes(digest_line(content))

    def link(self) -> None:
        self.signature.rename(self.folder / "elsewhere")
        self.signature.symlink_to("elsewhere")


@pytest.fixture
def target(shelf: Shelf, tmp_path: Path) -> Target:
    return Target(shelf, tmp_path)


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(data)


TAMPERS: dict[str, tuple[str, Callable[[Target], object]]] = {
    "a flipped bit of the manifest": ("untrusted", lambda t: flip(t.manifest, 1001)),
    "a flipped bit of the signature": ("untrusted", lambda t: flip(t.signature, 100)),
    "a flipped bit of a blob": ("sha256", lambda t: flip(t.head, 100)),
    "a forged manifest with its digest": ("untrusted", Target.forge),
    "a forged manifest, signed by another key": (
        "untrusted",
        lambda t: (t.forge(), sign(t.store, "fruit", 2, read_signing_key(t.other_key))),
    ),
    "signed by another key": ("untrusted", lambda t: sign(t.store, "fruit", 2, read_signing_key(t.other_key))),
    "unsigned": ("untrusted", lambda t: t.signature.unlink()),
    "an empty signature": ("untrusted", lambda t: t.signature.write_bytes(b"")),
    "a signature of zeros": ("untrusted", lambda t: t.signature.write_bytes(bytes(64))),
    "a signature cut by a byte": ("untrusted", lambda t: os.truncate(t.signature, 63)),
    "a signature longer by a byte": ("size", lambda t: os.truncate(t.signature, 65)),
    "a signature that is a link": ("link", Target.link),
    "the signature of another version": ("untrusted", lambda t: t.signature.write_bytes(t.signature_of("fruit/1"))),
    "the signature of another task": ("untrusted", lambda t: t.signature.write_bytes(t.signature_of("other/1"))),
    "another version, signed, under this number": ("manifest", lambda t: t.replace_by("fruit/1")),
    "another task, signed, under this name": ("manifest", lambda t: t.replace_by("other/1")),
}


@pytest.mark.slow
def test_a_running_service_refuses_versions_without_a_valid_signature(target, server, tmp_path, reliability):
    intact = shutil.copytree(target.store.root, tmp_path / "intact")
    running = server(target.store, trusted_keys=target.trusted)
    before, found = label(running), {}
    assert before["version"] == 1
    for name, (_, tamper) in TAMPERS.items():
        tamper(target)
        target.point(2)
        eventually(lambda: refusal(running))
        assert label(running) == before
        found[name] = refusal(running)["reason"]
        target.point(1)
        eventually(lambda: refusal(running) is None)
        for folder in ("blobs", "tasks/fruit/2"):
            shutil.rmtree(target.store.root / folder)
            shutil.copytree(intact / folder, target.store.root / folder)

    assert running.metric('mora_model_loads_total{result="refused",task="fruit"}') == len(TAMPERS)
    target.point(2)
    eventually(lambda: label(running)["version"] == 2)
    wrong = {name: reason for name, reason in found.items() if reason != TAMPERS[name][0]}
    reliability(
        "a signed version is altered, or signed by another key, or for another task or number, or not at all",
        "a service with trusted keys refuses it with the reason; the old version answers",
        f"{len(found)} ways tried, {len(wrong)} with another reason {wrong or ''}".rstrip(),
        reached=not wrong,
    )


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "holds no public key"),
        (b"\0garbage\xff", "line 1: a key must begin with"),
        (None, "No such file or directory"),
    ],
)
def test_a_service_whose_keys_cannot_be_used_does_not_start(tmp_path, content, cause):
    keys = tmp_path / "keys.pem"
    if content is not None:
        keys.write_bytes(content)

    result = CliRunner().invoke(
        app, ["run", "--store", str(tmp_path), "--port", "0"], env={"MORA_TRUSTED_KEYS": str(keys)}
    )

    said = " ".join(result.stderr.replace("│", " ").split())  # a box, in which lines are broken anywhere
    assert result.exit_code == 2
    assert cause in said
    assert "keys.pem" in said.replace(" ", "")


def test_a_pinned_version_must_be_signed_too(target, server):
    running = server(target.store, trusted_keys=target.trusted)
    target.signature.unlink()

    (refused,) = ask(running.base, [as_json("/classify", {**ITEM, "version": 2})])

    assert (refused.status, refused.code) == (503, "version_refused")
    assert label(running)["version"] == 1


def test_control_without_trusted_keys_a_forged_version_answers(target, server):
    running = server(target.store)
    target.forge()
    target.point(2)

    eventually(lambda: label(running)["version"] == 2)
    assert "peach" in [found["label"] for found in label(running)["labels"]]


def test_any_flipped_bit_of_manifest_or_signature_is_refused(target, counts, reliability):
    flips, choose = counts(200, 10_000), random.Random(0)  # noqa: S311
    store = Store(target.store.root, read_trusted_keys(target.trusted))
    reasons: list[str] = []
    for number in range(flips):
        path = (target.manifest, target.signature)[number % 2]
        data = path.read_bytes()
        flip(path, choose.randrange(8 * len(data)))
        try:
            store.verify("fruit", 2)
        except StoreError as error:
            reasons.append(error.reason)
        path.write_bytes(data)

    assert store.verify("fruit", 2) == target.second
    reliability(
        "one bit of a signed manifest or of its signature is flipped",
        "each refused as `untrusted`",
        f"{reasons.count('untrusted')} of {flips} refused so",
        reached=reasons.count("untrusted") == flips,
    )


def test_a_key_is_rotated_without_a_refused_version(target, tmp_path):
    """Trust both keys, publish with the new one, sign again what must stay, trust the new one alone."""
    both = tmp_path / "both.pem"
    both.write_bytes(target.trusted.read_bytes() + target.others.read_bytes())
    draft = target.shelf.draft(seed=3)
    publish(target.store, draft.manifest, draft.blobs, read_signing_key(target.other_key))

    def following(keys: Path) -> Catalog:
        store = Store(target.store.root, read_trusted_keys(keys))
        return Catalog(store, Loader(store, Settings(intra_op_threads=1)), Metrics(), 2, retry_seconds=0)

    catalog = following(both)
    for version in (3, 1):
        target.point(version)
        catalog.refresh()
        assert catalog.find("fruit").manifest.version == version
        assert catalog.refusal("fruit") is None

    catalog = following(target.others)
    with capture_logs():
        catalog.refresh()
    assert catalog.refusal("fruit").reason == "untrusted"

    sign(target.store, "fruit", None, read_signing_key(target.other_key))
    catalog.refresh()  # it looks again at what was refused, as a service does every 30 seconds
    assert catalog.find("fruit").manifest.version == 1


def deaths(target: Target, folder: Path, write: Callable[[Store], object]) -> list[int | None]:
    """What a service that trusts the key finds live after a death at each change of `write`; None: it is refused."""
    found: list[int | None] = []
    while True:
        root = folder / str(len(found)) / "store"
        shutil.copytree(target.store.root, root)
        died = False
        try:
            with killed_at(len(found) + 1):
                write(Store(root))
        except Killed:
            died = True
        try:
            found.append(Store(root, read_trusted_keys(target.trusted)).verify("fruit").version)
        except StoreError:
            found.append(None)
        if not died:
            return found


def test_a_killed_publisher_never_leaves_a_refused_version_live(target, tmp_path, reliability):
    draft, key = target.shelf.draft(seed=3), read_signing_key(target.key)
    published = deaths(target, tmp_path / "p", lambda s: publish(s, draft.manifest, draft.blobs, signing_key=key))
    signed = deaths(target, tmp_path / "s", lambda s: sign(s, "fruit", 1, key))

    assert published == [1] * published.count(1) + [3] * published.count(3)
    assert len(published) > 10
    assert set(signed) == {1}
    refused = (published + signed).count(None)
    reliability(
        "a signing publisher or `mora-store sign` is killed at each of its file changes",
        "the live version is signed and whole: the old one or the new one",
        f"{len(published) + len(signed)} changes tried, {refused} left a refused version live",
        reached=refused == 0,
    )


def test_control_signing_after_publishing_leaves_a_refused_version_live(target, tmp_path):
    draft, key = target.shelf.draft(seed=3), read_signing_key(target.key)

    def publish_then_sign(store: Store) -> None:
        publish(store, draft.manifest, draft.blobs)
        sign(store, "fruit", None, key)

    assert None in deaths(target, tmp_path / "trials", publish_then_sign)
