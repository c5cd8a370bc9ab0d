"""The card says what the manifests say: every figure of theirs, none that is not theirs."""

import json
import re

import pytest
import yaml
from models import random_model

from crawl2chat import __version__
from crawl2chat.cli.main import main
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.release.export import export_folder
from crawl2chat.release.lineage import lineage
from crawl2chat.report.captions import NOTES
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import hash_json, write_json
from crawl2chat.stages.stage import Manifest, read_manifest
from crawl2chat.tokenizer.stage import TokenizerSettings
from crawl2chat.train.pretrain import save_stage_model
from crawl2chat.train.settings import PretrainSettings

FUNNEL = {
    "pages": 703, "faults": 5, "kept": 411, "steps": [
        {"step": "read", "in": 708, "out": 703, "dropped": {"truncated": 5}},
        {"step": "gopher_quality", "in": 703, "out": 411, "dropped": {"few_words": 290, "a|b": 2}},
    ],
}  # fmt: skip
FIGURES = {
    "crawl": [Figure("warcs", 3), Figure("bytes", 81_234, "bytes")],
    "refine": [share("kept_share", 411, 708), Figure("dropped/read", 5, "pages", count=708)],
    "tokenizer": [Figure("bytes_per_token", 3.1875, "bytes", count=17)],
    "pretrain": [
        Figure("training_tokens", 98_304, "tokens"),
        Figure("training_flop", 7.5e12, "FLOP"),
        Figure("held_out_bits_per_byte", 1.2345, "bits/byte", (1.2, 1.27), 19),
    ],
    "sft": [Figure("steps", 88), share("facts_held_out/16", 13, 21)],
}
SETTINGS = {
    "crawl": CrawlSettings(seed=29), "refine": RefineSettings(), "tokenizer": TokenizerSettings(),
    "pretrain": PretrainSettings(seed=31),
}  # fmt: skip
INPUTS = {"crawl": (), "refine": ("crawl",), "tokenizer": ("refine",), "pretrain": ("refine", "tokenizer")}


def write_manifest(run, stage, inputs):
    settings = SETTINGS[stage].model_dump(mode="json") if stage in SETTINGS else {"seed": 37, "epochs": 2.5}
    manifest = Manifest(
        stage, settings, inputs, {"result": hash_json([stage, inputs])}, {f.name: f.to_json() for f in FIGURES[stage]},
        {"version": "0.9.7", "source": "s"}, "2026-03-04T05:06:07+0000", 123.45,
        {"cores": 6, "processor": "x86_64", "python": "3.12.8"},
    )  # fmt: skip
    (run / stage).mkdir(parents=True, exist_ok=True)
    write_json(run / stage / "manifest.json", vars(manifest))
    return manifest


@pytest.fixture
def run(tokenizer, tmp_path):
    run = tmp_path / "laptop"
    made = {}
    for stage, names in INPUTS.items():
        made[stage] = write_manifest(run, stage, {name: made[name].hash for name in names})
    write_manifest(run, "sft", {"pretrain": made["pretrain"].hash, "conversations": "c0ffee" * 8})
    write_json(run / "refine" / "funnel.json", FUNNEL)
    save_stage_model(random_model("tied", tokenizer.vocab_size), tokenizer, run / "sft")
    return run


def card_of(folder, tmp_path, **options):
    out = tmp_path / f"release-{len(list(tmp_path.iterdir()))}"
    export_folder(folder, out, name="Little Zoë", **options)
    return (out / "README.md").read_text()


def measure_base(run, pretrain_hash):
    figures = [
        share("recall/64", 5, 6),
        Figure("words_recited/64", 23.5, "words"),
        Figure("seconds/recitation", 1.7, "s"),
    ]
    manifest = Manifest(
        "base", {}, {"pretrain": pretrain_hash, "crawl": "c"}, {}, {f.name: f.to_json() for f in figures},
        {"version": "0.9.7", "source": "s"}, "2026-03-04T05:06:07+0000", 40.0, {},
    )  # fmt: skip
    (run / "base").mkdir()
    write_json(run / "base" / "manifest.json", vars(manifest))
    return figures


