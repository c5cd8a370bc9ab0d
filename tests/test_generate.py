"""The command `generate`."""

import io
import re
import sys

import pytest
from models import random_model

from crawl2chat.cli.main import main
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import load_model
from crawl2chat.train.pretrain import save_stage_model

PROMPTS = ["The mill", "In 1842 they"]


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    out = tmp_path_factory.mktemp("model")
    save_stage_model(random_model("tied", tokenizer.vocab_size), tokenizer, out)
    return out


@pytest.fixture(scope="module")
def engine(folder, tokenizer):
    return Engine(load_model(folder), tokenizer)


def generated(capsys, folder, *arguments):
    assert main(["generate", str(folder), *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_one_prompt_is_streamed_piece_by_piece(capsys, monkeypatch, folder, engine):
    pieces = []
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys.stdout, "flush", lambda: pieces.append(sys.stdout.getvalue()))
    assert main(["generate", str(folder), PROMPTS[0], "--max-tokens", "8"]) == 0
    (expected,) = engine.generate(PROMPTS[:1], Sampling(temperature=0.8, max_tokens=8))
    assert sys.stdout.getvalue() == PROMPTS[0] + expected.text + "\n"
    assert pieces[0].startswith(PROMPTS[0])
    assert len(pieces) > 3


def test_samples_are_drawn_of_each_prompt_in_one_batch(capsys, monkeypatch, folder, engine):
    batches = []
    generate = Engine.generate
    monkeypatch.setattr(Engine, "generate", lambda self, *given: batches.append(given) or generate(self, *given))
    shown = generated(capsys, folder, *PROMPTS, "--samples", 3, "--max-tokens", 6, "--temperature", 1, "--seed", 2)
    assert len(batches) == 1
    drawn = generate(engine, PROMPTS * 3, Sampling(max_tokens=6, seed=2))
    parts = re.split(r"^--- .*\n", shown, flags=re.MULTILINE)[1:]
    assert parts == [PROMPTS[i] + drawn[2 * sample + i].text + "\n" for i in range(2) for sample in range(3)]
    assert len(set(parts)) == 6
    assert "--- prompt 2/2, sample 3/3" in shown


def test_each_control_reaches_the_engine(capsys, monkeypatch, folder):
    seen = []
    stream = Engine.stream
    monkeypatch.setattr(Engine, "stream", lambda self, prompt, given: seen.append(given) or stream(self, prompt, given))
    flags = {
        "temperature": 0.5, "top-k": 7, "top-p": 0.9, "min-p": 0.01, "repetition-penalty": 1.2,
        "presence-penalty": 0.3, "frequency-penalty": 0.4, "max-tokens": 3, "seed": 5,
    }  # fmt: skip
    given = [part for name, value in flags.items() for part in (f"--{name}", value)]
    generated(capsys, folder, "The", *given, "--logit-bias", "5=-100", "--logit-bias=6=1.5", "--stop", "x", "--stop=y")
    expected = Sampling(
        **{name.replace("-", "_"): value for name, value in flags.items()},
        logit_bias={5: -100.0, 6: 1.5}, stop=("x", "y"),
    )  # fmt: skip
    assert seen == [expected]


def test_the_table_shows_every_step_and_its_tokens_make_the_text(capsys, folder, tokenizer):
    controls = ["--max-tokens", 4, "--temperature", 0.5, "--top-k", 2, "--seed", 1]
    shown = generated(capsys, folder, "The mill", "--top", 5, *controls)
    assert shown.startswith("step 1, after 'The mill'\n")
    tables = shown.split("step ")[1:]
    assert len(tables) == 4
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for table in tables:
        assert table.count("left out") == 3  # of the five that are shown top-k keeps two
        assert table.count("drawn") == 1
        shares = [float(share) for share in re.findall(r"([\d.]+) % \S* +(?:drawn)?\n", table)]
        assert sum(shares) == pytest.approx(100, abs=0.2)
    assert generated(capsys, folder, "The mill", *controls).strip() in shown  # the same text as without the table


def test_a_prompt_comes_from_stdin(capsys, monkeypatch, folder):
    expected = generated(capsys, folder, "The mill\nand", "--max-tokens", 4)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The mill\nand\n")))
    assert generated(capsys, folder, "-", "--max-tokens", 4) == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    assert main(["generate", str(folder), "-"]) == 1
    assert "stdin can't be read as text: 1 byte is not UTF-8 (first at byte 0)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--min-p", "2"], "min_p = 2.0: must be"),
        (["--repetition-penalty", "0"], "repetition_penalty = 0.0: must be"),
        (["--logit-bias", "1000000=1"], "1000000"),
        (["--temperature", "nan"], "temperature = nan: must be"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--top", "3"], ["--samples", "2"]])
def test_what_can_not_be_is_one_line(capsys, folder, flags, told, more):
    assert main(["generate", str(folder), "The mill", *flags, *more]) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_bias_that_is_none_is_a_message(capsys, folder):
    for wrong in ("5", "5=", "=1", "the=1"):
        with pytest.raises(SystemExit):
            main(["generate", str(folder), "x", "--logit-bias", wrong])
        assert f"'{wrong}': expected ID=VALUE" in capsys.readouterr().err
