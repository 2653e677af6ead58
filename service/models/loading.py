"""From a published version to a model that has passed the load check."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import TypeVar
from weakref import WeakValueDictionary

from model_store import Blob, Precision, Store, TextPreprocessing
from service.models.golden_limits import check_golden_limits
from service.models.graphs import IMAGE_TAIL, IMAGE_TRUNK, TEXT_TAIL, TEXT_TRUNK, Contract, Graph, has_cuda
from service.models.head import read_head
from service.models.load_check import LoadCheck
from service.models.loaded_model import Model, Tower
from service.models.malloc import return_freed_memory
from service.models.preparation import TextTokenizer
from service.models.refusal import RefusedError, refusing
from service.settings import Settings

K = TypeVar("K")
V = TypeVar("V")
_ON_GPU = (Precision.FP16, Precision.FP32)  # int8 would run on the CPU
_ON_CPU = (Precision.INT8, Precision.FP32)  # fp16 would be converted to fp32 at every step


class Loader:
    """Opens versions of a store's tasks; several threads may load at the same time.

    Versions share graphs and tokenizers. Each is dropped with the last version that uses it.

    Args:
        golden_seconds: time limit of one item of the load check. A version that needs longer is too slow to serve.
    """

    def __init__(self, store: Store, settings: Settings, golden_seconds: float = 60.0) -> None:
        self.graphs = WeakValueDictionary[tuple[str, Contract], Graph]()
        self._tokenizers = WeakValueDictionary[TextPreprocessing, TextTokenizer]()
        self._sharing = threading.Lock()
        self._store = store
        self._settings = settings
        self._check = LoadCheck(store, golden_seconds)

    def load(self, task: str, version: int) -> Model:
        """A verified model that has passed the load check; blocking.

        Raises:
            StoreError: the version does not exist, or its files do not match its manifest.
            RefusedError: the version is intact but cannot be served, or its check fails.
        """
        settings, manifest = self._settings, self._store.manifest(task, version)
        precision = choose_precision(manifest.graphs, settings.precision, has_cuda())
        check_golden_limits(self._store, manifest, settings)
        graphs = manifest.graphs[precision]
        needed = [manifest.head, manifest.absent_features, manifest.text.tokenizer, *graphs.blobs().values()]
        self._store.check(needed)  # before any of them is opened, which takes time
        head, absent_features = self._store.read(manifest.head), self._store.read(manifest.absent_features)
        with refusing("tokenizer"):
            tokenizer = self._tokenizer(manifest.text)
        with refusing("head"):
            linear_head = read_head(manifest, head, absent_features)
        model = Model(
            manifest=manifest,
            precision=precision,
            image_tower=Tower(self._graph(graphs.image_trunk, IMAGE_TRUNK), self._graph(graphs.image_tail, IMAGE_TAIL)),
            text_tower=Tower(self._graph(graphs.text_trunk, TEXT_TRUNK), self._graph(graphs.text_tail, TEXT_TAIL)),
            tokenizer=tokenizer,
            head=linear_head,
            max_image_pixels=settings.max_image_pixels,
            max_decode_bytes=settings.max_decode_bytes,
        )
        self.check(model)
        return_freed_memory()
        return model

    def check(self, model: Model) -> None:
        """Answer the golden examples and the largest inputs. Raises the errors of `LoadCheck.run`."""
        self._check.run(model)

    def _graph(self, blob: Blob, contract: Contract) -> Graph:
        def open_graph() -> Graph:
            return Graph(self._store.read(blob), blob.sha256, contract, self._settings.intra_op_threads)

        return self._shared(self.graphs, (blob.sha256, contract), open_graph)

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


def choose_precision(available: Collection[Precision], setting: str, on_gpu: bool) -> Precision:
    """The precision that `setting` names; for `auto` the fastest one for this device, at worst fp32.

    A named precision is never replaced: the operator relies on its speed or on its answers. Raises RefusedError
    `precision` if the version lacks it.
    """
    if setting == "auto":
        return next(precision for precision in (_ON_GPU if on_gpu else _ON_CPU) if precision in available)
    precision = Precision(setting)
    if precision not in available:
        has = " and ".join(sorted(available))
        cure = f"set MORA_PRECISION to auto, or publish a version with {setting} (export.precisions)"
        raise RefusedError("precision", f"the version has {has}, not {setting}; {cure}")
    return precision
