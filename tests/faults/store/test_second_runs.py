"""Commands and manifests that are given twice: the row of `make faults`."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from model_store import Store, activate
from model_store.cli import app
from tests.deploy.test_kubernetes import FOLDER
from tests.support.made_cluster import MadeCluster
from tests.support.snapshot import contents
from tests.support.tiny import Shelf

TIMES = 20


def seed_job() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "seed.yaml").read_text())


@pytest.mark.parametrize("live", [5, 4, 3], ids=lambda live: f"version {live} is live")
def test_the_seed_job_applied_again_changes_nothing(tmp_path, reliability, live):
    image, volume = Store(tmp_path / "image"), tmp_path / "volume"
    for seed in (1, 2, 3):
        Shelf(image).publish("fruit", seed=seed)

    def run(command, folders):
        result = CliRunner().invoke(
            app, [str({"/store": image.root, **folders}.get(word, word)) for word in command[1:]]
        )
        assert result.exit_code == 0, result.output

    cluster = MadeCluster(run, {"mora-store": volume})
    cluster.apply(seed_job())
    store = Store(volume)
    for seed in (4, 5):
        Shelf(store).publish("fruit", seed=seed)
    activate(store, "fruit", live)
    before, changes = contents(volume), 0

    for _ in range(TIMES):
        cluster.pass_days()
        cluster.apply(seed_job())
        changes += contents(volume) != before

    what = f"the seed Job applied {TIMES} times more, version {live} of 5 is live"
    reliability(what, "0 change anything", f"{changes} changed the store", not changes)
