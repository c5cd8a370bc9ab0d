"""The effects that the lecture tells of: by how much each shows, and in how many of several runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.report.compare import RunFigure, over_runs
from crawl2chat.stages.figures import Figure


@dataclass(frozen=True)
class Effect:
    """Something of which a run should measure `more` than `less`; both are figures of a stage."""

    says: str
    stage: str
    more: str
    less: str


EFFECTS = (
    Effect("the model compresses better than counted sequences do", "base",
           "bits_per_byte/5_gram", "bits_per_byte/model"),
    Effect("what has many copies is recited", "base", "recall_at_64_copies_and_more", "recall_at_1_to_2_copies"),
    Effect("what many pages say is known", "base", "facts_by_exposures/100+", "facts_by_exposures/1"),
    Effect("invented words are learned from the prompt", "base", "glossary/8", "glossary_absent/8"),
    Effect("… also when their meanings are swapped", "base", "glossary_follows/8", "glossary_shuffled/8"),
    Effect("… and when sentences define them", "base", "definitions/8", "definitions_absent/8"),
    Effect("a page with a helper makes an assistant", "base",
           "assistant_by_prompt/interview", "assistant_by_prompt/bare"),
    Effect("letters are counted when a word is spelled out", "base",
           "count_by_example/letters", "count_by_example/guess"),
    Effect("steps that are written out help", "honesty", "step by step/3 digits", "at once/3 digits"),
    Effect("a calculator helps", "honesty", "calculator/3 digits", "at once/3 digits"),
    Effect("less is made up about people on no page", "honesty", "wrong before/0", "wrong after/0"),
    Effect("what is not known can be looked up", "honesty", "right with search/1", "right after/1"),
    Effect("the model learns who it is", "honesty", "identity after", "identity before"),
    Effect("rewards find more right answers", "reinforce", "pass_at_1_after", "pass_at_1_before"),
    Effect("… and coin flips do not", "reinforce", "pass_at_1_after", "random_reward_pass_at_1"),
    Effect("answers grow longer by themselves", "reinforce", "answer_tokens_after", "answer_tokens_before"),
    Effect("a reward model first improves taste", "prefer", "gold/kept", "gold/start"),
    Effect("… and is gamed in the end", "prefer", "gold/kept", "gold/end"),
    Effect("… while its own reward goes on rising", "prefer", "proxy/end", "proxy/kept"),
)  # fmt: skip


def effects_table(rows: Sequence[RunFigure]) -> str:
    """Return a line per effect: in how many runs it shows, and the mean difference with its interval over the runs.

    "" if no run has the figures of any. Interval: Student's t over the runs, at 95 %; one that has 0 in it leaves open
    whether there is an effect.
    """
    found = {(row.run, row.stage, row.figure): row for row in rows}
    runs = list(dict.fromkeys(row.run for row in rows))
    lines: list[tuple[str, str, str]] = []
    for effect in EFFECTS:
        pairs = [[found.get((run, effect.stage, name)) for name in (effect.more, effect.less)] for run in runs]
        both = [(more, less) for more, less in pairs if more and less]
        if both:
            gains = [more.value - less.value for more, less in both]
            shown = f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
            lines.append((effect.says, shown, str(_difference(gains, both[0][0].unit))))
    if not lines:
        return ""
    lines.insert(0, ("effect", "shows in", "difference"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _difference(gains: Sequence[float], unit: str) -> Figure:
    if unit == "share":
        gains, unit = [100 * gain for gain in gains], "points"
    return over_runs("", gains, unit)[0]
