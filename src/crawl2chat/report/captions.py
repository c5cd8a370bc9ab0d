"""How to read a stage's figures: the few that matter most, and what each part of the base suite measures.

The terminal, the report and the model card take their explanations from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from crawl2chat.evals.base.settings import TIMES
from crawl2chat.stages.figures import Figure

MAX_KEY_FIGURES = 10
# By stage, in the order in which they are read: names, or patterns of them where a group's name is the user's own.
# A figure that a run does not have is left out; `key_figures` then goes on to the next ones, up to MAX_KEY_FIGURES.
KEY_FIGURES: dict[str, tuple[str, ...]] = {
    "crawl": ("warcs", "bytes", "left_out"),
    "refine": (
        "pages", "faults", "kept", "kept_share", "characters_kept", "speed",
        "drop_precision", "drop_recall", "text_f1", "duplicate_pairs_f1", "pii_recall", "leaked_questions_caught",
    ),
    "tokenizer": ("vocab_size", "training_bytes", "bytes_per_token"),
    "import": ("parameters", "bytes", "tensors", "context", "vocab_size", "texts_tokenized_alike"),
    "pretrain": (
        "parameters", "training_tokens", "epochs", "training_flop", "tokens_per_second", "model_flop_utilisation",
        "held_out_bits_per_byte", "unigram_bits_per_byte",
    ),
    "base": (
        "bits_per_byte/model", "bits_per_byte/5_gram", "bits_per_byte/xz",
        "glossary/8", "glossary_absent/8", "assistant_by_prompt/bare", "assistant_by_prompt/interview",
        "facts_by_exposures/100+", "steps_gain", "recall_at_64_copies_and_more",
        "bits_per_byte/unigram", "bits_per_byte/zstd", "archive_bits_per_byte", "archive_exact", "words_of_one_token",
        "verbatim/temperature_1", "distinct_3/temperature_1",
    ),
    "sft": (
        "conversations", "steps", "first_loss", "last_loss", "held_out_loss",
        "held_out_answers_before/key_part", "held_out_answers_after/key_part",
        "held_out_answers_after/of_another_question",
        "facts_taught/100+", "facts_held_out/100+", "facts_held_out/0",
        "sums_at_once/3 digits", "sums_step_by_step/3 digits", "answers_that_end",
    ),
    "honesty": (
        "wrong before/0", "wrong after/0", "right before/100+", "right after/100+", "refused after/100+",
        "right with search/1", "identity before", "identity after", "at once/3 digits", "step by step/3 digits",
        "claims about what nobody can know before", "claims about what nobody can know after", "fewer wrong answers",
        "right before that stays right",
        "wrong before/*", "wrong after/*", "right before/*", "right after/*", "refused after/*", "right with search/*",
    ),
    "reinforce": (
        "problems", "pass_at_1_before", "pass_at_1_after", "pass_at_1_gain", "pass_at_8_before", "pass_at_8_after",
        "greedy_after", "answer_tokens_before", "answer_tokens_after", "random_reward_gain",
    ),
    "prefer": (
        "rankings", "reward_model_agrees", "agreement_ceiling", "kept_step", "kept_win_rate",
        "proxy/start", "proxy/end", "gold/start", "gold/kept", "gold/end",
    ),
}  # fmt: skip


def key_figures(stage: str, figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures of a stage that matter most, at most MAX_KEY_FIGURES; of an unknown stage the first ones."""
    found: dict[str, Figure] = {}
    for pattern in KEY_FIGURES.get(stage, ("*",)):
        found |= {figure.name: figure for figure in figures if fnmatchcase(figure.name, pattern)}
    return list(found.values())[:MAX_KEY_FIGURES]


@dataclass(frozen=True)
class Part:
    """The title of a part of the suite, and how to read its figures."""

    title: str
    note: str


