"""From a published version to a model whose answers to the golden examples have been checked."""

from __future__ import annotations

import threading
from collections.abc import Collection
from weakref import WeakValueDictionary

import numpy as np
from onnxruntime import RunOptions

from model_store import Blob, GoldenExample, Precision, Store, TextPreprocessing
from service.api.item import Item
from service.models.graphs import IMAGE_TAIL, IMAGE_TRUNK, TEXT_TAIL, TEXT_TRUNK, Contract, Graph, has_cuda
from service.models.head import read_head
from service.models.loaded_model import Model, Tower
from service.models.malloc import return_freed_memory
from service.models.preparation import TextTokenizer
from service.models.refusal import RefusedError, refusing
from service.settings import Settings

_ON_GPU = (Precision.FP16, Precision.FP32)  # int8 would run on the CPU
_ON_CPU = (Precision.INT8, Precision.FP32)  # fp16 would be converted to fp32 at every step
_OTHER_PROCESSOR = "; if the export ran on another kind of processor, set MORA_PRECISION to fp32"


class Loader:
    """Opens versions of a store's tasks; several threads may load at the same time.

    Versions share graphs and tokenizers. Each is dropped with the last version that uses it.

    Args:
        golden_seconds: time limit of one golden example. A version that needs longer is too slow to serve.
    """

    def __init__(self, store: Store, settings: Settings, golden_seconds: float = 60.0) -> None:
        self.graphs = WeakValueDictionary[tuple[str, Contract], Graph]()
        self._tokenizers = WeakValueDictionary[TextPreprocessing, TextTokenizer]()
        self._sharing = threading.Lock()
        self._store = store
        self._golden_seconds = golden_seconds
        self._intra_op_threads = settings.intra_op_threads
        self._precision = settings.precision
        self._max_image_pixels = settings.max_image_pixels
        self._max_decode_bytes = settings.max_decode_bytes

    def load(self, task: str, version: int) -> Model:
        """A verified model, whose golden examples have run; blocking.

        Raises:
            StoreError: the version does not exist, or its files do not match its manifest.
            RefusedError: the version is intact but cannot be served, or a golden example fails.
        """
        manifest = self._store.manifest(task, version)
        precision = choose_precision(manifest.graphs, self._precision, has_cuda())
        graphs = manifest.graphs[precision]
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
            max_image_pixels=self._max_image_pixels,
            max_decode_bytes=self._max_decode_bytes,
        )
        self.run_golden_examples(model)
        return_freed_memory()
        return model

    def run_golden_examples(self, model: Model) -> None:
        """Run the golden examples. Raises RefusedError for logits that differ from those of the export."""
        for example in model.manifest.golden:
            self._run_golden_example(model, example)

    def _graph(self, blob: Blob, contract: Contract) -> Graph:
        graph = self.graphs.get((blob.sha256, contract))
        if graph is None:
            opened = Graph(self._store.read(blob), blob.sha256, contract, self._intra_op_threads)
            with self._sharing:
                graph = self.graphs.setdefault((blob.sha256, contract), opened)
        return graph

    def _tokenizer(self, text: TextPreprocessing) -> TextTokenizer:
        tokenizer = self._tokenizers.get(text)
        if tokenizer is None:
            opened = TextTokenizer(self._store.read(text.tokenizer), text.max_length, text.padding)
            with self._sharing:
                tokenizer = self._tokenizers.setdefault(text, opened)
        return tokenizer

    def _run_golden_example(self, model: Model, example: GoldenExample) -> None:
        picture = None if example.image is None else self._store.read(example.image)
        item = Item(image=picture, text=example.text or None)
        with refusing("golden_mismatch"):
            if item.pattern is not example.pattern:
                raise RefusedError("golden_mismatch", f"a golden example of {example.pattern} has {item.pattern}")
            options = RunOptions()
            timer = threading.Timer(self._golden_seconds, setattr, (options, "terminate", True))
            timer.start()
            try:
                logits = model.golden_logits(item, options)
            finally:
                timer.cancel()
            difference = float(np.abs(logits - np.array(example.logits)).max())
        tolerance = model.manifest.tolerance(model.precision)
        if difference > tolerance:
            message = f"{model.precision} logits of the golden example {example.pattern} are off by {difference:.3g}"
            cure = "" if model.precision is Precision.FP32 else _OTHER_PROCESSOR
            raise RefusedError("golden_mismatch", f"{message}, more than {tolerance:.3g}{cure}")


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
