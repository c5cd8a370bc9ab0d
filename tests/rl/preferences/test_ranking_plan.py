import pytest

from crawl2chat.rl.preferences.rank import Needed, Plan, Source, one_each
from crawl2chat.rl.preferences.store import Answer, Prompt, RankingStore

SOURCES = [Source("m", "sft"), Source("m", "prefer"), Source("m", "sft")]
PROMPTS = [Prompt(f"prompt {i}") for i in range(10)]


def answers(needed):
    return [Answer(f"{needed.prompt.text}, {i}", True, s.author, s.stage) for i, s in enumerate(needed.sources)]


def judge_all(plan, annotator, most=1000):
    """Judges what it is shown, by the answers' texts; returns what that was, with the progress reported before each."""
    shown = []
    while len(shown) < most and (step := plan.next(annotator, SOURCES)) is not None:
        if isinstance(step, Needed):
            step = plan.assign(step, answers(step), annotator)
        progress = plan.progress(annotator)
        shown.append((step, progress.done, progress.total))
        plan.store.judge(step.id, sorted(range(3), key=lambda i: step.answers[i].text))
    return shown


def test_every_prompt_comes_once_in_order_with_repeats_in_between_that_progress_does_not_give_away():
    plan = Plan(RankingStore(), PROMPTS, repeat_every=3)
    shown = judge_all(plan, "anna")
    new = [a.prompt for a, _, _ in shown if a.repeat_of is None]
    assert new == [prompt.text for prompt in PROMPTS]
    assert [done for _, done, _ in shown] == list(range(13))
    assert {total for _, _, total in shown} == {13}
    assert plan.progress("anna").ranked == plan.progress("anna").total == 13
    by_id = {a.id: a for a, _, _ in shown}
    repeats = [a for a, _, _ in shown if a.repeat_of is not None]
    assert [i for i, (a, _, _) in enumerate(shown) if a.repeat_of is not None] == [3, 7, 11]
    assert len({a.repeat_of for a in repeats}) == 3
    for again in repeats:
        first = by_id[again.repeat_of]
        assert sorted(a.text for a in again.answers) == sorted(a.text for a in first.answers)
        assert again.answers != first.answers
        assert again.prompt == first.prompt


def test_annotators_see_the_same_answers_in_orders_of_their_own():
    plan = Plan(RankingStore(), PROMPTS, repeat_every=0)
    anna, bert = judge_all(plan, "anna"), judge_all(plan, "bert")
    assert len(anna) == len(bert) == 10
    assert all(set(a.answers) == set(b.answers) for (a, _, _), (b, _, _) in zip(anna, bert, strict=True))
    assert any(a.answers != b.answers for (a, _, _), (b, _, _) in zip(anna, bert, strict=True))
    assert {tuple(a.answers.index(answer) for answer in sorted(a.answers, key=str)) for a, _, _ in anna} != {(0, 1, 2)}


def test_an_undo_brings_the_last_one_back_and_then_what_was_waiting():
    plan = Plan(RankingStore(), PROMPTS, repeat_every=0)
    judge_all(plan, "anna", most=2)
    step = plan.next("anna", SOURCES)
    waiting = plan.assign(step, answers(step), "anna")
    undone = plan.store.withdraw("anna")
    assert plan.next("anna", SOURCES) == undone
    assert (undone.prompt, waiting.prompt) == ("prompt 1", "prompt 2")
    plan.store.judge(undone.id, [], verdict="skipped")
    assert plan.next("anna", SOURCES) == waiting
    assert (plan.progress("anna").ranked, plan.progress("anna").skipped) == (1, 1)


def test_nothing_that_was_skipped_or_is_fresh_in_memory_is_repeated():
    plan = Plan(RankingStore(), PROMPTS, repeat_every=4)
    for number in range(4):
        step = plan.next("anna", SOURCES)
        step = plan.assign(step, answers(step), "anna")
        if number == 1:
            plan.store.judge(step.id, [0, 1, 2])
        else:
            plan.store.judge(step.id, [], verdict="skipped")
    assert plan.next("anna", SOURCES).prompt == "prompt 1"


def test_progress_reaches_its_total_where_nothing_could_be_repeated_and_after_an_undo():
    plan = Plan(RankingStore(), PROMPTS, repeat_every=3)
    while (step := plan.next("anna", SOURCES)) is not None:
        step = plan.assign(step, answers(step), "anna")
        plan.store.judge(step.id, [], verdict="skipped")
    assert (plan.progress("anna").done, plan.progress("anna").total) == (10, 10)
    plan = Plan(RankingStore(), PROMPTS[:4], repeat_every=3)
    assert [a.repeat_of is None for a, _, _ in judge_all(plan, "bert")] == [True, True, True, False, True]
    plan.store.withdraw("bert")
    plan.store.withdraw("bert")  # the repeat, whose prompt is known
    plan.store.judge(plan.next("bert", SOURCES).id, [0, 1, 2])
    assert (plan.progress("bert").done, plan.progress("bert").total) == (4, 5)


def test_sources_take_turns():
    one, other = Source("a"), Source("b")
    assert one_each([one, other], 5) == [one, other, one, other, one]
    for k, sources, word in ((1, [one], "k = 1"), (10, [one], "k = 10"), (2, [], "has 0"), (2, [one] * 3, "has 3")):
        with pytest.raises(ValueError, match=word):
            one_each(sources, k)
