"""Tails whose weights are inputs: the same features as with constants, on every runtime."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save

from model_store import Precision, openvino
from service.models.execution import Execution, Runtime
from service.models.graphs import CONTRACTS, Graph, Port
from service.models.tail import Tail, Weights

OPENVINO = pytest.mark.skipif(not openvino.is_fast(), reason="needs AMX and the extra openvino")
EXECUTIONS = [
    Execution(),
    pytest.param(Execution(Runtime.OPENVINO), marks=OPENVINO),
    pytest.param(Execution(Runtime.OPENVINO, Precision.BF16), marks=OPENVINO),
]
HIDDEN = np.random.default_rng(0).normal(size=(5, 3, 6)).astype(np.float32)
INPUTS = {"image": (HIDDEN,), "text": (HIDDEN, np.array([2, 0, 1, 2, 0]))}


def opened(draft, tower: str, execution: Execution) -> Tail:
    blobs = draft.manifest.graphs["fp32"].blobs()
    file, contract = blobs.get(f"{tower}_weights"), CONTRACTS[f"{tower}_tail"]
    weights = None if file is None else Weights(draft.blobs[file.sha256], execution)
    if weights is not None:
        contract = contract._replace(weights=weights.ports)
    blob = blobs[f"{tower}_tail"]
    longest = 3 if tower == "text" else None
    return Tail(Graph(draft.blobs[blob.sha256], blob.sha256, contract, 1, execution, longest), weights)


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("execution", EXECUTIONS, ids=str)
def test_weights_as_inputs_give_the_features_of_weights_as_constants(shelf, tower, execution):
    as_inputs, as_constants = (opened(shelf.draft(adapted=adapted), tower, execution) for adapted in (True, False))

    for rows in (1, 2, 5):
        inputs = [array[:rows] for array in INPUTS[tower]]
        features = as_inputs.run(*inputs)
        assert features.shape == (rows, 8)
        np.testing.assert_allclose(features, as_constants.run(*inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_one_graph_runs_with_the_weights_of_several_tasks(shelf, tower):
    tails = [opened(shelf.draft(seed=seed, adapted=True), tower, Execution()) for seed in (1, 2, 3)]
    shared = [Tail(tails[0].graph, tail.weights) for tail in tails]

    for own, tail in zip(tails, shared, strict=True):
        assert np.array_equal(tail.run(*INPUTS[tower]), own.run(*INPUTS[tower]))
    assert len({*shared, Tail(tails[0].graph, tails[1].weights)}) == 3


@pytest.mark.parametrize("count", [1, 4, 12])
@pytest.mark.parametrize("execution", EXECUTIONS, ids=str)
def test_files_with_the_same_names_have_the_same_ports_in_the_same_order(execution, count):
    files = [
        {f"weight_{number}": np.full((2, 3), seed + number, np.float32) for number in range(count)} for seed in (0, 50)
    ]
    first, second = (Weights(save(arrays), execution) for arrays in files)

    kind = "tensor(bfloat16)" if execution.precision is Precision.BF16 else "tensor(float)"
    assert first.ports == second.ports
    assert {*first.ports} == {Port(name, kind, 2) for name in files[0]}
    if execution.precision is Precision.FP32:
        for port, value in zip(first.ports, first.values, strict=True):
            assert np.array_equal(value.numpy(), files[0][port.name])
