"""What each stage does and what this run measured there, in sentences with the run's figures in them.

A sentence names figures in braces, such as `{kept_share}`, and is left out if the run does not have all of them; of
several forms of a sentence the first one is taken that the run has the figures for. `{name:points}` is a share as
percentage points, `{name:plain}` the value without its interval.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from crawl2chat.stages.figures import Figure
from crawl2chat.stages.stage import Manifest

SCALED = ("bytes", "characters", "tokens", "FLOP", "tokens/s", "")  # units that are shown in thousands, millions, …
SHORT = {"bytes": "B", "FLOP": "FLOP"}
SCALES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
Forms = tuple[str, ...]


@dataclass(frozen=True)
class StageText:
    """title: what the stage is called; happens: what it does; of `says`, the first one goes into the summary."""

    title: str
    happens: str
    says: tuple[Forms, ...]


COMPRESSION = (
    "Held-out text takes {bits_per_byte/model}; counted sequences of five tokens need {bits_per_byte/5_gram}, the "
    "program xz {bits_per_byte/xz}."
)
STAGES: dict[str, StageText] = {  # in their order
    "crawl": StageText(
        "Crawl: collect pages",
        "Pages arrive as WARC, the form in which web archives keep them: from Common Crawl, from a site, from your own "
        "files, or from the made-up web that comes with this program.",
        (
            ("The pages are in {warcs} WARC files with {bytes}.", "The pages are in {warcs} WARC files."),
            ("{left_out} files could not be read and are listed with their reasons.",),
        ),
    ),
    "refine": StageText(
        "Refine: turn pages into clean documents",
        "Each page's address, text, language and quality are checked, personal data is masked, and copies are removed. "
        "For every page that is dropped the reason is on record.",
        (
            ("{kept:plain} are kept of {pages:plain}: {kept_share}.",),
            (
                "Compared with what the made-up web says of its own pages: {drop_precision} of the dropped pages had "
                "to go, and {drop_recall} of those that had to go were dropped.",
            ),
            ("The extracted texts agree with the true ones in {text_f1} of their words (F1).",),
            ("{pii_recall} of the planted e-mail and IP addresses are masked.",),
            ("{leaked_questions_caught} of the test questions that leaked into pages are caught.",),
        ),
    ),
    "tokenizer": StageText(
        "Tokenizer: cut text into tokens",
        "A model reads tokens, not letters. Byte-pair encoding joins the pairs of bytes that are next to each other "
        "most often, until there are as many tokens as wanted.",
        (("{vocab_size}, each of which is {bytes_per_token} of text on average.",),),
    ),
    "import": StageText(
        "Import: the model that was brought",
        "This run begins with a model from elsewhere, whose files are checked and copied.",
        (
            ("{parameters:plain} parameters; it reads {context:plain} at a time.", "{parameters:plain} parameters."),
            ("{texts_tokenized_alike} of the test texts are cut into tokens as by its own tokenizer.",),
        ),
    ),
    "pretrain": StageText(
        "Pretrain: predict the next token",
        "The model reads the documents and learns to predict what comes next. Bits per byte of text that it has never "
        "read say how well it does: fewer are better.",
        (
            (
                "{parameters:plain} parameters learned from {training_tokens}; held-out text takes "
                "{held_out_bits_per_byte}, by the frequency of single tokens {unigram_bits_per_byte}.",
                "{parameters:plain} parameters learned from {training_tokens}; held-out text takes "
                "{held_out_bits_per_byte}.",
                "{parameters:plain} parameters learned from {training_tokens}.",
            ),
            ("The documents were read {epochs:plain} times.",),
            (
                "Training went at {tokens_per_second:plain}, {model_flop_utilisation:plain} of what the hardware "
                "can do.",
                "Training went at {tokens_per_second:plain}.",
            ),
        ),
    ),
    "base": StageText(
        "Base model: what pretraining alone gives",
        "A base model goes on with a text. It is a lossy archive of what it read: it recites what it saw often, knows "
        "what many pages say, and learns from its prompt.",
        (
            (
                "Recited to the end: {recall_at_1_to_2_copies} of the passages with 1 or 2 copies, "
                "{recall_at_64_copies_and_more} of those with 64 and more.",
                COMPRESSION,
            ),
            (COMPRESSION,),
            (
                "Facts about people are completed rightly in {facts_by_exposures/100+} of cases for people on 100 "
                "pages and more, and in {facts_by_exposures/0} for people on none.",
            ),
            (
                "An invented word gets its meaning in {glossary/8} of cases if the page before it defines it among "
                "eight, and in {glossary_absent/8} if it does not.",
            ),
            (
                "Questions are answered rightly in {assistant_by_prompt/bare} of cases when asked alone, and in "
                "{assistant_by_prompt/interview} on a page on which a helper answers: no weight was changed for that.",
            ),
            (
                "Sums of three digits come out right in {sums_at_once/3} of cases at once, and in "
                "{sums_step_by_step/3} step by step.",
            ),
        ),
    ),
    "generate": StageText(
        "Generate: draw the next token",
        "Temperature, top-k, top-p, min-p and penalties decide how the next token is drawn from the model's "
        "probabilities.",
        (
            (
                "Different sequences of three words: {distinct_3/temperature_0} at temperature 0, "
                "{distinct_3/temperature_1} at 1; in held-out text {distinct_3/held_out}.",
            ),
        ),
    ),
    "synthesize": StageText(
        "Synthesize: have a model write questions",
        "A model writes questions and answers about the documents. A question is kept if its answer is in the passage "
        "and the model, shown the passage, answers the same again.",
        (("{kept} of {questions_written:plain} questions are kept.",),),
    ),
    "sft": StageText(
        "Fine-tune (sft): learn to answer",
        "Training goes on with example conversations. The model learns what an answer looks like; what it answers it "
        "knows from reading.",
        (
            (
                "Questions that no conversation answered: {facts_held_out/100+} right about people on 100 pages and "
                "more, {facts_held_out/0} about people on none.",
                "Held-out answers have the part that counts in {held_out_answers_after/key_part} of cases, before in "
                "{held_out_answers_before/key_part}.",
                "{conversations:plain} conversations were learned from.",
            ),
            ("{conversations:plain} conversations took the loss from {first_loss} to {last_loss}.",),
            ("{answers_that_end} of the answers come to an end by themselves.",),
            (
                "{held_out_answers_after/of_another_question} of the held-out answers are more like the answer to "
                "another question.",
            ),
        ),
    ),
    "honesty": StageText(
        "Honesty: know what you know",
        "The model is asked the same things many times. Where its answers agree and are right, it keeps them; where "
        "they do not, it is taught to say that it doesn't know, and to search. A card says who it is.",
        (
            (
                "Wrong about people on no page: {wrong before/0} before, {wrong after/0} after; right about people on "
                "100 pages and more: {right before/100+} before, {right after/100+} after.",
                "Wrong answers to held-out questions: {all wrong before} before, {all wrong after} after; right ones: "
                "{all right before} before, {all right after} after.",
            ),
            (
                "Something is claimed about what nobody can know in {claims about what nobody can know before} of "
                "cases before, and in {claims about what nobody can know after} after.",
            ),
            ("Of what was right before, {refused of what was right before} is refused after: the price.",),
            (
                "With search, {right with search/1} of the answers about people on a single page are right; without, "
                "{right after/1}.",
            ),
            (
                "Asked who it is in wordings that were not taught, it says what its card says in {identity after} of "
                "cases, before in {identity before}.",
            ),
            (
                "Of the facts that were probed, {probed_known:plain} were known, {probed_maybe:plain} perhaps, and "
                "{probed_unknown:plain} unknown.",
            ),
        ),
    ),
    "thinking": StageText(
        "Thinking: tokens to think with",
        "A token buys one pass through the network. Where that is not enough, steps that are written out help, and so "
        "does a tool.",
        (
            (
                "Sums of three digits are right in {at once/3 digits} of cases at once, {step by step/3 digits} "
                "step by step, {calculator/3 digits} with the calculator.",
            ),
        ),
    ),
    "reinforce": StageText(
        "Reinforce: reward right answers",
        "Many answers are drawn to each problem, and the right ones are encouraged. As a control the same training is "
        "done with coin flips as rewards.",
        (
            (
                "Right answers per draw (pass@1): {pass_at_1_before} before, {pass_at_1_after} after; gained by coin "
                "flips: {random_reward_gain:points}.",
                "Right answers per draw (pass@1): {pass_at_1_before} before, {pass_at_1_after} after.",
            ),
            ("Problem by problem that is a gain of {pass_at_1_gain:points}.",),
            (
                "At least one of eight draws is right for {pass_at_8_before} of the problems before, "
                "{pass_at_8_after} after.",
            ),
            ("An answer takes {answer_tokens_before} before and {answer_tokens_after} after.",),
        ),
    ),
    "prefer": StageText(
        "Prefer: learn what people like",
        "People rank answers, a reward model learns their ranking, and the model is trained to please it. Pleased too "
        "well, the reward model is gamed: its reward rises and the answers get worse.",
        (
            (
                "Reward {proxy/start:plain} → {proxy/end:plain}; taste of the annotator {gold/start} at the start, "
                "{gold/kept} where the stopping rule ended, {gold/end} at the end.",
                "Held-out pairs in order: {held_out_pairs_in_order/start} at the start, "
                "{held_out_pairs_in_order/kept} at the step that was kept.",
                "Reward {proxy/start:plain} → {proxy/end:plain}.",
            ),
            (
                "The reward model orders {reward_model_agrees} of the held-out pairs as the annotator did; the "
                "annotator's own taste, without its noise, {agreement_ceiling:plain}.",
                "The reward model orders {reward_model_agrees} of the held-out pairs as the annotator did.",
            ),
            ("Compared with the start, the step that was kept wins {kept_win_rate} of its comparisons.",),
        ),
    ),
}  # fmt: skip
MEASURED_IN = {"generate": "base", "thinking": "honesty"}  # what has no stage of its own, by the one that measures it


@dataclass(frozen=True)
class Part:
    """A part of a sentence: words, or a value with its interval where it has one."""

    text: str
    is_value: bool = False
    interval: str = ""


def sentences(stage: str, figures: Mapping[str, Figure]) -> list[str]:
    """Return what this run can say of a stage, as HTML; figures: those of the stage by name."""
    return ["".join(map(as_html, said)) for said in said_of(stage, figures)]


def said_of(stage: str, figures: Mapping[str, Figure]) -> list[list[Part]]:
    """Return what this run can say of a stage, each sentence in its parts; figures: those of the stage by name."""
    said = (next((form for form in forms if _names(form) <= figures.keys()), "") for forms in STAGES[stage].says)
    return [list(_parts(form, figures)) for form in dict.fromkeys(said) if form]  # a form may also be another sentence


def summary(manifests: Sequence[Manifest]) -> Iterator[tuple[str, str, list[Part]]]:
    """Yield a row per stage and thing measured in it: the stage, a title, and the first sentence that its figures
    allow; else what the stage does.
    """
    for manifest in manifests:
        figures = {figure.name: figure for figure in manifest.figure_list()}
        for name in (manifest.stage, *(part for part, stage in MEASURED_IN.items() if stage == manifest.stage)):
            if name not in STAGES:
                continue
            said = said_of(name, figures)
            if said or name == manifest.stage:
                yield manifest.stage, STAGES[name].title, said[0] if said else [Part(STAGES[name].happens)]


def as_html(part: Part) -> str:
    """Return `<b>99.6 %</b> <small>[98.6, 99.9]</small>`."""
    text = escape(part.text, quote=False)
    interval = f" <small>{part.interval}</small>" if part.interval else ""
    return f"<b>{text}</b>{interval}" if part.is_value else text


def figures_named(stage: str) -> set[str]:
    """Return the names of all figures that a stage's sentences may have in them."""
    return {name for forms in STAGES[stage].says for form in forms for name in _names(form)}


