"""The same seed is the same world; another seed is another one."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from crawl2chat.stages.files import StageError
from crawl2chat.tinyweb import Ledger, TinywebSettings, write_tinyweb
from crawl2chat.tinyweb.people import make_people
from crawl2chat.tinyweb.world import make_world


def test_the_same_seed_writes_the_same_bytes(crawl: Path, tmp_path: Path, small: TinywebSettings):
    again = tmp_path / "again"
    code = (
        "import sys, pathlib; from crawl2chat.tinyweb import *; "
        "write_tinyweb(pathlib.Path(sys.argv[1]), 1, TinywebSettings.model_validate_json(sys.argv[2]))"
    )
    # a process of its own, whose sets have another order
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, again, small.model_dump_json()], check=True, env=environment)
    files = sorted(path.relative_to(crawl) for path in crawl.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert len(files) == 4 + 11 + 7
    for file in files:
        assert (crawl / file).read_bytes() == (again / file).read_bytes(), file


def test_another_seed_shares_no_name_passage_or_glossary(ledger: Ledger, tmp_path: Path, small: TinywebSettings):
    write_tinyweb(tmp_path, 2, small)
    one, two = ledger, Ledger.load(tmp_path)
    assert not {p.name for p in one.people} & {p.name for p in two.people}
    assert not {p.name.split()[1] for p in one.people} & {p.name.split()[1] for p in two.people}
    assert not {p.facts["birthplace"] for p in one.people} & {p.facts["birthplace"] for p in two.people}
    assert not {p.text for p in one.passages} & {p.text for p in two.passages}
    assert not {tuple(g.entries.items()) for g in one.glossaries} & {tuple(g.entries.items()) for g in two.glossaries}
    assert not {(d.english, d.foreign) for d in one.dictionary} & {(d.english, d.foreign) for d in two.dictionary}
    assert not {p.url for p in one.pages} & {p.url for p in two.pages}


def test_no_invented_word_begins_with_another():
    world = make_world(3, people=100)
    names = (*world.women, *world.men, *world.extras, *world.surnames, *world.extra_surnames, *world.towns)
    coined = sorted(name.lower() for name in (*names, *world.glossary_words, *world.dictionary.values()))
    assert len(set(coined)) == len(coined)
    assert [(a, b) for a, b in pairwise(coined) if b.startswith(a)] == []


def test_too_few_pages_for_the_copies_asked_says_what_to_change(tmp_path: Path, small: TinywebSettings):
    few = {**small.model_dump(), "people": 10, "passage_levels": 9, "passages_per_level": 40}
    with pytest.raises(StageError, match="passage_levels lower or"):
        write_tinyweb(tmp_path, 1, TinywebSettings(**few))


@pytest.mark.parametrize("count", [10, 11, 14, 19, 37, 100, 300, 301])
def test_any_number_of_people_gets_the_whole_range_of_exposures(count: int):
    people = make_people(make_world(1, count))
    assert len(people) == count
    assert {person.exposures for person in people} >= {1, 2, 4, 8, 16, 32, 64, 128, 256}


def test_a_world_of_people_alone_can_be_written(tmp_path: Path):
    nothing = dict.fromkeys(TinywebSettings.model_fields, 0) | {"people": 10, "passage_levels": 1, "taught": {}}
    write_tinyweb(tmp_path, 1, TinywebSettings(**nothing))
    assert {page.kind for page in Ledger.load(tmp_path).pages} <= {
        *("chronicle", "directory", "newspaper", "blog", "guild", "questions")
    }
