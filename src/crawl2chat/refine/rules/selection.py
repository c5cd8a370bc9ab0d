"""Of all that passed the filters, keep the part that the classifier likes best."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crawl2chat.parallel.map_shards import Engine, map_shards
from crawl2chat.refine.tables import ROWS, low_quality_row

COUNTS = "counts.json"


def keep_best(shards: Sequence[Path], out: Path, keep: float, workers: int, engine: Engine) -> list[Path]:
    """Write each shard anew into `out`, its documents below the threshold moved to its rejects; gives the new shards.

    keep: share of all documents. The threshold is exact: 4 bytes a document are in memory. Documents of equal
    score are kept or dropped together. A killed run goes on with the shards that are left.
    """
    threshold = find_threshold(read_scores(shards), keep)
    selected = [out / shard.name for shard in shards]
    map_shards(
        partial(select_shard, threshold=threshold), list(zip(shards, selected, strict=True)), label="quality",
        workers=workers, engine=engine,
    )  # fmt: skip
    return selected


def read_scores(shards: Sequence[Path]) -> npt.NDArray[np.float32]:
    """(documents,) of all shards."""
    columns = [pq.read_table(shard / "documents.parquet", columns=["quality"])["quality"] for shard in shards]
    return np.concatenate([np.zeros(0, np.float32), *(column.to_numpy() for column in columns)])


def find_threshold(scores: npt.NDArray[np.float32], keep: float) -> float:
    """The score of the last document that belongs to the best `keep` of all; at least one is kept."""
    if not len(scores):
        return 0.0
    last = len(scores) - max(1, round(keep * len(scores)))
    return float(np.partition(scores, last)[last])


def select_shard(shard: Path, out: Path, threshold: float) -> None:
    """Copy a shard without its documents below the threshold, which become rejects that hold their score."""
    out.mkdir(parents=True)
    documents = pq.ParquetFile(shard / "documents.parquet")
    rejects = pq.ParquetFile(shard / "rejects.parquet")
    with (
        pq.ParquetWriter(out / "documents.parquet", documents.schema_arrow, compression="zstd") as kept,
        pq.ParquetWriter(out / "rejects.parquet", rejects.schema_arrow, compression="zstd") as dropped,
    ):
        for batch in rejects.iter_batches(ROWS):
            dropped.write_batch(batch)
        for batch in documents.iter_batches(ROWS):
            good = pc.greater_equal(batch["quality"], pa.scalar(threshold, pa.float32()))
            kept.write_batch(batch.filter(good))
            bad = batch.filter(pc.invert(good)).select(["url", "text", "quality", "place"]).to_pylist()
            dropped.write_table(
                pa.Table.from_pylist([low_quality_row(row, threshold) for row in bad], rejects.schema_arrow)
            )
    (out / COUNTS).write_bytes((shard / COUNTS).read_bytes())
