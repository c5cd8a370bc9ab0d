"""Looking into large tables: the right rows come, and only the row groups that hold them are read."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crawl2chat.refine.browse import Refined, RowTable
from crawl2chat.refine.tables import KEPT, REJECTS, ROWS
from crawl2chat.stages.files import StageError

PART, PARTS = 20_000, 5  # 10⁵ documents


def document(i):
    place = {"warc": "a", "offset": i, "within": 0}
    row = {"id": f"{i:032x}", "url": f"https://h{i % 7}.example.org/{i}", "text": f"Text {i}.", "language": "en"}
    return row | {"language_score": 1.0, "quality": None, "place": place, "copies": int(i % 1000 == 7) * (1 + i % 3)}


def reject(i):
    reason = ("too_few_words", float(i % 50)) if i % 3 else ("copy", None)
    row = {"url": f"https://bad.example.org/{i}", "step": "near_duplicates" if i % 3 == 0 else "gopher_quality"}
    row |= {"reason": reason[0], "value": reason[1], "detail": "", "snippet": f"Bad {i}"}
    return row | {"copy_of": None if i % 3 else f"{7:032x}", "place": {"warc": "a", "offset": i, "within": 0}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("refine")
    for table, schema, make, size in (("documents", KEPT, document, PART), ("rejects", REJECTS, reject, 3000)):
        (out / table).mkdir()
        for part in range(PARTS):
            rows = [make(part * size + i) for i in range(size)]
            file = out / table / f"part-{part:05d}.parquet"
            pq.write_table(pa.Table.from_pylist(rows, schema), file, row_group_size=ROWS)
    (out / "funnel.json").write_text(json.dumps({"kept": PART * PARTS}))
    return out


@pytest.fixture
def groups_read(monkeypatch):
    """The row groups that are read, as they are read."""
    read = []
    original = pq.ParquetFile.read_row_group

    def counted(self, i, columns=None, **options):
        read.append((i, tuple(columns)))
        return original(self, i, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("a whole file was read"))
    return read


def test_a_page_of_rows_reads_one_row_group_of_its_columns(folder, groups_read):
    refined = Refined(folder)
    assert (len(refined.kept), len(refined.dropped), groups_read) == (PART * PARTS, 3000 * PARTS, [])
    rows = refined.kept.rows(range(77_300, 77_350), ["url", "text"])
    assert [row["text"] for row in rows] == [f"Text {i}." for i in range(77_300, 77_350)]
    assert groups_read == [(17, ("url", "text"))]  # of the fourth part
    across = refined.kept.rows([99_999, 0, 20_000], ["id"])
    assert [(row["row"], row["id"]) for row in across] == [(i, f"{i:032x}") for i in (99_999, 0, 20_000)]
    assert len(groups_read) == 4


def test_rows_are_found_by_reason_and_by_address(folder):
    refined = Refined(folder)
    few = refined.matching("dropped", "gopher_quality", "too_few_words")
    assert few.tolist() == [i for i in range(3000 * PARTS) if i % 3]
    assert refined.matching("dropped", "gopher_quality", "copy").tolist() == []
    assert refined.matching("kept") is None
    assert refined.matching("kept", find="ORG/4242").tolist() == [4242, *range(42_420, 42_430)]
    both = refined.matching("dropped", "near_duplicates", "copy", "/12")
    assert both.tolist() == [i for i in range(3000 * PARTS) if i % 3 == 0 and str(i).startswith("12")]
    rows, values = refined.values("too_few_words")
    assert rows.tolist() == few.tolist()
    assert values.tolist() == [i % 50 for i in few.tolist()]
    assert refined.values("copy")[0].tolist() == []  # which has no value


def test_clusters_come_with_most_copies_first_and_their_copies_are_found(folder):
    refined = Refined(folder)
    rows, copies = refined.clusters()
    assert len(rows) == 100
    assert copies.tolist() == sorted(copies.tolist(), reverse=True)
    assert all(document(row)["copies"] == n for row, n in zip(rows.tolist(), copies.tolist(), strict=True))
    assert refined.copies_of(f"{7:032x}").tolist() == list(range(0, 3000 * PARTS, 3))
    assert refined.copies_of("none").tolist() == []
    assert (refined.row_of(f"{77:032x}"), refined.row_of("none")) == (77, None)


def test_a_sample_is_spread_over_all_files_and_the_same_each_time(folder, groups_read):
    table = RowTable(folder / "documents")
    sample = [row["row"] for row in table.sample(500, ["id"])]
    assert len(groups_read) == 20
    assert len(set(sample)) == len(sample) >= 500
    assert {row // PART for row in sample} == set(range(PARTS))
    assert [row["row"] for row in table.sample(500, ["id"])] == sample
    small = RowTable(folder / "rejects")
    assert [row["row"] for row in small.sample(10**6, ["url"])] == list(range(3000 * PARTS))


def test_a_stage_that_is_missing_or_at_work_is_named(tmp_path):
    with pytest.raises(StageError, match="refine writes them, and it has not run"):
        Refined(tmp_path)
    (tmp_path / "shards").mkdir()
    with pytest.raises(StageError, match="at work or was interrupted"):
        Refined(tmp_path)


def test_an_empty_table_has_no_rows(tmp_path):
    (tmp_path / "funnel.json").write_text("{}")
    refined = Refined(tmp_path)
    assert (len(refined.kept), refined.kept.rows([], ["url"])) == (0, [])
    assert refined.matching("dropped", reason="x").tolist() == []
    assert refined.clusters()[0].tolist() == []
    assert refined.row_of("x") is None