NOTES = {
    "compression": Part(
        "Compression",
        "Bits needed per byte of held-out text: by the model's predictions, by models that count single tokens "
        "(“unigram”) and sequences of five tokens (“5 gram”) of the training text, and by compression programs on all "
        "documents as one file. “zstd primed” has read training text first. The archive is a real file, written and "
        "restored; “archive exact” says whether it was restored bit for bit. It contains only the beginning of the "
        "held-out text, and so does that of “archive xz”.",
    ),
    "in_context": Part(
        "Learning from the prompt",
        "“glossary/N”: a page on which N invented words each come before a meaning; then one of the words again, and "
        "the model has to give its meaning. Controls: for “absent”, the page does not contain the word; for “shuffled” "
        "and “follows”, the meanings on the page are swapped, and “shuffled” counts the old meaning, “follows” the new "
        "one. “definitions”: the same in whole sentences. “glossary guess”: a meaning chosen at random. “phrase "
        "book/N”: a phrase to translate after N translated lines; all pages use the same language, so the weights may "
        "know it already.",
    ),
    "prompting": Part(
        "An assistant by its prompt",
        "Questions about people who appear often: alone (“bare”), after other questions with answers (“few shot”), and "
        "on a page on which a helper answers questions (“interview”). No page asks about these people, except for "
        "“asked about”. “in form”: answers of the kind that the question asks for, right or wrong. “guess”: a value of "
        "that kind chosen at random.",
    ),
    "facts": Part(
        "Knowledge",
        "Facts, by how often the training text states them: as the end of a sentence (“facts”), and by question on a "
        "helper's page (“answers”); about people whom no page asks about. “bits per fact”: log2 of how much more "
        "probable the right value is to the model than in a uniform guess; below 0, it prefers wrong values. “by "
        "wordings”: facts stated equally often, in fewer and in more different wordings. “bits stored” and “bits per "
        "parameter” are sums over these facts only, not the model's capacity.",
    ),
    "sums": Part(
        "Sums at once and step by step",
        "Sums that are on no page, by their number of digits: answered at once, and after steps that are written out. "
        "The gain is over all sums, in percentage points.",
    ),
    "spelling": Part(
        "Spelling and counting",
        "How text is split into tokens; what a linear model can read from a token's embedding (“tells”), compared with "
        "always taking the most common answer (“guess”); letters counted from the embeddings of words and of their "
        "letters; and tasks after four examples, with whole words and with words spelled out. A share no higher than "
        "the guess shows no skill.",
    ),
    "continuation": Part(
        "Continuation and diversity",
        "Texts drawn at each temperature and each top-p, compared with held-out text. “distinct N”: share of different "
        "sequences among all sequences of N words. “self similarity”: share of 3-word sequences that are also in "
        "another text of the same setting (mean over all pairs). “verbatim”: share of words in passages of 8 or more "
        "words copied from the training text. “ended”: share of texts that end within the given number of tokens. "
        "“training text searched”: the share of the training text in which copies were looked for.",
    ),
    "recitation": Part(
        "Recitation",
        "Passages prompted with their first 16 tokens: the share continued word for word to the end, by the number of "
        "copies in the training text (to the nearest power of two); and the median number of right words. “by "
        "prompt”: the same passages, prompted with the N tokens before the same place.",
    ),
}  # fmt: skip


def _texts(setting: str) -> dict[str, str]:
    """Prefixes of what is measured of texts that were drawn by one kind of setting."""
    return {
        "distinct words": f"distinct_1/{setting}", "distinct 3-grams": f"distinct_3/{setting}",
        "3-grams shared with another text": f"self_similarity/{setting}", "copied": f"verbatim/{setting}",
        "ended": f"ended/{setting}",
    }  # fmt: skip


# How to read what `eval --suite base` measures of a model from elsewhere, by the tab of the web app that shows it.
OUTSIDE_NOTES = {
    "compression": Part(
        "Compression",
        "Bits needed per byte of the beginning of the text that was given with --data, cut into windows which the "
        "model reads one by one, and by the program xz on the same text. Whether the model learned from this text is "
        "not known.",
    ),
    "knowledge": Part(
        "What it says of itself",
        "Questions such as “Who are you?”, answered once with the most probable words and four times at random. "
        "“different”: share of the random answers that no other answer to the question is equal to.",
    ),
    "games": Part(
        "Learning from the prompt",
        "Words and phrases translated after N others with their translations. Control: for “shuffled”, each example "
        "has another one's translation; a model that knows the language and does not read the examples loses nothing.",
    ),
    "letters": Part(
        "What tokens make hard",
        "How often a letter is in a word, asked of the word and of the word with spaces between its letters, which are "
        "then tokens; “always the most common count” is what one answer to all of them gives. Sums, by their number "
        "of digits: asked for the number only, and for the steps to it.",
    ),
}
RATES = "Bits per byte of held-out text"  # the plot of what `rates_of` returns, as bars

