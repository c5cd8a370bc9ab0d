import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from warcs import page_record, prose, write_warc

from crawl2chat.cli.main import main
from crawl2chat.refine.quality.classify import Classifier, features_of, load_classifier, train
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.stage import find_threshold, refine
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import hash_files

GOOD = "photosynthesis turns light into sugar because chlorophyll absorbs red and blue parts while green stays".split()
BAD = "buy our best cheap offers now while they last with free delivery and click here to win a big prize today".split()
COMMON = "the of and in to a is that it was for on are as with his they at be this from".split()


def some_texts(words: list[str], count: int, seed: int) -> list[str]:
    """Texts that differ in a part of their words alone."""
    random_ = random.Random(seed)
    return [" ".join(random_.choice(random_.choice((words, COMMON, COMMON))) for _ in range(40)) for _ in range(count)]


@pytest.fixture(scope="module")
def model() -> Classifier:
    return train(some_texts(GOOD, 300, 1), some_texts(BAD, 900, 2), bits=16)


def test_it_tells_texts_apart_that_it_has_not_seen(model):
    good, bad = some_texts(GOOD, 100, 3), some_texts(BAD, 100, 4)
    right = [model.score(text) > 0 for text in good] + [model.score(text) < 0 for text in bad]
    assert np.mean(right) > 0.95
    held_out = model.about["held_out"]
    assert (held_out["positive"], held_out["negative"]) == (30, 90)
    assert held_out["accuracy"] > 0.95
    assert held_out["auc"] > 0.98


def test_texts_without_a_difference_are_not_told_apart():
    model = train(some_texts(COMMON, 400, 1), some_texts(COMMON, 400, 2), bits=16)
    assert 0.3 < model.about["held_out"]["auc"] < 0.7


def test_the_order_of_words_counts():
    def pairs(first: str, second: str, seed: int) -> list[str]:
        random_ = random.Random(seed)
        words = [f"{first} {second}"] * 3 + COMMON
        return [" ".join(random_.choice(words) for _ in range(30)) + f" {first} {second}" for _ in range(150)]

    model = train(pairs("red", "fox", 1), pairs("fox", "red", 2), bits=16)
    assert model.about["held_out"]["accuracy"] > 0.9


def test_a_feature_is_a_word_or_a_pair_and_counts_once_whatever_its_case():
    assert len(features_of("The fox, the FOX.\nthe fox", 24)) == 4  # the, fox, the fox, fox the
    assert len(features_of("…", 24)) == 0


def test_training_again_gives_the_same_model_and_another_seed_another(model):
    again = train(some_texts(GOOD, 300, 1), some_texts(BAD, 900, 2), bits=16)
    assert np.array_equal(again.weights, model.weights)
    assert again.about == model.about
    other = train(some_texts(GOOD, 300, 1), some_texts(BAD, 900, 2), bits=16, seed=1)
    assert not np.array_equal(other.weights, model.weights)


def test_a_text_that_occurs_again_is_never_both_learned_and_held_out():
    same = train(some_texts(GOOD, 40, 1) * 5, some_texts(BAD, 40, 2) * 5, bits=16).about
    assert same["held_out"]["positive"] + same["trained_on"]["positive"] == 40


