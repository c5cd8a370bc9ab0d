from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from warcs import prose

from crawl2chat.parallel.map_shards import map_shards
from crawl2chat.refine.copies import dedup
from crawl2chat.refine.copies.copies import find_copies, open_shards
from crawl2chat.refine.copies.dedup import MAX_LEADERS, alike, sign
from crawl2chat.refine.copies.shuffle import in_this_process
from crawl2chat.refine.settings import DedupSettings
from crawl2chat.refine.tables import SIGNED
from crawl2chat.stages.files import StageError

SETTINGS = DedupSettings()
MEGABYTE = 2**20


def write_shards(texts: list[str], folder: Path, settings: DedupSettings, count: int) -> list[Path]:
    """Signed texts as refine leaves them; ids are their numbers."""
    folders = [folder / f"{i:05d}" for i in range(count)]
    for texts_of, path in zip(np.array_split(np.arange(len(texts)), count), folders, strict=True):
        path.mkdir(parents=True)
        rows = [
            {
                "id": str(i),
                "url": f"https://example.org/{i}",
                "text": texts[i],
                "characters": len(texts[i]),
                "exact": signature.exact,
                "buckets": signature.buckets.tobytes(),
                "low_bytes": signature.low_bytes.tobytes(),
            }
            for i in texts_of.tolist()
            for signature in [sign(texts[i], settings)]
        ]
        pq.write_table(pa.Table.from_pylist(rows, SIGNED), path / "documents.parquet")
    return folders


@pytest.fixture
def copies(tmp_path):
    """Number of a text → number of the text that stays, and whether it is exact."""

    def find(texts, settings=SETTINGS, part_bytes=MEGABYTE, shards=2, map_tasks=in_this_process):  # type: ignore[no-untyped-def]
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        opened = open_shards(write_shards(texts, folder, settings, shards))
        found = find_copies(opened, folder / "work", settings, part_bytes, map_tasks)
        dropped, kept = {}, {}
        for shard in opened:
            of_shard, counts = found.of(shard)
            assert all(copy.kept_url == f"https://example.org/{copy.kept_id}" for copy in of_shard.values())
            dropped |= {i: (int(copy.kept_id), copy.exact) for i, copy in of_shard.items()}
            kept |= counts
        stay = [kept for kept, _ in dropped.values()]
        assert kept == {i: stay.count(i) for i in stay}
        return dropped

    return find


def test_equal_but_for_case_and_blanks_is_an_exact_copy_of_the_longest(copies):
    text = prose(1)
    assert copies([text.upper(), text.replace(" ", "  "), prose(2)]) == {0: (1, True)}


def test_a_small_edit_is_a_near_copy_and_the_longest_stays(copies):
    text = prose(1, 60)
    assert copies([text, prose(2, 60), text + " And one sentence more."]) == {0: (2, False)}


def test_of_equal_texts_the_first_stays(copies):
    assert copies([prose(1)] * 3) == {1: (0, True), 2: (0, True)}


def test_exact_copies_of_a_near_copy_name_the_text_that_stays(copies):
    text, longer = prose(1, 60), prose(1, 60) + " And one sentence more."
    assert copies([text, text, longer]) == {0: (2, False), 1: (2, True)}


def test_copies_of_copies_are_one_cluster(copies):
    words = prose(1, 90).split()
    chain = [" ".join(words[i * 12 : i * 12 + 600]) for i in range(5)]
    found = copies(chain)
    assert len({found.get(i, (i, True))[0] for i in range(5)}) == 1


def test_pages_that_quote_the_same_passage_stay(copies):
    passage = prose(0, 24)
    assert copies([f"{prose(2 * i, 21)}\n\n{passage}\n\n{prose(2 * i + 1, 21)}" for i in range(1, 129)]) == {}


def test_empty_and_tiny_texts_are_compared_too(copies):
    assert copies(["", "", "!", "yes", "no", "Yes"]) == {1: (0, True), 5: (3, True)}
    assert copies(["yes, it is!", "yes it is"]) == {1: (0, False)}
    assert copies([], shards=1) == {}
    assert copies(["yes"]) == {}  # and a shard without documents


def test_each_kind_can_be_switched_off(copies):
    texts = [prose(1), prose(1), prose(1) + " More."]
    assert copies(texts, DedupSettings(exact=False, near=False)) == {}
    assert set(copies(texts, DedupSettings(near=False))) == {1}


def test_near_copies_are_found_as_often_as_the_theory_says():
    """At similarity s a pair meets in a bucket with probability 1 - (1 - s^8)^14: 0.92 at 0.8."""
    settings = DedupSettings(buckets=14, hashes_per_bucket=8)
    random = np.random.default_rng(0)
    met = 0
    for _ in range(200):
        shared, own, other = (random.integers(10**9, size=n).astype(str).tolist() for n in (804, 100, 100))
        pair = [sign(" ".join(shared + rest), settings).buckets for rest in (own, other)]
        met += bool((pair[0] == pair[1]).any())
    assert 0.86 < met / 200 < 0.97


def test_signatures_never_change():
    """Signatures are kept in files; when this fails, raise SIGNATURE_VERSION and write the new numbers here."""
    settings = DedupSettings(buckets=14, hashes_per_bucket=8)
    signature = sign("The miller went down to the river in the morning.", settings)
    assert signature.exact.hex() == "df3e4cc4716baff7ff904fc45e4037fc"
    assert signature.buckets[:2].tolist() == [9581344823409859237, 16326121731904660520]
    assert signature.low_bytes[:6].tolist() == [222, 52, 244, 234, 104, 226]


