"""A follower pulls and activates what a folder, or a registry, points to."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading

import pytest

from model_store import (
    Store,
    StoreError,
    activate,
    collect_garbage,
    publish,
    publishing,
    removing,
    rollback,
    sign,
    withdraw,
)
from model_store.transfer import Follower, TransferCount, open_remote, push
from model_store.transfer import following as following_module
from tests.support.waiting import eventually


class Following:
    """A follower of `store` by `other`, with the lines of its log."""

    def __init__(self, store: Store, other: Store, keep: int | None = None) -> None:
        self.lines: list[str] = []
        self.follower = Follower(open_remote(str(store.root)), other, self.lines.append, keep=keep)

    def step(self) -> list[str]:
        self.lines.clear()
        self.follower.step()
        return [*self.lines]


@pytest.fixture
def following(store: Store, other: Store) -> Following:
    return Following(store, other)


def test_whatever_is_live_there_becomes_live_here(following, store, other, draft):
    publish(store, *draft())
    assert following.step() == ["fruit: version 1 is live"]
    assert following.step() == []

    publish(store, *draft(tail="second"))
    assert following.step() == ["fruit: version 2 is live"]
    assert other.verify("fruit").version == 2

    activate(store, "fruit", 1)
    assert following.step() == ["fruit: version 1 is live"]
    assert other.live("fruit") == 1


def test_a_rollback_here_lasts_until_the_next_change_there(following, store, other, draft):
    for tail in ("first", "second"):
        publish(store, *draft(tail=tail))
        following.step()
    rollback(other, "fruit")

    assert following.step() == []
    assert other.live("fruit") == 1
    publish(store, *draft(tail="third"))
    following.step()
    assert other.live("fruit") == 3


def test_a_withdrawn_task_stays_so_until_the_next_change_there(following, store, other, draft):
    publish(store, *draft())
    following.step()
    withdraw(other, "fruit")

    assert following.step() == []
    assert other.is_withdrawn("fruit")
    publish(store, *draft(tail="second"))
    following.step()
    assert other.live("fruit") == 2


def test_a_task_that_is_withdrawn_at_the_start_stays_so(following, store, other, draft, keys):
    publish(store, *draft())
    following.step()
    withdraw(other, "fruit")
    again = Following(store, other)

    (line,) = again.step()
    assert line.startswith("fruit: withdrawn here, until ")
    assert "`mora-store activate fruit 1 --store" in line
    sign(store, "fruit", None, keys.private)
    again.step()
    assert other.is_withdrawn("fruit"), "another signature is no other version"
    publish(store, *draft(tail="second"))
    again.step()
    assert other.live("fruit") == 2


def test_a_rollback_here_lasts_when_the_follower_starts_again(following, store, other, draft, keys):
    for tail in ("first", "second"):
        publish(store, *draft(tail=tail))
        following.step()
    rollback(other, "fruit")

    again = Following(store, other)
    (line,) = again.step()

    assert line.startswith(f"fruit: version 1 is live here, until {store.root} points to another version; ")
    assert "`mora-store activate fruit 2 --store" in line
    sign(store, "fruit", None, keys.private)
    Following(store, other).step()
    assert other.live("fruit") == 1, "another signature is no other version"
    publish(store, *draft(tail="third"))
    assert Following(store, other).step() == ["fruit: version 3 is live"]


def test_a_rollback_lasts_although_the_version_was_removed_here(following, store, other, draft):
    for tail in ("first", "second"):
        publish(store, *draft(tail=tail))
        following.step()
    rollback(other, "fruit")
    shutil.rmtree(other.root / "tasks/fruit/2")
    collect_garbage(other)

    Following(store, other).step()

    assert (other.live("fruit"), other.versions("fruit")) == (1, [1, 2])


@pytest.mark.parametrize("change", [withdraw, rollback], ids=lambda change: change.__name__)
def test_a_change_there_while_no_follower_ran_ends_what_was_set_here(following, store, other, draft, change):
    for tail in ("first", "second", "third"):
        publish(store, *draft(tail=tail))
        following.step()
    activate(store, "fruit", 2)
    following.step()
    change(other, "fruit")
    activate(store, "fruit", 3)  # a version that is here

    assert Following(store, other).step() == ["fruit: version 3 is live"]


@pytest.mark.parametrize("record", [None, "", "?", "0" * 64, "0" * 1000], ids=lambda record: str(record)[:8])
def test_a_store_without_a_readable_record_is_activated_and_gets_one(following, store, other, draft, record):
    for tail in ("first", "second"):
        publish(store, *draft(tail=tail))
        following.step()
    rollback(other, "fruit")
    path = other.root / "tasks/fruit/followed"
    path.unlink() if record is None else path.write_text(record)

    assert Following(store, other).step() == ["fruit: version 2 is live"]
    rollback(other, "fruit")
    Following(store, other).step()
    assert other.live("fruit") == 1


def test_what_cannot_answer_is_not_kept(following, store, other, draft):
    for tail in ("first", "second"):
        publish(store, *draft(tail=tail))
        following.step()
    for damage in (b"?", b"7\n", None):
        live = other.root / "tasks/fruit/live"
        live.unlink() if damage is None else live.write_bytes(damage)
        assert Following(store, other).step() == ["fruit: version 2 is live"]


def test_the_record_of_a_follower_is_no_version(following, store, other, draft, tmp_path):
    publish(store, *draft())
    following.step()

    assert (other.versions("fruit"), other.newest("fruit")) == ([1], 1)
    assert other.verify("fruit").version == 1
    assert collect_garbage(other) == removing.prune(other, 1) == {}
    assert publishing.seed(other, store) == {"fruit": None}
    push(other, "fruit", None, open_remote(str(tmp_path / "share")), TransferCount())
    assert not (tmp_path / "share/tasks/fruit/followed").exists()


def test_a_version_that_is_live_already_is_not_activated_again(following, store, other, draft):
    publish(store, *draft())
    following.step()

    assert Following(store, other).step() == ["fruit: version 1 is live already"]


@pytest.mark.parametrize("damage", [b"damaged", b"", None], ids=["other bytes", "empty", "missing"])
def test_what_does_not_verify_is_not_activated(following, store, other, draft, damage, no_waits):
    publish(store, *draft())
    following.step()
    second = publish(store, *draft(tail="second"))
    path = store.root / "blobs/sha256" / second.head.sha256
    content = path.read_bytes()
    path.unlink() if damage is None else path.write_bytes(damage)

    with pytest.raises(StoreError):
        following.step()

    assert (other.live("fruit"), other.versions("fruit")) == (1, [1])
    path.write_bytes(content)
    following.step()
    assert other.live("fruit") == 2


def test_another_version_of_the_same_number_is_never_overwritten(following, store, other, draft):
    publish(store, *draft())
    publish(other, *draft(tail="another"))
    before = other.read_manifest("fruit")

    with pytest.raises(StoreError, match="has another version 1 of fruit, which stays as it is"):
        following.step()
    assert other.read_manifest("fruit") == before


def test_a_second_task_there_does_not_change_what_is_followed(following, store, other, draft):
    publish(store, *draft())
    following.step()
    publish(store, *draft("tags"))
    publish(store, *draft(tail="second"))

    following.step()

    assert (other.tasks(), other.live("fruit")) == (["fruit"], 2)


def test_a_tag_that_moves_to_another_task_is_refused(registry, repository, store, other, draft, tmp_path):
    publish(store, *draft())
    publish(store, *draft("tags"))
    lines: list[str] = []
    remote = open_remote(f"oci://{registry}/{repository}:a", plain_http=True)
    push(store, "fruit", None, remote, TransferCount())
    follower = Follower(open_remote(remote.name, plain_http=True), other, lines.append)
    follower.step()
    elsewhere = open_remote(f"oci://{registry}/{repository}:b", plain_http=True)
    push(store, "tags", None, elsewhere, TransferCount())
    follower._remote = elsewhere

    with pytest.raises(StoreError, match="is of the task tags, not of fruit"):
        follower.step()
    assert other.tasks() == ["fruit"]
    for one in (remote, elsewhere):
        one.close()


def test_an_outage_is_survived_and_logged_once_an_attempt(store, other, draft):
    following = Following(store, other)
    stop = threading.Event()
    thread = threading.Thread(target=following.follower.run, args=(0.05, stop))
    thread.start()
    try:
        eventually(lambda: following.lines)
        assert following.lines[0].startswith(f"error: {store.root} points to no version")
        assert "the next attempt is in" in following.lines[0]
        publish(store, *draft())
        eventually(lambda: other.root.exists() and other.tasks() and other.live("fruit") == 1)
        eventually(lambda: following.lines[-1] == f"{store.root} works again")
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def test_waits_double_up_to_five_minutes(store, other):
    following, waits = Following(store, other), []

    class Stop:
        def is_set(self) -> bool:
            return len(waits) == 8

        def wait(self, seconds: float) -> None:
            waits.append(seconds)

    following.follower.run(10, Stop())

    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_a_damaged_live_number_here_is_written_anew(following, store, other, draft):
    publish(store, *draft())
    following.step()
    (other.root / "tasks/fruit/live").write_text("?\n")
    publish(store, *draft(tail="second"))

    following.step()

    assert other.live("fruit") == 2


def test_old_versions_are_removed_after_each_activation(store, other, draft):
    following, versions = Following(store, other, keep=2), []
    for number in range(5):
        publish(store, *draft(tail=f"version {number}"))
        lines = following.step()
        versions.append(other.versions("fruit"))
        for version in other.versions("fruit"):
            other.verify("fruit", version)

    assert versions == [[1], [1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    assert lines[0] == "fruit: version 5 is live"
    assert re.fullmatch(r"fruit: old versions are removed \(.+\); the store has 3, 4, 5", lines[1])
    assert following.step() == []
    assert rollback(other, "fruit").version == 4


def test_a_removed_version_is_pulled_again_only_if_it_is_pointed_to(store, other, draft):
    following = Following(store, other, keep=1)
    for tail in ("first", "second", "third"):
        publish(store, *draft(tail=tail))
        following.step()
    assert following.step() == []
    assert Following(store, other, keep=1).step() == ["fruit: version 3 is live already"]
    assert other.versions("fruit") == [2, 3]

    activate(store, "fruit", 1)
    assert following.step() == ["fruit: version 1 is live"]
    assert (other.live("fruit"), other.versions("fruit")) == (1, [1, 2, 3])
    assert other.verify("fruit") == store.manifest("fruit")
    assert publish(other, *draft(tail="another")).version == 4


def test_versions_that_came_before_are_removed_at_the_start(store, other, draft):
    following = Following(store, other)
    for tail in ("first", "second", "third"):
        publish(store, *draft(tail=tail))
        following.step()

    removed, live = Following(store, other, keep=1).step()

    assert live == "fruit: version 3 is live already"
    assert removed.endswith("; the store has 2, 3")


def test_old_versions_make_room_before_the_first_pull(store, other, draft, monkeypatch):
    following = Following(store, other)
    for tail in ("first", "second", "third"):
        publish(store, *draft(tail=tail))
        following.step()
    publish(store, *draft(tail="fourth"))
    monkeypatch.setattr(following_module, "fetch_version", refuse)

    with pytest.raises(OSError, match="No space left"):
        Following(store, other, keep=1).step()

    assert other.versions("fruit") == [2, 3]


@pytest.mark.parametrize("failure", ["a damaged version", "the disk"])
def test_a_failure_of_pruning_is_one_line_and_following_goes_on(store, other, draft, monkeypatch, failure):
    following = Following(store, other, keep=1)
    for tail in ("first", "second"):
        publish(store, *draft(tail=tail))
        following.step()
    before = other.root / "tasks/fruit/2/manifest.json"
    content = before.read_bytes()
    publish(store, *draft(tail="third"))
    with monkeypatch.context() as context:
        if failure == "the disk":
            context.setattr(removing, "prune", refuse)
        else:
            before.write_text("{}")
        live, problem = following.step()

    assert live == "fruit: version 3 is live"
    assert problem.startswith("error: fruit is not pruned: ")
    assert ("No space left on device" if failure == "the disk" else "tasks/fruit/2/manifest.json") in problem
    assert following.step() == []
    assert other.versions("fruit") == [1, 2, 3]
    before.write_bytes(content)
    publish(store, *draft(tail="fourth"))
    assert following.step()[1].endswith("; the store has 3, 4")


def refuse(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_unsigned_versions_do_not_keep_a_follower_with_trusted_keys_from_pruning(store, other, draft, keys):
    for tail in ("first", "second"):
        publish(store, *draft(tail=tail))
        Following(store, other).step()
    trusting = Following(store, Store(other.root, keys.trusted), keep=1)
    publish(store, *draft(tail="third"))
    sign(store, "fruit", None, keys.private)

    assert trusting.step()[1].endswith("; the store has 2, 3")