def numbers_in(text):
    without_separators = re.sub(r"(?<=\d),(?=\d)", "", text)
    return {number.removesuffix(".0") for number in re.findall(r"\d+(?:\.\d+)?", without_separators)}


def cells(card):
    """Every line of every table, as a tuple of its cells."""
    lines = (re.split(r"(?<!\\)\|", line) for line in card.splitlines() if line.startswith("|"))
    return {tuple(cell.strip() for cell in line[1:-1]) for line in lines}


def test_every_figure_of_every_stage_stands_in_the_card(run, tmp_path):
    found = cells(card_of(run / "sft", tmp_path))
    for stage, figures in FIGURES.items():
        for figure in figures:
            if not figure.name.startswith("dropped/"):
                count = str(figure.count) if figure.count else ""
                assert (stage, figure.name.replace("_", " "), str(figure), count) in found
    assert ("gopher_quality", "few_words", "290", "40.96 %") in found
    assert ("gopher_quality", r"a\|b", "2", "0.28 %") in found
    assert ("pretrain", "2026-03-04", "123.5 s", "6 cores, x86_64, Python 3.12.8", "0.9.7") in found
    assert {("crawl", "29"), ("pretrain", "31"), ("sft", "37")} <= {line[:2] for line in found}
    (of_crawl,) = (line[2] for line in found if line[:2] == ("crawl", "29"))
    assert f"tinyweb.people {CrawlSettings().tinyweb.people}" in of_crawl  # settings of tables, too


def test_no_number_stands_in_the_card_that_the_run_does_not_have(run, tmp_path):
    card = card_of(run / "sft", tmp_path)
    prose, _, rest = card.partition("```python")
    card = prose + rest.partition("```")[2]
    config = json.loads((run / "sft" / "model" / "config.json").read_text())
    known = [FUNNEL, config, __version__, "95 %", "Qwen3 qwen3 crawl2chat"]
    known += [vars(read_manifest(run / stage)) for stage in FIGURES]
    known += [str(figure) for figures in FIGURES.values() for figure in figures]
    known += ["40.96 0.28 0.71", random_model("tied", config["vocab_size"]).n_parameters(), "123.5", "617"]
    assert numbers_in(card) <= numbers_in(json.dumps(known))


def test_the_front_matter_is_yaml_that_the_hub_reads(run, tmp_path):
    head = card_of(run / "sft", tmp_path, licence="cc-by-4.0").split("---\n")[1]
    assert yaml.safe_load(head) == {
        "language": ["en"],
        "license": "cc-by-4.0",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["crawl2chat", "qwen3", "conversational"],
    }


def test_a_stage_that_was_done_anew_since_is_no_part_of_the_model(run, tmp_path):
    assert [made.manifest.stage for made in lineage(run / "sft")] == ["crawl", "refine", "tokenizer", "pretrain", "sft"]
    assert [made.manifest.stage for made in lineage(run / "sft" / "model")][-1] == "sft"
    write_manifest(run, "pretrain", {"refine": "another"})
    (made,) = lineage(run / "sft")
    assert made.manifest.stage == "sft"
    assert set(made.outside) == {"pretrain", "conversations"}
    card = card_of(run / "sft", tmp_path)
    assert "98,304" not in card
    assert "1.234" not in card
    assert "conversations (sha256 c0ffeec0ffeec0ff…), pretrain (sha256 " in card


def test_another_tools_manifest_beside_is_passed_over(run):
    (run / "other").mkdir()
    for text in ("{", '{"name": "web app"}', "[]"):
        (run / "other" / "manifest.json").write_text(text)
        assert len(lineage(run / "sft")) == 5
    (run / "other" / "manifest.json").unlink()
    (run / "other" / "manifest.json").mkdir()
    assert len(lineage(run / "sft")) == 5