def some_copies(seed: int) -> list[str]:
    """Texts of which some are copies, edits, edits of edits, or share a passage."""
    random = np.random.default_rng(seed)
    texts = ["", "!", prose(0)]
    while len(texts) < 60:
        old = texts[random.integers(len(texts))]
        match random.integers(5):
            case 0:
                texts.append(prose(100 * seed + len(texts), int(random.integers(3, 40))))
            case 1:
                texts.append(old.upper())
            case 2:
                texts.append(f"{old} {prose(len(texts), 3)}")
            case 3:
                words = old.split()
                texts.append(" ".join(words[: max(1, int(0.9 * len(words)))]))
            case 4:
                texts.append(f"{old[:200]} {prose(len(texts))}")
    return texts


def compare_all(texts: list[str], settings: DedupSettings) -> dict[int, tuple[int, bool]]:
    """The same by comparing every two texts, but for leaders: what is like a text of a bucket is like its leader."""
    signatures = [sign(text, settings) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    cluster = {i: i for i in order}
    exact = set()

    def join(a: int, b: int) -> None:
        first, second = sorted((cluster[a], cluster[b]), key=order.index)
        cluster.update({i: first for i, of in cluster.items() if of == second})

    for at, i in enumerate(order):
        for j in order[:at]:
            if signatures[i].exact == signatures[j].exact:
                exact.add(i)
                join(i, j)
    for bucket in range(settings.buckets):
        leaders: dict[int, list[int]] = {}
        for i in order:
            if len(signatures[i].buckets):
                of_key = leaders.setdefault(int(signatures[i].buckets[bucket]), [])
                for leader in of_key:
                    agree = np.mean(signatures[i].low_bytes == signatures[leader].low_bytes)
                    if (agree - 1 / 256) / (255 / 256) >= settings.min_similarity:
                        join(i, leader)
                        break
                else:
                    of_key.append(i)
    return {i: (of, i in exact) for i, of in cluster.items() if i != of}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_results_are_those_of_comparing_all_whatever_the_parts_and_shards(copies, seed):
    texts = some_copies(seed)
    expected = compare_all(texts, SETTINGS)
    assert len(expected) > 15
    assert copies(texts, part_bytes=10_000, shards=3) == expected
    assert copies(texts, shards=1) == expected


def test_results_are_the_same_where_a_key_is_in_several_parts(copies, monkeypatch):
    monkeypatch.setattr(dedup, "MAX_LEADERS", 9)
    texts = [f"{prose(i % 7, 6)} {prose(0, 60)} {prose(100 + i, 3)}" for i in range(80)] + [prose(3, 40)] * 70
    whole = copies(texts)
    assert len(whole) == 148
    assert copies(texts, part_bytes=8000, shards=3) == whole


def test_results_do_not_depend_on_processes(copies):
    texts = some_copies(4)
    found = copies(texts, part_bytes=40_000, shards=2, map_tasks=partial(map_shards, workers=2))
    assert found == copies(texts)


def test_a_search_that_was_killed_goes_on_behind_what_was_finished(tmp_path):
    texts = some_copies(6)
    shards = open_shards(write_shards(texts, tmp_path, SETTINGS, 2))
    begun: list[str] = []

    def until(count):  # type: ignore[no-untyped-def]
        def map_tasks(function, tasks, *, label):  # type: ignore[no-untyped-def]
            for task in tasks:
                if len(begun) == count:
                    raise KeyboardInterrupt
                if not task[1].exists():
                    begun.append(str(task[1]))
                in_this_process(function, [task], label=label)

        return map_tasks

    for count in (3, 12, 25):
        with pytest.raises(KeyboardInterrupt):
            find_copies(shards, tmp_path / "work", SETTINGS, 3000, until(count))
    found = find_copies(shards, tmp_path / "work", SETTINGS, 3000, until(10**6))
    assert len(begun) == len(set(begun)) > 26
    whole = find_copies(shards, tmp_path / "whole", SETTINGS, 3000, in_this_process)
    assert [found.of(shard) for shard in shards] == [whole.of(shard) for shard in shards]


def test_numbers_of_hashes_that_fill_no_word_are_compared_whole(copies):
    settings = DedupSettings(buckets=5, hashes_per_bucket=3)
    texts = some_copies(5)
    assert copies(texts, settings) == compare_all(texts, settings)


def test_a_key_that_all_share_costs_little_where_all_are_alike_and_where_none_is():
    keys = np.zeros(100_000, np.uint64)
    first, second = alike(keys, np.zeros((100_000, 16), np.uint8), 0.6)
    assert not first.any()
    assert second.tolist() == list(range(1, 100_000))
    different = np.random.default_rng(0).integers(0, 256, (2 * MAX_LEADERS, 16)).astype(np.uint8)
    different[-2:] = 0  # alike, but behind too many others
    assert alike(keys[: len(different)], different, 0.6)[0].tolist() == []


def test_signatures_of_another_version_are_refused(tmp_path):
    (folder,) = write_shards([prose(1)], tmp_path, SETTINGS, 1)
    table = pq.read_table(folder / "documents.parquet")
    pq.write_table(table.replace_schema_metadata({"signature_version": "0"}), folder / "documents.parquet")
    with pytest.raises(StageError, match="version 0, not 2; refine again with --force"):
        open_shards([folder])
