"""Missing tables keep METHOD's protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store import Pattern
from training.config import MissingConfig
from training.data import Split
from training.items import Item
from training.missing import Lacks, draw_table, pattern_shares, table_for

naturals = st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=1, max_size=80).map(lambda v: np.array(v, dtype=np.int8))


@given(natural=naturals, kind=st.sampled_from(["text", "image", "both"]), ratio=st.floats(0, 1), seed=st.integers(0, 9))
@settings(deadline=None)
def test_only_complete_items_lose_and_only_as_many_as_the_ratio_asks(
    natural: np.ndarray, kind: str, ratio: float, seed: int
) -> None:
    table = draw_table(natural, MissingConfig(type=kind, ratio=ratio, seed=seed))

    incomplete = int((natural != Lacks.NOTHING).sum())
    assert (table[natural != Lacks.NOTHING] == natural[natural != Lacks.NOTHING]).all()
    assert int((table != Lacks.NOTHING).sum()) == max(int(len(natural) * ratio), incomplete)
    drawn = table[(natural == Lacks.NOTHING) & (table != Lacks.NOTHING)]
    if kind == "both":
        assert int((drawn == Lacks.IMAGE).sum()) == int(len(drawn) * 0.5)
    else:
        assert (drawn == (Lacks.IMAGE if kind == "image" else Lacks.TEXT)).all()


def test_both_ratio_shifts_the_loss_towards_images() -> None:
    table = draw_table(np.zeros(100, dtype=np.int8), MissingConfig(type="both", ratio=0.8, both_ratio=0.25))

    assert pattern_shares(table) == {Pattern.BOTH: 0.2, Pattern.IMAGE: 0.6, Pattern.TEXT: 0.2}


def test_a_table_depends_on_its_seed_alone() -> None:
    natural = np.zeros(50, dtype=np.int8)

    tables = [draw_table(natural, MissingConfig(ratio=0.5, seed=seed)) for seed in (0, 0, 1)]

    assert (tables[0] == tables[1]).all()
    assert (tables[0] != tables[2]).any()


def test_a_table_is_saved_under_its_whole_setting(tmp_path: Path) -> None:
    split = Split("train", "made", [Item(i, b"x", "a text", ("a",)) for i in range(10)])

    table = table_for(split, "colors", MissingConfig(type="both", ratio=0.7, seed=3), tmp_path)

    saved = tmp_path / "colors_train_missing_both_ratio0.7_both0.5_seed3.npy"
    assert (np.load(saved, allow_pickle=False) == table).all()