def test_of_a_model_from_elsewhere_only_what_is_known_is_said(checkpoint, tmp_path):
    card = card_of(checkpoint, tmp_path)
    assert "Nothing is known here of how the model was made." in card
    assert 'license: "apache-2.0"\nlicense_link: "https://example.org/l"' in card
    for title in ("## Data", "## Training", "## Evaluations", "## Hardware"):
        assert title not in card
    assert "language" not in card.split("---")[1]
    assert "No evaluation of it is known here." in card


@pytest.mark.parametrize("written", ["[mit, cc-by-4.0]", "\n- mit\n- cc-by-4.0"])
def test_several_licences_of_a_model_from_elsewhere_go_on_with_it(checkpoint, tmp_path, written):
    (checkpoint / "README.md").write_text(f"---\nlicense: {written}\nlicense_name: {{odd: 1}}\n---\n# Theirs\n")
    card = card_of(checkpoint, tmp_path)
    assert yaml.safe_load(card.split("---\n")[1])["license"] == ["mit", "cc-by-4.0"]
    assert card.endswith("## Licence\n\n- license: mit, cc-by-4.0\n")


@pytest.mark.parametrize(
    "head", ["license: [mit", "- mit", "license: 5", "license: []", "license:", "license: mit\ndate: 2024-13-45"]
)
def test_what_is_no_licence_is_none(checkpoint, tmp_path, head):
    (checkpoint / "README.md").write_text(f"---\n{head}\n---\n# Theirs\n")
    assert "No licence was stated when this was exported." in card_of(checkpoint, tmp_path)


def test_a_licence_that_no_hub_could_read_is_refused(run, tmp_path, capsys):
    for option in ("--license", "--data-license"):
        with pytest.raises(SystemExit):
            main(["export", str(run), option, "do as you like", "--out", str(tmp_path / "out")])
        assert "expected an identifier such as apache-2.0" in capsys.readouterr().err


def test_without_a_licence_the_card_says_so(run, tmp_path):
    assert "No licence was stated when this was exported." in card_of(run / "sft", tmp_path)
    assert "license" not in card_of(run / "sft", tmp_path).split("---")[1]


@pytest.mark.parametrize("stage", ["sft", "pretrain"])
def test_the_card_s_example_runs_as_it_stands(run, tmp_path, monkeypatch, capsys, stage):
    pytest.importorskip("transformers")
    if stage == "pretrain":
        (run / "sft" / "model").rename(run / "pretrain" / "model")
    out = tmp_path / "release"
    export_folder(run / stage, out, name="Little Zoë")
    monkeypatch.chdir(out)
    exec((out / "README.md").read_text().split("```python\n")[1].split("```")[0])
    assert capsys.readouterr().out.startswith("<|im_start|>user\nWho" if stage == "sft" else "<|endoftext|>The")


def test_figures_of_weights_that_were_rounded_since_say_so(run, tmp_path):
    assert "before its weights were rounded to bfloat16." in card_of(run / "sft", tmp_path, dtype="bfloat16")
    for dtype in (None, "float32"):
        assert "rounded" not in card_of(run / "sft", tmp_path, dtype=dtype)


def test_what_the_base_suite_measured_stands_in_the_card_as_of_the_base_model(run, tmp_path):
    recall, words, seconds = measure_base(run, read_manifest(run / "pretrain").hash)
    card = card_of(run / "sft", tmp_path)
    assert ("recall/64", str(recall), "6") in cells(card)
    assert ("words recited/64", str(words), "") in cells(card)
    assert seconds.name not in card
    section = card.partition("### Of the base model")[2].partition("\n## ")[0]
    assert "on what pretraining left. Later stages changed that model." in section
    assert f"#### Recitation\n\n{NOTES['recitation'].note}\n\n| figure |" in section
    assert "base" not in [made.manifest.stage for made in lineage(run / "sft")]


def test_a_base_suite_of_an_earlier_pretraining_is_left_out(run, tmp_path):
    measure_base(run, "another")
    card = card_of(run / "sft", tmp_path)
    assert "### Of the base model" not in card
    assert "recall" not in card


