"""Questions to ask a run: what they say of the made-up web is true of it."""

import re

from crawl2chat.chat.presets import Column, presets

STAGES = ["pretrain", "sft", "honesty", "reinforce", "prefer"]


def by_name(found):
    return {preset.name: preset for preset in found}


def test_people_and_sums_are_those_of_the_web(crawl_folder, ledger):
    found = by_name(presets(STAGES, crawl_folder))
    people = {person.name: person for person in ledger.people}

    def asked_about(name):
        return next(person for full, person in people.items() if full in found[name].question)

    known, once, never = (asked_about(name) for name in ("Somebody well known", "Somebody met once", "Nobody"))
    assert known.exposures == max(p.exposures for p in ledger.people if p.split == "held_out")
    assert (once.exposures, never.exposures) == (1, 0)
    assert {known.split, once.split, never.split} == {"held_out"}  # what is asked was never taught
    assert known.facts["trade"] in found["Somebody well known"].look_for
    left, right = map(int, re.findall(r"\d+", found["A sum, at once"].question))
    assert str(left + right) in found["A sum, at once"].look_for
    problem = next(p for p in ledger.problems if p.operands == (left, right))
    assert (problem.split, problem.operator) == ("held_out", "+")


def test_a_passage_begins_as_the_pages_quote_it(crawl_folder, ledger):
    preset = by_name(presets(STAGES, crawl_folder))["A text read often"]
    passage = max(ledger.passages, key=lambda passage: passage.copies)
    assert passage.text.startswith(preset.question)
    assert preset.columns == (Column("pretrain", text=True),)


def test_stages_that_are_missing_are_left_out(crawl_folder):
    found = presets(["pretrain", "sft"], crawl_folder)
    assert {column.stage for preset in found for column in preset.columns} == {"pretrain", "sft"}
    assert "The sum, with the calculator" not in by_name(found)
    assert all(preset.columns for preset in found)


def test_a_model_alone_has_questions_too():
    found = presets(["some-model"], None)
    assert {"Nobody", "Who are you?", "Letters"} <= by_name(found).keys()
    assert {column for preset in found for column in preset.columns} == {Column("some-model")}


def test_presets_of_another_version_are_reported_and_general_questions_are_asked(tmp_path, capsys):
    (tmp_path / "presets.jsonl").write_text('{"name": "Nobody", "ask": "Who?", "columns": []}\n')
    assert "Something well known" in by_name(presets(STAGES, tmp_path))
    assert str(tmp_path / "presets.jsonl") in capsys.readouterr().err


def test_a_run_of_other_pages_is_not_asked_about_the_made_up_web(tmp_path):
    assert "Somebody met once" not in by_name(presets(STAGES, tmp_path))
