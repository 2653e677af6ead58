"""Find the items of a catalogue that are nearest to a query.

    mora-serve embed catalogue.csv vectors.parquet --task shop-search
    python -m examples.search vectors.parquet --task shop-search --image photo.jpg --text 'the same in red'

The catalogue is the output of `mora-serve embed`. A running service encodes the query. The index is usearch's (HNSW,
approximate); `nearest_exactly` does the same with NumPy alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from usearch.index import Index

from model_store.api_key import read_api_key
from model_store.service_connection import ClientError
from service.client import Client

Vectors = NDArray[np.float32]
_NOT_SHOWN = {"embedding", "modalities", "error", "detail"}


def read_catalogue(path: Path) -> tuple[list[dict[str, object]], Vectors]:
    """The rows that have a vector, without it, and the vectors (n, D). Raises ValueError for another file."""
    table = pq.read_table(path)
    if "embedding" not in table.column_names:
        raise ValueError(f"{path} has no column embedding; make it with `mora-serve embed`")
    rows = [row for row in table.to_pylist() if row["embedding"] is not None]
    vectors = np.array([row["embedding"] for row in rows], np.float32)
    return [{name: value for name, value in row.items() if name not in _NOT_SHOWN} for row in rows], vectors


def index_of(vectors: Vectors) -> Index:
    """An index over vectors of length 1, by their row; `save(path)` and `Index.restore(path)` keep it."""
    index = Index(ndim=vectors.shape[1], metric="cos", dtype="f32")
    index.add(np.arange(len(vectors)), vectors, threads=1)  # with several, the index differs each time and misses more
    return index


def nearest(index: Index, query: Vectors, count: int) -> list[tuple[int, float]]:
    """The rows nearest to a query (D,), each with its cosine similarity, the most similar first."""
    matches = index.search(query, count)
    return [(int(row), 1 - float(distance)) for row, distance in zip(matches.keys, matches.distances, strict=True)]


def nearest_exactly(vectors: Vectors, query: Vectors, count: int) -> list[tuple[int, float]]:
    """As `nearest`, by comparing the query with every vector."""
    similarities = vectors @ query
    return [(int(row), float(similarities[row])) for row in np.argsort(-similarities, kind="stable")[:count]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the nearest rows of the catalogue."""
    parser = argparse.ArgumentParser(
        description="Find the items of a catalogue that are nearest to a query.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("catalogue", type=Path, help="parquet file of `mora-serve embed`")
    parser.add_argument("--task", required=True, help="retrieval task that encoded the catalogue")
    parser.add_argument("--image", type=Path, help="picture of the query")
    parser.add_argument("--text", help="text of the query; give a picture, a text, or both")
    parser.add_argument("--count", type=int, default=5, help="number of items to print")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the service")
    parser.add_argument("--api-key-file", type=Path, help="file of an API key, for a service that needs one")
    given = parser.parse_args(arguments)
    if given.image is None and given.text is None:
        parser.error("give --image, --text, or both")
    try:
        rows, vectors = read_catalogue(given.catalogue)
        with Client(given.url, read_api_key(given.api_key_file)) as client:
            image = None if given.image is None else given.image.read_bytes()
            answer = client.embed(image, given.text, task=given.task)
        if answer.embedding is None:
            raise ValueError(f"{given.task} answers with labels; name a task with problem: retrieval")
    except (ClientError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    found = nearest(index_of(vectors), np.array(answer.embedding, np.float32), given.count)
    for row, similarity in found:
        print(f"{similarity:.3f}  {rows[row]}")


if __name__ == "__main__":
    main()
