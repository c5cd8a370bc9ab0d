import gzip
import json
from collections import Counter

import pytest

from crawl2chat.rl.preferences.preference_files import (
    PromptRow,
    holds_judgements,
    import_judgements,
    pair_lines,
    parse_judgements,
    ranked_lines,
    read_judgements,
    read_prompt_rows,
    read_prompts,
    rows_of_text,
    split_prompts,
)
from crawl2chat.rl.preferences.store import Answer, Prompt, RankingStore
from crawl2chat.stages.files import StageError

TALK = Prompt.of([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A verse?"}])


def example():
    store = RankingStore()
    answers = [Answer("a\nb", True, "tiny", "sft"), Answer("<b>c</b>", False, "tiny", "prefer"), Answer("ü", True, "x")]
    first = store.add("One?", answers, [2, [0, 1]], "anna", "2025-01-01T00:00:00+0000", seconds=2.5)
    store.add(TALK, answers[:2], [1, 0], "bert")
    store.add("One?", answers[::-1], [0, [2, 1]], "anna", repeat_of=first)
    store.add("Two?", answers[:2], [], "anna", verdict="all_bad", seconds=1)
    store.add("Three?", answers[:2], [], "anna", verdict="skipped")
    store.add("Four?", answers[:2], [[0, 1]], "anna")
    return store


def test_ranked_lists_go_out_and_in_without_loss(tmp_path):
    lines = list(ranked_lines(example().judgements()))
    (tmp_path / "lists.jsonl").write_text("".join(lines))
    other = RankingStore(tmp_path / "other.sqlite")
    assert import_judgements(other, read_judgements(tmp_path / "lists.jsonl", "nobody")) == 6
    assert list(ranked_lines(other.judgements())) == lines
    assert other.judgements()[2].repeat_of == other.judgements()[0].id
    assert import_judgements(other, read_judgements(tmp_path / "lists.jsonl", "nobody")) == 0  # they are there already
    assert list(ranked_lines(other.judgements())) == lines
    assert json.loads(lines[0])["best_first"] == [[2], [0, 1]]


def test_pairs_are_in_trls_form_and_come_back(tmp_path):
    lines = list(pair_lines(example().judgements()))
    pairs = [json.loads(line) for line in lines]
    assert pairs[0] == {
        "prompt": [{"role": "user", "content": "One?"}],
        "chosen": [{"role": "assistant", "content": "ü"}],
        "rejected": [{"role": "assistant", "content": "a\nb"}],
    }
    assert [(p["chosen"][0]["content"], p["rejected"][0]["content"]) for p in pairs] == [
        ("ü", "a\nb"), ("ü", "<b>c</b>"), ("<b>c</b>", "a\nb"), ("ü", "a\nb"), ("ü", "<b>c</b>"),
    ]  # fmt: skip
    assert pairs[2]["prompt"] == TALK.messages
    (tmp_path / "pairs.jsonl").write_text("".join(lines))
    other = RankingStore()
    import_judgements(other, read_judgements(tmp_path / "pairs.jsonl", "carl"))
    assert list(pair_lines(other.judgements())) == lines
    assert {ranking.annotator for ranking in other.judgements()} == {"carl"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q?", "chosen": "good", "rejected": "bad"},
        {"prompt": [{"role": "user", "content": "Q?"}], "chosen": [{"role": "assistant", "content": "good"}],
         "rejected": [{"role": "assistant", "content": "bad"}]},
        {"chosen": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "good"}],
         "rejected": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "bad"}]},
        {"prompt": "Q?", "chosen": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "good"}],
         "rejected": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "bad"}]},
        {"chosen": "Q? good", "rejected": "Q? bad"},
        {"prompt": "Q?", "answers": ["bad", "good"], "best_first": [1, 0]},
    ],
)  # fmt: skip
def test_each_form_of_a_pair_is_read(row):
    (ranking,) = parse_judgements([(1, row)], "anna")
    assert ranking.asked == Prompt("Q?")
    assert [answer.text for answer in ranking.ordered] == ["good", "bad"]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("{", "line 1: is not JSON"),
        ("[1]", "line 1: expected an object"),
        ('{"prompt": "Q?", "chosen": "a"}', "chosen and rejected: expected two texts"),
        ('{"chosen": "a", "rejected": "b"}', 'expected "prompt"'),
        ('{"prompt": "Q?", "answers": ["a"], "best_first": [0]}', "a list of 2 to 9"),
        ('{"prompt": "Q?", "answers": ["a", 3], "best_first": [0, 1]}', "expected texts or"),
        ('{"prompt": "Q?", "answers": ["a", "b"], "best_first": [0]}', "must name each of 2 answers once"),
        ('{"prompt": "Q?", "answers": ["a", "b"], "best_first": "ab"}', "expected a list of places"),
        ('{"prompt": "Q?", "answers": ["a", "b"], "best_first": [0, 1], "verdict": "x"}', "expected one of ranked"),
        ('{"prompt": "Q?", "answers": ["a", "b"], "best_first": [0, 1], "seconds": -1}', "a number of seconds"),
        (
            f'{{"prompt": "Q?", "answers": ["a", "b"], "best_first": [0, 1], "seconds": {10**30}}}',
            "a number of seconds",
        ),
        (r'{"prompt": "Q?", "chosen": "\ud83d", "rejected": "b"}', "half of a surrogate pair"),
        (r'{"prompt": "Q?", "chosen": "a", "rejected": "b", "annotator": "\udc00"}', "half of a surrogate pair"),
        ('{"prompt": "Q?", "answers": ["a", "b"], "best_first": [0, 1], "repeat_of": 1}', "of an earlier line"),
        ('{"prompt": "Q?", "answers": ["a", "b"], "best_first": [0, 1], "annotator": 1}', "expected a name"),
        (
            '{"messages": [{"role": "assistant", "content": "x"}], "answers": ["a", "b"], "best_first": [0, 1]}',
            "answered",
        ),
    ],
)
def test_what_is_neither_a_list_nor_a_pair_is_named_with_its_line(line, word):
    with pytest.raises(ValueError, match=word):
        parse_judgements(rows_of_text(line), "anna")


