import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import tokenize as module
from crawl2chat.tokenizer.shards import TokenizedDocuments, join_tokens, write_tokens
from crawl2chat.tokenizer.tokenize import held_out_documents, pieces, tokenize

TEXTS = [
    f"Document {i} tells of {i * 7} mills, „Straße“ and nothing else.\n\nThe end. " * (1 + i % 4) for i in range(60)
]


@pytest.fixture(scope="module")
def vocabulary(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    return folder


@pytest.fixture
def files(tmp_path):
    """The same texts in all formats, several row groups and files."""
    folder = tmp_path / "documents"
    folder.mkdir()
    pq.write_table(pa.table({"text": TEXTS[:20]}), folder / "a.parquet", row_group_size=7)
    (folder / "b.jsonl").write_text("".join(f'{{"text": {text!r}}}\n'.replace("'", '"') for text in TEXTS[20:40]))
    for i, text in enumerate(TEXTS[40:]):
        (folder / f"c{i:02}.txt").write_text(text)
    return folder


def contents(documents):
    return [documents[i].tolist() for i in range(len(documents))], documents.n_bytes.tolist()


def encoded(texts, tokenizer):
    return [[tokenizer.end_of_text, *tokenizer.encode(text)] for text in texts], [len(text.encode()) for text in texts]


def test_all_documents_are_encoded_in_order_by_any_number_of_workers(files, tokenizer, vocabulary, tmp_path):
    expected = encoded(TEXTS, tokenizer)
    for workers, part_bytes in ((1, 1 << 20), (1, 900), (3, 900)):
        out = tmp_path / f"{workers}-{part_bytes}"
        training, held_out = tokenize(
            files, vocabulary, out, held_out=0, seed=0, workers=workers, part_bytes=part_bytes
        )
        assert contents(training) == expected
        assert len(held_out) == 0
        assert sorted(path.name for path in out.iterdir()) == ["held_out", "training"]


def test_what_is_held_out_depends_on_the_text_alone(files, tokenizer, vocabulary, tmp_path):
    (tmp_path / "other").mkdir()
    pq.write_table(pa.table({"text": TEXTS[::-1]}), tmp_path / "other" / "all.parquet")
    splits = []
    for i, folder in enumerate((files, tmp_path / "other")):
        training, held_out = tokenize(folder, vocabulary, tmp_path / str(i), held_out=0.3, seed=1)
        assert len(training) + len(held_out) == len(TEXTS)
        splits.append(sorted(contents(held_out)[0]))
    assert splits[0] == splits[1]
    assert 5 < len(splits[0]) < 35


@pytest.mark.parametrize("held_out", [0.0, 1.0])
def test_one_text_over_many_parts_is_one_document(tokenizer, vocabulary, tmp_path, held_out, monkeypatch):
    monkeypatch.setattr(module, "PIECE_BYTES", 100)
    text = "".join(TEXTS)
    (tmp_path / "one.txt").write_bytes(text.replace("\n", "\r\n").encode())
    whole, nothing = tokenize(
        tmp_path / "one.txt", vocabulary, tmp_path / "out", held_out=held_out, seed=0, part_bytes=1000
    )[:: 1 if held_out == 0 else -1]
    assert contents(whole) == encoded([text], tokenizer)
    assert len(nothing) == 0


@given(st.lists(st.sampled_from([" ", "\n", "\r\n", "a", "Ab", "7", "é", "東", "\u3000", "\u00a0", "…", "!?", "'ll"])))
def test_pieces_are_encoded_as_the_whole_is(tokenizer, fragments):
    text = "".join(fragments)
    content = text.encode()
    cut = [piece.decode() for piece in pieces(content, 0, len(content), size=3)]
    assert "".join(cut) == text
    assert [id for piece in cut for id in tokenizer.encode(piece)] == tokenizer.encode(text)


@given(st.text(), st.integers(1, 9))
def test_stretches_meet_and_lose_nothing(text, size):
    content = text.encode(errors="replace")
    stretches = [
        b"".join(pieces(content, at, min(at + size, len(content)), size=4)) for at in range(0, len(content), size)
    ]
    assert b"".join(stretches) == content


def test_a_word_without_end_is_cut_between_characters(monkeypatch):
    monkeypatch.setattr(module, "MAX_WORD_BYTES", 10)
    content = ("東" * 100).encode()
    cut = list(pieces(content, 0, len(content), size=16))
    assert len(cut) > 5
    assert b"".join(cut) == content
    assert all(piece.decode() for piece in cut)


def test_empty_documents_are_left_out_and_counted(tokenizer, vocabulary, tmp_path, capfd):
    pq.write_table(pa.table({"text": ["one", "", "two", ""]}), tmp_path / "a.parquet")
    training, _ = tokenize(tmp_path / "a.parquet", vocabulary, tmp_path / "out", held_out=0, seed=0)
    assert contents(training) == encoded(["one", "two"], tokenizer)
    assert "2 documents without a text were left out" in capfd.readouterr().err


@pytest.mark.parametrize("part_bytes", [1000, 1 << 20])
@pytest.mark.parametrize("held_out", [0, 1])
@pytest.mark.parametrize("name", ["one.txt", "one.md"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_text_file_of_any_encoding_with_a_mark_is_one_document(
    tokenizer, vocabulary, tmp_path, encoding, name, held_out, part_bytes
):
    text = "".join(TEXTS)
    (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode(encoding))
    splits = tokenize(
        tmp_path / name, vocabulary, tmp_path / "out", held_out=held_out, seed=0, part_bytes=part_bytes, workers=1
    )
    assert contents(splits[held_out]) == encoded([text], tokenizer)
    assert len(splits[1 - held_out]) == 0
    kept_out = [document.text for document in held_out_documents(tmp_path / name, held_out=held_out, seed=0)]
    assert kept_out == [text] * held_out


@pytest.mark.parametrize("part_bytes", [1000, 1 << 20])
@pytest.mark.parametrize("name", ["one.txt", "one.jsonl"])
def test_bytes_that_are_not_utf8_are_counted_over_all_parts(vocabulary, tmp_path, capfd, name, part_bytes):
    line = "Le meunier était là.\n" if name == "one.txt" else '{"text": "Le meunier était là."}\n'
    (tmp_path / name).write_bytes((line * 200).encode("cp1252"))
    tokenize(tmp_path / name, vocabulary, tmp_path / "out", held_out=0, seed=0, part_bytes=part_bytes, workers=2)
    said = capfd.readouterr().err
    first = 11 if name == "one.txt" else 0
    assert f"tokenize: {name}: 400 bytes are not UTF-8 (first at byte {first}) and became U+FFFD" in said
    assert said.count("not UTF-8") == 1


def test_a_document_of_a_million_spaces_is_encoded(tokenizer, vocabulary, tmp_path):
    text = "Table of the year" + " " * 1_200_000 + "end of it"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    training, _ = tokenize(tmp_path / "a.jsonl", vocabulary, tmp_path / "out", held_out=0, seed=0)
    assert tokenizer.decode(training[0][1:].tolist()) == text


def test_a_file_without_texts_is_named(vocabulary, tmp_path):
    pq.write_table(pa.table({"body": ["one"]}), tmp_path / "a.parquet")
    with pytest.raises(StageError, match=r"a\.parquet: no column `text`; it has body"):
        tokenize(tmp_path / "a.parquet", vocabulary, tmp_path / "out", held_out=0, seed=0)


def test_an_error_in_a_worker_names_the_line(files, vocabulary, tmp_path):
    with open(files / "b.jsonl", "a") as file:
        file.write('{"txt": "no"}\n')
    with pytest.raises(StageError, match=r'b\.jsonl: from byte \d+: line \d+: expected an object with "text"'):
        tokenize(files, vocabulary, tmp_path / "out", held_out=0, seed=0, workers=1, part_bytes=900)


def test_an_error_among_many_small_files_can_be_read(vocabulary, tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    for i in range(200):
        (folder / f"{i:03}.jsonl").write_text('{"text": "one"}\n' if i != 150 else '{"txt": "no"}\n')
    with pytest.raises(StageError, match=r"000\.jsonl.* … failed: .*150\.jsonl: line 1: expected an object") as error:
        tokenize(folder, vocabulary, tmp_path / "out", held_out=0, seed=0, workers=1, part_bytes=190 * 16)
    assert len(str(error.value)) < 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process by signal")
def test_a_run_that_was_killed_goes_on_behind_the_finished_parts(tokenizer, vocabulary, tmp_path):
    folder, out = tmp_path / "documents", tmp_path / "out"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i:02}.txt").write_text(TEXTS[i] * 20)
    arguments = ("held_out=0.3", "seed=0", "workers=1", "part_bytes=9000")
    script = f"""
from pathlib import Path
from crawl2chat.tokenizer.tokenize import tokenize
if __name__ == "__main__":
    tokenize(Path({str(folder)!r}), Path({str(vocabulary)!r}), Path({str(out)!r}), {", ".join(arguments)})
"""
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(module.__file__).parents[2])}
    process = subprocess.Popen([sys.executable, tmp_path / "script.py"], env=environment)
    finished = out / "parts"
    while process.poll() is None and len([p for p in finished.glob("*") if re.fullmatch(r"\d+", p.name)]) < 3:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in finished.glob("[0-9]*/counts.json")}
    seen = {}
    original = join_tokens

    def noting(folders, *rest):
        seen.update((path, path.stat().st_mtime_ns) for folder in folders for path in [folder.parent / "counts.json"])
        return original(folders, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "join_tokens", noting)
        resumed = tokenize(folder, vocabulary, out, held_out=0.3, seed=0, workers=1, part_bytes=9000)
    undisturbed = tokenize(folder, vocabulary, tmp_path / "again", held_out=0.3, seed=0)
    assert len(kept) >= 3
    assert kept.items() <= seen.items()
    assert list(map(contents, resumed)) == list(map(contents, undisturbed))


def test_parts_that_a_kill_left_behind_the_joined_ones_are_no_result(files, vocabulary, tmp_path, monkeypatch):
    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            tokenize(files, vocabulary, tmp_path / "out", held_out=0.3, seed=0)
    assert (tmp_path / "out" / "parts").exists()
    tokenize(files, vocabulary, tmp_path / "out", held_out=0.3, seed=0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["held_out", "training"]


def test_ids_are_as_wide_as_the_vocabulary_needs_and_files_are_plain_npy(tokenizer, tmp_path):
    documents = write_tokens(TEXTS, tokenizer, tmp_path / "tokens")
    assert documents.ids.dtype == np.uint16
    assert np.load(tmp_path / "tokens" / "ids.npy").tolist() == documents.ids.tolist()


def test_nothing_joined_is_nothing(tokenizer, tmp_path):
    write_tokens([], tokenizer, tmp_path / "a")
    joined = join_tokens([tmp_path / "a"], tmp_path / "joined", tokenizer.end_of_text)
    assert len(joined) == 0
    assert isinstance(joined, TokenizedDocuments)
