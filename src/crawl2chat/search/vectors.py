"""Embeddings of passages, by model2vec's static models: an average of word vectors, quick on a CPU (an extra)."""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crawl2chat.stages.files import AnyPath, StageError


class Vectors:
    """A model of embeddings from a local folder, and the passages' embeddings once they are asked for."""

    def __init__(self, folder: AnyPath) -> None:
        """Raises StageError for a folder without such a model, or without the library; nothing is downloaded."""
        place = Path(folder)
        if not (place / "model.safetensors").is_file():
            raise StageError(f"{place}: no embeddings here; expected a folder of model2vec's with model.safetensors")
        try:
            from model2vec import StaticModel
        except ImportError as error:
            raise StageError("search with embeddings needs model2vec: pip install 'crawl2chat[search]'") from error
        self.name = f"{place.resolve()}, {(place / 'model.safetensors').stat().st_mtime_ns}"
        self.model: Any = StaticModel.from_pretrained(str(place))
        self._lock = threading.Lock()
        self._passages: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Return a unit vector for each text, as bytes of float16."""
        if not texts:
            return []
        vectors = np.asarray(self.model.encode(list(texts)), dtype=np.float32)
        return [row.astype(np.float16).tobytes() for row in _unit(vectors)]

    def nearest(self, database: sqlite3.Connection, query: str, k: int) -> list[int]:
        """Return the ids of the k passages that are closest to a query by cosine."""
        with self._lock:
            if self._passages is None:
                rows = database.execute("SELECT id, vector FROM passages WHERE vector IS NOT NULL").fetchall()
                ids = np.array([id for id, _ in rows], dtype=np.int64)
                content = np.frombuffer(b"".join(vector for _, vector in rows), dtype=np.float16)
                self._passages = ids, content.reshape(len(ids), -1 if rows else 0).astype(np.float32)
            ids, vectors = self._passages
        if not len(ids):
            return []
        (asked,) = _unit(np.asarray(self.model.encode([query]), dtype=np.float32))
        closest = np.argsort(-(vectors @ asked), kind="stable")[:k]
        return [int(id) for id in ids[closest]]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