def test_of_a_file_with_a_bad_row_nothing_is_taken_and_the_rows_are_named(tmp_path):
    file = tmp_path / "lists.jsonl"
    file.write_text('{"prompt": "Q?", "chosen": "a", "rejected": "b"}\n' + '{"prompt": "Q?"}\n' * 7)
    with pytest.raises(StageError, match=r"lists\.jsonl: line 2: .*; line 6: .*; and 2 more"):
        read_judgements(file, "anna")


def test_prompts_are_questions_or_conversations(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        json.dumps({"prompt": "One?", "group": "x"}) + "\n" + json.dumps({"messages": TALK.messages}) + "\n"
    )
    assert read_prompts(file) == [Prompt("One?"), TALK]
    assert read_prompt_rows(file) == [PromptRow(Prompt("One?"), "x"), PromptRow(TALK, TALK.text)]
    for content, word in (("", "has no prompts"), ('{"question": "?"}\n{"prompt": ""}', "line 1: expected .prompt.")):
        file.write_text(content)
        with pytest.raises(StageError, match=word):
            read_prompts(file)


def test_prompts_that_are_held_out_may_not_be_ranked_and_others_are_shared_out_by_group(tmp_path):
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"{i}?", "group": str(i // 3)} for i in range(30)] + [{"prompt": "Kept?", "split": "held_out"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Prompt("Kept?") not in read_prompts(file)
    assert len(read_prompts(file)) == 30
    ranked, held_out = split_prompts(read_prompt_rows(tmp_path), file)
    assert {row.group for row in ranked}.isdisjoint(row.group for row in held_out)
    assert (len(ranked), len(held_out)) == (24, 7)
    assert split_prompts(read_prompt_rows(file), file) == (ranked, held_out)
    for row, word in (
        ({"prompt": "?", "split": "test"}, "split = .test.: expected one of train, probe, held_out"),
        ({"prompt": "?", "group": 3}, "group = 3: expected a text"),
    ):
        file.write_text(json.dumps(row))
        with pytest.raises(StageError, match=word):
            read_prompts(file)
    file.write_text(json.dumps({"prompt": "?", "split": "held_out"}))
    with pytest.raises(StageError, match="all prompts are held out"):
        read_prompts(file)


def talk(*turns):
    return "".join(f"\n\n{who}: {said}" for who, said in turns)


HH = [
    {"chosen": talk(("Human", "Q1?"), ("Assistant", "no.")), "rejected": talk(("Human", "Q1?"), ("Assistant", "yes."))},
    {
        "chosen": talk(("Human", "Q1?"), ("Assistant", "why?"), ("Human", "So."), ("Assistant", "No.\n\nAt all.")),
        "rejected": talk(("Human", "Q1?"), ("Assistant", "why?"), ("Human", "So."), ("Assistant", "OK")),
    },
    {"chosen": talk(("Human", "Q2?"), ("Assistant", "a")), "rejected": talk(("Human", "Q2?"), ("Assistant", "a"))},
    {"chosen": talk(("Human", "Q2?"), ("Assistant", "a")), "rejected": talk(("Human", "Q3?"), ("Assistant", "a"))},
    {"chosen": talk(("Human", "Q2?"), ("Assistant", "")), "rejected": talk(("Human", "Q2?"), ("Assistant", "a"))},
    {"chosen": talk(("Human", "Q2?"), ("Assistant", "a"), ("Assistant", "b")), "rejected": talk(("Human", "Q2?"))},
]


def test_anthropics_transcripts_are_read_as_they_are_and_what_says_nothing_is_counted(tmp_path):
    file = tmp_path / "hh.jsonl.gz"
    with gzip.open(file, "wt") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in HH)
    left_out = Counter()
    first, second, tie = read_judgements(file, "hh", left_out)
    assert [answer.text for answer in first.ordered] == ["no.", "yes."]
    assert [message["role"] for message in second.asked.messages] == ["user", "assistant", "user"]
    assert second.ordered[0].text == "No.\n\nAt all."
    assert tie.best_first == ((0, 1),)
    assert left_out == {
        "chosen and rejected differ before their last answer": 1,
        "an empty turn": 1,
        "turns of Human and Assistant don't alternate up to an answer": 1,
    }
    assert holds_judgements(file)
    rows = read_prompt_rows(file)
    assert [(row.text, row.group) for row in rows] == [("Q1?", "Q1?"), (second.prompt, "Q1?"), ("Q2?", "Q2?")]
    with pytest.raises(StageError, match="line 4: chosen and rejected differ before"):
        read_judgements(file, "hh")
