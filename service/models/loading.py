"""From a published version to a model that has passed the load check."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from model_store import Blob, Manifest, Precision, Store, TextPreprocessing
from model_store.openvino import has_openvino
from service.models.execution import Execution, Runtime, executions
from service.models.golden_limits import check_golden_limits
from service.models.graphs import CONTRACTS, Contract, Graph, has_cuda
from service.models.head import read_head
from service.models.load_check import LoadCheck
from service.models.loaded_model import TOWER_NAMES, Model, Tower, TowerName
from service.models.malloc import return_freed_memory
from service.models.preparation import TextTokenizer
from service.models.refusal import RefusedError, refusing
from service.models.tail import Tail, Weights
from service.models.timings import Timings
from service.settings import Settings

K = TypeVar("K")
V = TypeVar("V")
_log = structlog.get_logger()


def executions_here(manifest: Manifest, settings: Settings) -> list[Execution]:
    """The executions that a version and the settings allow on this machine. Raises as `executions`."""
    int8 = manifest.graphs.get(Precision.INT8)
    return executions(
        manifest.graphs,
        settings.precision,
        settings.runtime,
        has_openvino=has_openvino(),
        on_gpu=has_cuda(),
        fixed_scales=int8 is None or int8.fixed_scales,
    )


class Loader:
    """Opens versions of a store's tasks; several threads may load at the same time.

    Versions share graphs, weights and tokenizers. Each is dropped with the last version that uses it.

    Args:
        golden_seconds: time limit of one item of the load check. A version that needs longer is too slow to serve.
        measures: whether to time executions, which takes seconds; without, the first that the settings allow is used.
    """

    def __init__(
        self, store: Store, settings: Settings, golden_seconds: float = 60.0, *, measures: bool = True
    ) -> None:
        self.graphs = WeakValueDictionary[tuple[str, Contract, Execution, int | None], Graph]()
        self._weights = WeakValueDictionary[tuple[str, Execution], Weights]()
        self._tokenizers = WeakValueDictionary[TextPreprocessing, TextTokenizer]()
        self._sharing = threading.Lock()
        self._store = store
        self._settings = settings
        self._check = LoadCheck(store, golden_seconds)
        self._timings = None
        if measures and has_openvino():
            self._timings = Timings(store, settings.intra_op_threads, settings.timings_file)

    def load(self, task: str, version: int) -> Model:
        """A verified model that has passed the load check; blocking.

        Raises:
            StoreError: the version does not exist, or its files do not match its manifest.
            RefusedError: the version is intact but cannot be served, or its check fails.
        """
        manifest, settings = self._store.manifest(task, version), self._settings
        ways = executions_here(manifest, settings)
        check_golden_limits(self._store, manifest, settings)
        towers = self._fastest(manifest, ways)
        try:
            model = self._open(manifest, towers)
        except RefusedError as error:
            others = [way for way in ways if way.runtime is not Runtime.OPENVINO or way.precision is Precision.FP32]
            if error.reason != "golden_mismatch" or others == ways or not others:
                raise
            _log.warning("openvino_kept_to_fp32", task=task, version=version, problem=str(error))
            model = self._open(manifest, self._fastest(manifest, others))
        return_freed_memory()
        return model

    def _fastest(self, manifest: Manifest, ways: Sequence[Execution]) -> dict[TowerName, Execution]:
        """The execution of each tower."""
        towers = dict.fromkeys(TOWER_NAMES, ways[0])
        if self._timings is not None and len(ways) > 1 and any(way.runtime is Runtime.OPENVINO for way in ways):
            self._store.check([blob for way in ways for blob in manifest.graphs[way.precision].blobs().values()])
            for modality, seconds in self._timings.measure(manifest, ways).items():
                if seconds:
                    towers[modality] = min(seconds, key=seconds.__getitem__)
                milliseconds = {str(way): round(1000 * each, 3) for way, each in seconds.items()}
                _log.info(
                    "execution_chosen",
                    task=manifest.task,
                    version=manifest.version,
                    modality=modality,
                    execution=str(towers[modality]),
                    milliseconds=milliseconds,
                )
        return towers

    def _open(self, manifest: Manifest, towers: dict[TowerName, Execution]) -> Model:
        """Open a version and check it. Raises as `load`."""
        settings = self._settings
        needed = [manifest.head, manifest.absent_features, manifest.text.tokenizer]
        for execution in towers.values():
            needed += manifest.graphs[execution.precision].blobs().values()
        self._store.check(needed)  # before any of them is opened, which takes time
        head, absent_features = self._store.read(manifest.head), self._store.read(manifest.absent_features)
        with refusing("tokenizer"):
            tokenizer = self._tokenizer(manifest.text)
        with refusing("head"):
            linear_head = read_head(manifest, head, absent_features)
        model = Model(
            manifest=manifest,
            image_tower=self._tower(manifest, "image", towers["image"]),
            text_tower=self._tower(manifest, "text", towers["text"]),
            tokenizer=tokenizer,
            head=linear_head,
            max_image_pixels=settings.max_image_pixels,
            max_decode_bytes=settings.max_decode_bytes,
        )
        self.check(model)
        return model

    def check(self, model: Model) -> None:
        """Answer the golden examples and the largest inputs. Raises the errors of `LoadCheck.run`."""
        self._check.run(model)

    def _tower(self, manifest: Manifest, modality: TowerName, execution: Execution) -> Tower:
        blobs = manifest.graphs[execution.precision].blobs()
        longest = manifest.text.max_length if modality == "text" else None

        def graph(name: str, contract: Contract) -> Graph:
            blob = blobs[name]

            def open_graph() -> Graph:
                threads = self._settings.intra_op_threads
                return Graph(self._store.read(blob), blob.sha256, contract, threads, execution, longest)

            return self._shared(self.graphs, (blob.sha256, contract, execution, longest), open_graph)

        trunk, tail = f"{modality}_trunk", f"{modality}_tail"
        weights, tail_contract = None, CONTRACTS[tail]
        if (blob := blobs.get(f"{modality}_weights")) is not None:
            weights = self._weights_of(blob, execution)
            tail_contract = tail_contract._replace(weights=weights.ports)
        return Tower(graph(trunk, CONTRACTS[trunk]), Tail(graph(tail, tail_contract), weights))

    def _weights_of(self, blob: Blob, execution: Execution) -> Weights:
        def open_weights() -> Weights:
            with refusing("signature"):
                return Weights(self._store.read(blob), execution)

        return self._shared(self._weights, (blob.sha256, execution), open_weights)

    def _tokenizer(self, text: TextPreprocessing) -> TextTokenizer:
        def open_tokenizer() -> TextTokenizer:
            return TextTokenizer(self._store.read(text.tokenizer), text.max_length, text.padding)

        return self._shared(self._tokenizers, text, open_tokenizer)

    def _shared(self, opened: WeakValueDictionary[K, V], key: K, open_it: Callable[[], V]) -> V:
        """The object of the key, opened now if necessary. Two threads that open it at once get the same one."""
        found = opened.get(key)
        if found is None:
            new = open_it()
            with self._sharing:
                found = opened.setdefault(key, new)
        return found