def test_a_saved_model_scores_the_same(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = load_classifier(str(tmp_path / "model"))
    for text in [*some_texts(GOOD, 5, 5), *some_texts(BAD, 5, 6), ""]:
        assert loaded.score(text) == model.score(text)
    assert json.loads((tmp_path / "model" / "classifier.json").read_text()) == model.about


def test_a_classifier_takes_the_place_of_another_one_only(model, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear Zoë")
    with pytest.raises(StageError, match="exists and is not a classifier"):
        model.save(tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "Dear Zoë"
    for _ in range(2):
        model.save(tmp_path / "model")


def test_what_is_no_classifier_is_told(model, tmp_path):
    with pytest.raises(StageError, match=r"none: no classifier here .*crawl2chat classify"):
        load_classifier(str(tmp_path / "none"))
    Classifier(model.weights, model.bias, model.about | {"version": 99}).save(tmp_path / "other")
    with pytest.raises(StageError, match="version 99"):
        load_classifier(str(tmp_path / "other"))


def test_too_few_texts_are_told():
    with pytest.raises(StageError, match="3 different positive texts are too few"):
        train(some_texts(GOOD, 3, 1), some_texts(BAD, 30, 1))


def test_the_threshold_is_the_exact_quantile():
    scores = np.random.default_rng(0).permutation(1000).astype(np.float32)
    for keep in (0.001, 0.1, 0.25, 1.0):
        assert np.mean(scores >= find_threshold(scores, keep)) == keep
    assert find_threshold(np.float32([5, 1]), 0.01) == 5  # one at least
    find_threshold(np.float32([]), 0.1)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    good, bad = some_texts(GOOD, 60, 1), some_texts(BAD, 60, 2)
    (tmp_path / "good.txt").write_text("\n\n".join(good[:30]))
    (tmp_path / "good.txt.gz").write_bytes(gzip.compress("\n \n".join(good[30:]).encode()))
    pq.write_table(pa.table({"text": bad[:30]}), tmp_path / "bad.parquet")
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in bad[30:]))
    return tmp_path


def test_the_command_trains_from_files_of_all_forms(files, capsys):
    arguments = ["classify", "--positive", "good.txt", "good.txt.gz", "--negative", "bad.parquet", "bad.jsonl"]
    paths = [str(files / word) if "." in word else word for word in arguments]
    assert main([*paths, "--bits", "14", "--out", str(files / "model")]) == 0
    shown = capsys.readouterr().out
    assert "trained on 54 positive and 54 negative texts; of 6 and 6 held out: accuracy" in shown
    assert "AUC" in shown
    assert load_classifier(str(files / "model")).bits == 14


def test_the_command_trains_from_a_judges_labels(files, capsys):
    rows = [{"text": text, "score": 4} for text in some_texts(GOOD, 50, 1)]
    rows += [{"text": text, "score": 2} for text in some_texts(BAD, 40, 2)] + [{"text": "?", "score": None}]
    (files / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["classify", "--labels", str(files / "labels.jsonl"), "--threshold", "3", "--out", str(files / "model")]
    assert main(command) == 0
    assert "trained on 45 positive and 36 negative" in capsys.readouterr().out


def test_the_command_tells_of_files_that_hold_no_texts(files, capsys):
    (files / "labels.jsonl").write_text('{"id": "a"}\n')
    for option in (["--labels", "labels.jsonl"], ["--positive", "none.txt"], ["--positive", "none.parquet"], []):
        paths = [str(files / word) if "." in word else word for word in option]
        assert main(["classify", *paths, "--negative", str(files / "bad.jsonl"), "--out", str(files / "model")]) == 1
        told = capsys.readouterr().err
        assert (option[-1] if option else "0 different positive texts") in told


@pytest.fixture
def judged(tmp_path: Path) -> tuple[Path, Path]:
    """A crawl of two WARCs in which every other page speaks of photosynthesis, and a model that likes those."""

    def text(i: int) -> str:
        own = ("photosynthesis", "light", "sugar") if i % 2 else ("bargain", "offer", "delivery")
        return prose(i, 24).replace("bridge", own[0]).replace("valley", own[1]).replace("barley", own[2])

    crawl = tmp_path / "crawl"
    write_warc(crawl / "a.warc.gz", [page_record(i, text(i)) for i in range(12)])
    write_warc(crawl / "b.warc.gz", [page_record(i, text(i)) for i in range(12, 20)] + [page_record(20, "Short.")])
    good, bad = ([text(i) for i in range(start, 200, 2)] for start in (101, 100))
    train(good, bad, bits=16).save(tmp_path / "model")
    return crawl, tmp_path / "model"


def rows(out: Path, table: str) -> list[dict]:  # type: ignore[type-arg]
    return [row for file in sorted((out / table).iterdir()) for row in pq.read_table(file).to_pylist()]


def test_refine_keeps_the_best_share_and_records_the_rest(judged, tmp_path):
    crawl, model = judged
    settings = RefineSettings(workers=2, classifier={"model": str(model), "keep": 0.25}, dedup={"near": False})
    refine(crawl, tmp_path / "out", settings)
    documents, rejects = rows(tmp_path / "out", "documents"), rows(tmp_path / "out", "rejects")
    dropped = [row for row in rejects if row["step"] == "classifier"]
    assert (len(documents), len(dropped), len(rejects)) == (5, 15, 16)
    assert all("photosynthesis" in row["text"] for row in documents)
    assert min(row["quality"] for row in documents) > max(row["value"] for row in dropped)
    assert {row["reason"] for row in dropped} == {"low_quality"}
    scores = [load_classifier(str(model)).score(row["text"]) for row in documents]
    assert np.allclose([row["quality"] for row in documents], scores)
    funnel = json.loads((tmp_path / "out" / "funnel.json").read_text())
    step = next(step for step in funnel["steps"] if step["step"] == "classifier")
    assert step == {"step": "classifier", "in": 20, "out": 5, "dropped": {"low_quality": 15}}
    assert funnel["pages"] == 21
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["documents", "funnel.json", "rejects"]
    refine(crawl, tmp_path / "again", settings.model_copy(update={"workers": 1}))
    assert hash_files(tmp_path / "again") == hash_files(tmp_path / "out")


def test_refine_goes_on_behind_the_shards_that_were_judged(judged, tmp_path, monkeypatch):
    crawl, model = judged
    settings = RefineSettings(workers=1, classifier={"model": str(model), "keep": 0.25})
    refine(crawl, tmp_path / "out", settings)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("crawl2chat.refine.stage._deduplicate", fail)
        with pytest.raises(KeyboardInterrupt):
            refine(crawl, tmp_path / "killed", settings)
    (tmp_path / "killed" / "selected" / "00001" / "documents.parquet").unlink()
    (tmp_path / "killed" / "selected" / "00001").rename(tmp_path / "killed" / "selected" / ".00001.tmp")
    refine(crawl, tmp_path / "killed", settings)
    assert hash_files(tmp_path / "killed") == hash_files(tmp_path / "out")


def test_a_missing_classifier_is_told_before_any_work(judged, tmp_path):
    settings = RefineSettings(classifier={"model": str(tmp_path / "none")})
    with pytest.raises(StageError, match="no classifier here"):
        refine(judged[0], tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()