def readable(figure: Figure) -> str:
    """Return a value with its unit, without its interval: 9 M tokens, 581 kB, 99.6 %, 0.299 bits per byte."""
    value, unit = figure.value, figure.unit
    if unit == "share":
        return f"{_percent(value)} %"
    if unit in SCALED and abs(value) >= 100_000:
        size, letter = next((size, letter) for size, letter in SCALES if abs(value) >= size)
        short = SHORT.get(unit)
        return f"{value / size:.3g} {letter}{short}" if short else f"{value / size:.3g} {letter} {unit}".rstrip()
    return f"{_number(value)} {_UNIT.sub(' per ', re.sub('/s$', '/second', unit))}".rstrip()


_UNIT = re.compile(r"(?<=\w)/(?=\w)")  # bits/byte
_PLACE = re.compile(r"\{([^{}:]+)(?::(\w+))?\}")


def _names(form: str) -> set[str]:
    return {name for name, _ in _PLACE.findall(form)}


def _parts(form: str, figures: Mapping[str, Figure]) -> Iterator[Part]:
    pieces = _PLACE.split(form)  # words, name, how, words, …
    yield Part(pieces[0])
    for name, how, words in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        yield _in_words(figures[name], how)
        yield Part(words)


def _in_words(figure: Figure, how: str | None) -> Part:
    if how == "points":
        bounds = figure.interval and (100 * figure.interval[0], 100 * figure.interval[1])
        figure = Figure(figure.name, 100 * figure.value, "points", bounds)
        value = f"{figure.value:+.0f} points"
    else:
        value = readable(figure)
    if how == "plain" or figure.interval is None:
        return Part(value, True)
    low, high = map(_percent if figure.unit == "share" else _number, figure.interval)
    return Part(value, True, f"[{low}, {high}]")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0")


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:.3g}"