# Plots of the base suite by title: labels of both axes, and the prefixes of each series' figures.
CURVES = {
    "Passages continued word for word": (
        "copies in training", "recited to the end", {"prompted with 16 tokens": "recall/"},
    ),
    "Facts about people": (
        "pages about the person", "right",
        {"by completion": "facts_by_exposures/", "by question": "answers_by_exposures/"},
    ),
    "Invented words that the page defines": (
        "invented words on the page", "right",
        {"word before its meaning": "glossary/", "word not on the page": "glossary_absent/",
         "meanings swapped: old meaning": "glossary_shuffled/", "defined in sentences": "definitions/",
         "defined in no sentence": "definitions_absent/"},
    ),
    "Phrases translated by example": (
        "translated lines before the question", "right",
        {"phrase book": "phrase_book/", "translations shuffled": "phrase_book_shuffled/"},
    ),
    "An assistant by its prompt alone": (
        "", "right",
        {"no page asks about the person": "assistant_by_prompt/", "a page asks about the person":
         "assistant_by_prompt_asked_about/"},
    ),
    "Sums": ("digits", "right", {"step by step": "sums_step_by_step/", "at once": "sums_at_once/"}),
    "What a token's embedding reveals about its letters": (
        "", "read right",
        {"frequent tokens": "often_met_token_tells/", "frequent tokens, guessed": "often_met_token_guess/",
         "rare tokens": "rarely_met_token_tells/", "rare tokens, guessed": "rarely_met_token_guess/"},
    ),
    "Letters counted, read from embeddings": ("embeddings of", "right", {"by a linear model": "letter_count_read/"}),
    "Words spelled and letters counted, by example": (
        "the word is given as", "right",
        {"letters counted": "count_by_example/", "spelled": "spell_by_example/", "backwards": "reverse_by_example/"},
    ),
    "Decimals compared, by example": (
        "comparing the digits after the point as whole numbers is", "right",
        {"such as 9.11 and 9.9": "decimals_by_example/"},
    ),
    "Texts by temperature": ("temperature", "share", _texts("temperature_")),
    "Texts by top-p": ("top-p", "share", _texts("top_p_")),
}  # fmt: skip


@dataclass(frozen=True)
class Curves:
    """A plot of shares over named points, one line per series; a figure's name is KIND/POINT."""

    title: str
    x_label: str
    y_label: str
    series: dict[str, list[Figure]]


def curves_of(figures: Sequence[Figure]) -> list[Curves]:
    """Return the plots of the base suite for which there is at least one figure."""
    return _drawn(CURVES, figures)


def outside_curves_of(figures: Sequence[Figure]) -> list[Curves]:
    """Return the plots of what `eval --suite base` measured of a model from elsewhere."""
    names = [figure.name.split("/") for figure in figures]
    languages = dict.fromkeys(name[1] for name in names if name[0] == "translation")
    translated = {
        f"Phrases translated by example: {language}": (
            "translated phrases before the question", "right",
            {"translated": f"translation/{language}/", "translations shuffled": f"translation_shuffled/{language}/"},
        )
        for language in languages
    }  # fmt: skip
    others = {
        "Letters counted": ("the word is given", "right", {"letters counted": "letters/"}),
        "Sums": ("digits", "right", {"by steps": "sums_by_steps/", "at once": "sums_at_once/"}),
    }
    return _drawn(translated | others, figures)


def _drawn(plots: Mapping[str, tuple[str, str, dict[str, str]]], figures: Sequence[Figure]) -> list[Curves]:
    found = []
    for title, (x_label, y_label, prefixes) in plots.items():
        series = {name: points for name, prefix in prefixes.items() if (points := points_of(figures, prefix))}
        if series:
            found.append(Curves(title, x_label, y_label, series))
    return found


def points_of(figures: Sequence[Figure], prefix: str) -> list[Figure]:
    """Return the figures of a series, named by their points, with those of held-out text in each series."""
    kind = prefix.partition("/")[0]
    held_out = f"{kind}/held_out"
    return [
        replace(f, name=f"{kind}/" + _spaced(f.name.removeprefix(f"{kind}/" if f.name == held_out else prefix)))
        for f in figures
        if f.name == held_out or f.name.startswith(prefix)
    ]


def rates_of(figures: Sequence[Figure]) -> dict[str, Figure]:
    """Return bits per byte of all held-out text by what compressed it."""
    return {_spaced(f.name.partition("/")[2]): f for f in figures if f.name.startswith("bits_per_byte/")}


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def by_part(figures: Sequence[Figure]) -> list[tuple[Part, list[Figure]]]:
    """Return the base suite's figures by part, in order, without times; parts that measured nothing are left out."""
    parts: list[tuple[Part, list[Figure]]] = []
    found: list[Figure] = []
    for figure in figures:
        if not figure.name.startswith(TIMES):
            found.append(figure)
            continue
        if found:
            name = figure.name.removeprefix(TIMES)
            parts.append((NOTES.get(name, Part(name, "")), found))
        found = []
    return [*parts, (Part("Others", ""), found)] if found else parts