def test_results_of_other_suites_stand_in_the_card_whatever_else_lies_there(run, tmp_path):
    evals = run / "evals"
    result = share("accuracy", 3, 8)
    figures = {"accuracy": result.to_json(), "score": {"value": 0.25}}
    write_json(evals / "arc.json", {"suite": "arc|easy", "model": "/elsewhere/somebody/run/sft", "figures": figures})
    for name, content in (
        ("a", [1]),
        ("b", {"figures": [2]}),
        ("c", {"figures": {"x": {"value": "much"}}}),
        ("i", {"figures": {"x": {"value": 10**400}}}),
        ("d", {}),
    ):
        write_json(evals / f"{name}.json", content)
    for name, wrong in (("f", {"interval": [0.5]}), ("g", {"count": "many"}), ("h", {"interval": "wide"})):
        write_json(evals / f"{name}.json", {"figures": {"odd": {"value": 0.125} | wrong}})
    (evals / "e.json").write_text("{")
    (evals / "folder.json").mkdir()
    card = card_of(run / "sft", tmp_path)
    assert (r"arc\|easy", "sft", "accuracy", str(result), "8") in cells(card)
    assert (r"arc\|easy", "sft", "score", "0.25", "") in cells(card)
    content = {"suite": "core", "settings": {"limit": 4}, "figures": figures}
    write_json(evals / "core.json", content)
    tried = ("core (the first 4 questions of each task)", "", "score", "0.25", "")
    assert tried in cells(card_of(run / "sft", tmp_path))
    assert "somebody" not in card
    assert "much" not in card
    assert "odd" not in card


def test_results_of_other_suites_for_a_model_that_was_made_anew_since_are_left_out(run, tmp_path):
    figures = {"accuracy": share("accuracy", 3, 8).to_json()}
    for stage in ("pretrain", "sft"):
        content = {"suite": f"of_{stage}", "model": stage, "model_hash": read_manifest(run / stage).hash}
        write_json(run / "evals" / f"{stage}.json", content | {"figures": figures})
    card = card_of(run / "sft", tmp_path)
    assert "of_pretrain" in card
    assert "of_sft" in card
    write_json(run / "evals" / "sft.json", {"suite": "of_sft", "model_hash": "that of before", "figures": figures})
    card = card_of(run / "sft", tmp_path)
    assert "of_pretrain" in card
    assert "of_sft" not in card


def test_the_data_statement_says_what_is_known_and_what_was_given(run, tmp_path):
    card = card_of(run / "sft", tmp_path)
    statement = dict(line for line in cells(card.partition("## Data statement")[2].partition("\n## ")[0]))
    assert statement["what it is"] == "pages of a web that a program made up"
    assert statement["languages"] == "en"
    assert statement["filtered"].startswith("411 of 708 pages were kept")
    assert statement["personal data"].startswith("e-mail and public IP addresses were masked")
    assert statement["licence"] == "no text of other people is in it"
    given = card_of(run / "sft", tmp_path, data_licence="cc0-1.0", statement="It was *made up*.\n")
    assert ("licence", "cc0-1.0") in cells(given)
    assert "- licence of the training data: cc0-1.0\n" in given
    assert "\n\nIt was *made up*.\n\n## " in given


def test_of_a_model_from_elsewhere_the_data_statement_is_what_was_given(checkpoint, tmp_path):
    assert "## Data statement" not in card_of(checkpoint, tmp_path)
    card = card_of(checkpoint, tmp_path, data_licence="odc-by", statement="Pages of 2024.")
    assert "## Data statement\n\n|  |  |\n| --- | --- |\n| licence | odc-by |\n\nPages of 2024." in card


def test_the_command_takes_the_data_statement_from_a_file(run, tmp_path, capsys):
    (tmp_path / "data.md").write_text("Made up „so“.", encoding="utf-8")
    arguments = ["export", str(run), "--data-license", "cc0-1.0", "--data-statement"]
    assert main([*arguments, str(tmp_path / "data.md"), "--out", str(tmp_path / "out")]) == 0
    assert "Made up „so“." in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert main([*arguments, str(tmp_path / "none.md"), "--out", str(tmp_path / "out2")]) == 1
    assert "none.md: can't be read" in capsys.readouterr().err
    assert not (tmp_path / "out2").exists()
