"""What each part of the base suite measures, explained for readers of its figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.stages.figures import Figure

TIMES = "seconds/"  # a part's last figure is how long it took


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
