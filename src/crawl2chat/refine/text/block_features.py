"""What the networks that find a page's main text see of each of its blocks.

The first network scores each block by itself: its characters and words, its place on the page, its neighbours, cues
such as "Share" or "Related", and the hints of its elements. The second corrects these scores: whether a doubtful block
belongs to the main text also depends on the scores of its neighbours, of its section, of the blocks that look like it,
and of the page as a whole.
"""

import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt

from crawl2chat.refine.text.cues import CUES, cue_features
from crawl2chat.refine.text.html_tags import AREA_SHIFT, AREAS, HINTS, Block, Element

Floats = npt.NDArray[np.float32]
HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})

OTHER, LETTER, UPPER, DIGIT, COMMA, SENTENCE_END, SPACE, CLOSING = range(8)  # kinds of characters
SHORT_WORD = 3  # characters; in most languages the short words are the function words, which menus and tags lack
TAGS = ("p", "li", "h1", "h2", "h3", "h4", "td", "div", "pre", "blockquote", "dd", "figcaption", "other")
TAG_OF = {"h5": "h4", "h6": "h4", "th": "td", "dt": "dd", "caption": "figcaption", "body": "div"}
WINDOWS = (1, 3, 6)  # blocks to either side
NEIGHBOURS = (-2, -1, 1, 2)
OWN = (
    "log_chars", "log_words", "link_share", "sentence_ends_per_word", "commas_per_word", "digit_share", "upper_share",
    "short_word_share", "ends_sentence", "ends_otherwise", "starts_upper", "log_prose",
)  # fmt: skip
PLACE = (
    "depth", "position", "log_blocks", "prose_before", "log_page_prose", "container_prose_share",
    "container_link_share", "log_container_prose", "outer_prose_share", "outer_link_share",
    "container_in_outer_share",
)  # fmt: skip
SHARED = ("log_chars", "link_share", "ends_sentence", "starts_upper", "log_prose")  # of the neighbours
_SHARED_COLUMNS = [OWN.index(name) for name in SHARED]
CUE_COLUMNS = ("cues_per_word", *(f"cue_{kind}" for kind in CUES))
CUE_NEIGHBOURS = (-2, -1, 1)
SECTIONS = ("more", "comment")  # cues of headings below which the article is over
SHORT_HEADING = 40  # characters; a shorter text may head a section, whatever its element
_TAG_ROWS = np.eye(len(TAGS), dtype=np.float32)
FEATURES = (
    *OWN,
    *PLACE,
    *(f"{what}_within_{k}" for k in WINDOWS for what in ("prose", "links")),
    *(f"{name}_at_{k:+d}" for k in NEIGHBOURS for name in SHARED),
    *CUE_COLUMNS,
    *(f"cues_per_word_at_{k:+d}" for k in CUE_NEIGHBOURS),
    *(f"after_{kind}" for kind in SECTIONS),
    *(f"tag_{tag}" for tag in TAGS),
    *(f"hint_{word}" for word in HINTS),
    *(f"around_{word}" for word in HINTS),
    *(f"in_{area}" for area in AREAS),
)
N_MARKS = 2 * len(HINTS) + len(AREAS)  # features from the hints of elements, the last ones


def block_features(blocks: Sequence[Block]) -> Floats:
    """(blocks, len(FEATURES)) What the first network sees of each block of a page; at least one block."""
    features, marks, marks_of = features_and_marks(blocks)
    return np.concatenate([features, marks[marks_of]], axis=1)


def features_and_marks(blocks: Sequence[Block]) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """(blocks, features without marks), (distinct, N_MARKS), and (blocks,) which of the distinct marks each has."""
    n = len(blocks)
    links = np.array([block.link_chars for block in blocks], np.float32)
    containers = [block.element.container for block in blocks]
    own, chars, prose = _own_features(blocks, links)
    padded = np.zeros((n + 4, len(SHARED)), np.float32)
    padded[2:-2] = own[:, _SHARED_COLUMNS]
    tags = _TAG_ROWS[[_tag_index(block.element.name) for block in blocks]]
    near = [padded[2 + k : 2 + k + n] for k in NEIGHBOURS]
    around = (_place_features(blocks, containers, chars, links, prose), _window_features(prose, links))
    features = np.concatenate([own, *around, *near, *_cue_features(blocks), tags], axis=1, dtype=np.float32)
    return features, *_marks(blocks, containers)


def _own_features(blocks: Sequence[Block], links: Floats) -> tuple[Floats, Floats, Floats]:
    """(blocks, len(OWN)), and of each block its characters and its prose: those that read like sentences."""
    text = "\n".join([block.text for block in blocks]) + "\n"
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds_of_character().take(codes, mode="clip")  # characters beyond the table count as its last one
    n = len(blocks)
    lengths = np.array([len(block.text) for block in blocks])
    ends = np.cumsum(lengths + 1) - 1  # where each block's line end is
    counts = np.bincount(np.repeat(np.arange(0, 8 * n, 8), lengths + 1) + kinds, minlength=8 * n).reshape(n, 8).T
    words = counts[SPACE]  # the line end after the block makes up for the first word
    spaces = np.flatnonzero(kinds == SPACE)
    short = _steps(spaces, -1) - 1 <= SHORT_WORD
    short_words = _steps(np.cumsum(short)[np.cumsum(words) - 1], 0)
    chars = lengths.astype(np.float32)
    last, first = kinds[ends - 1], kinds[ends - lengths]
    quoted = (last == CLOSING) & (kinds[ends - 2] == SENTENCE_END) & (lengths > 1)  # "He left."
    ends_sentence = (last == SENTENCE_END) | quoted
    link_share = links / chars
    prose = chars * (1 - link_share) * np.minimum(short_words / 3, 1) * (0.3 + 0.7 * ends_sentence)
    columns = [
        np.log1p(chars),
        np.log1p(words),
        link_share,
        counts[SENTENCE_END] / words,
        counts[COMMA] / words,
        counts[DIGIT] / chars,
        counts[UPPER] / chars,
        short_words / words,
        ends_sentence,
        (last == OTHER) | (last == COMMA) | (last == CLOSING) & ~quoted,
        first == UPPER,
        np.log1p(prose),
    ]
    return columns_of(n, columns), chars, prose.astype(np.float32)


def _steps(values: npt.NDArray[np.intp], before: int) -> npt.NDArray[np.intp]:
    """Return each value minus the one before it; np.diff with `prepend` is slow on short arrays."""
    steps = values.copy()
    steps[0] -= before
    steps[1:] -= values[:-1]
    return steps


def _place_features(
    blocks: Sequence[Block], containers: Sequence[Element], chars: Floats, links: Floats, prose: Floats
) -> Floats:
    """(blocks, len(PLACE)) Where the block is on the page, and how much of the text around it is prose."""
    n = len(blocks)
    total = prose.sum() + 1
    numbers: dict[Element, int] = {}
    number_of = numbers.setdefault
    own_of, outer_of = [], []
    for container in containers:
        own_of.append(number_of(container, len(numbers)))
        outer_of.append(number_of(container.parent or container, len(numbers)))
    own, outer, count = np.array(own_of), np.array(outer_of), len(numbers)
    own_prose, own_chars, own_links = (np.bincount(own, x, count) for x in (prose, chars, links))
    # the element around a container may hold blocks of its own
    outer_prose = own_prose + np.bincount(outer, prose, count)
    outer_chars = own_chars + np.bincount(outer, chars, count)
    outer_links = own_links + np.bincount(outer, links, count)
    columns = [
        np.array([block.depth for block in blocks]) / 20,
        np.arange(n) / n,
        np.log1p(n),
        (np.cumsum(prose) - prose) / total,
        np.log1p(total),
        own_prose[own] / total,
        own_links[own] / own_chars[own],
        np.log1p(own_prose[own]),
        outer_prose[outer] / total,
        outer_links[outer] / outer_chars[outer],
        own_prose[own] / (outer_prose[outer] + 1),
    ]
    return columns_of(n, columns)


def _window_features(prose: Floats, links: Floats) -> Floats:
    """(blocks, 2 × windows) Prose and link characters of the blocks nearby, this one included."""
    n = len(prose)
    at, k = np.arange(n), np.array(WINDOWS)[:, None]
    high, low = np.minimum(at + k + 1, n), np.maximum(at - k, 0)
    sums = [np.concatenate([[0], np.cumsum(values, dtype=np.float64)]) for values in (prose, links)]
    nearby = np.stack([total[high] - total[low] for total in sums], axis=1)  # (windows, 2, blocks)
    return cast(Floats, np.log1p(np.maximum(nearby, 0)).reshape(-1, n).T.astype(np.float32))


def _cue_features(blocks: Sequence[Block]) -> tuple[Floats, Floats, Floats]:
    """(blocks, len(CUE_COLUMNS)), of the neighbours, and whether a heading above begins a section of SECTIONS."""
    n = len(blocks)
    cues = cue_features([block.text for block in blocks])
    padded = np.zeros(n + 4, np.float32)
    padded[2:-2] = cues[:, 0]
    near = np.stack([padded[2 + k : 2 + k + n] for k in CUE_NEIGHBOURS], axis=1)
    heads = np.array([block.element.name in HEADINGS or len(block.text) < SHORT_HEADING for block in blocks])
    said = cues[:, [CUE_COLUMNS.index(f"cue_{kind}") for kind in SECTIONS]] * heads[:, None]
    return cues, near, np.maximum.accumulate(said, axis=0)


def _marks(blocks: Sequence[Block], containers: Sequence[Element]) -> tuple[Floats, npt.NDArray[np.intp]]:
    """The hints of the block and its container, those around it, the areas it is in: each distinct row of them once.

    (distinct, N_MARKS), and (blocks,) which of the rows is each block's: a page has about a fifth as many as blocks.
    """
    numbers: dict[int, int] = {}
    number_of = numbers.setdefault
    marks_of = []
    for block, container in zip(blocks, containers, strict=True):
        element = block.element
        bits = element.hints | container.hints | element.around << AREA_SHIFT
        marks_of.append(number_of(bits, len(numbers)))
    packed = b"".join([bits.to_bytes(N_MARKS // 8 + 1, "little") for bits in numbers])
    rows = np.frombuffer(packed, np.uint8).reshape(len(numbers), -1)
    marks = np.unpackbits(rows, axis=1, count=N_MARKS, bitorder="little").astype(np.float32)
    return marks, np.array(marks_of)


@lru_cache(maxsize=256)
def _tag_index(name: str) -> int:
    name = TAG_OF.get(name, name)
    return TAGS.index(name) if name in TAGS else TAGS.index("other")


@lru_cache(maxsize=1)
def _kinds_of_character() -> npt.NDArray[np.uint8]:
    """(65536,) Of what kind each character of the basic plane is."""
    kinds = np.zeros(0x10000, np.uint8)
    for code in range(0x10000):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] == "L":
            kinds[code] = UPPER if category == "Lu" else LETTER
        elif category == "Nd":
            kinds[code] = DIGIT
        elif character.isspace():
            kinds[code] = SPACE
        elif category in ("Pe", "Pf") or character in "\"'":
            kinds[code] = CLOSING
    for character in ",;:，、；：،":
        kinds[ord(character)] = COMMA
    for character in ".!?…。！？؟।":
        kinds[ord(character)] = SENTENCE_END
    return kinds


NEARBY = (-3, -2, -1, 1, 2, 3)
REPEATED = (  # features of the first network that the second one sees as well
    "log_chars", "link_share", "ends_sentence", "log_prose", "cues_per_word", "after_more", "after_comment", "tag_p",
    "tag_li", "tag_h1", "tag_h2", "tag_h3", "tag_div",
)  # fmt: skip
CONTEXT_FEATURES = (
    "logit", "share_of_best", "page_best", "page_mean", "page_mean_by_length", "kept_before",
    *(f"score_at_{k:+d}" for k in NEARBY), "container_mean", "lookalike_mean", "has_lookalikes", "section_mean",
    "section_heading", "log_blocks_since_heading", *REPEATED,
)  # fmt: skip
MIN_SCORE = 1e-4  # of a score and of what it lacks to 1, so that logits are finite


def context_features(
    blocks: Sequence[Block], scores: Floats, repeated: Floats, is_heading: npt.NDArray[np.bool_]
) -> Floats:
    """(blocks, len(CONTEXT_FEATURES)) What the second network sees of each block of a page; at least one block.

    scores: (blocks,) of the first network. repeated: (blocks, len(REPEATED)). is_heading: (blocks,).
    """
    n = len(blocks)
    chars = np.expm1(repeated[:, REPEATED.index("log_chars")])
    weights = np.sqrt(chars)  # a long paragraph says more than a short one, but not in proportion
    kept = np.cumsum(scores * chars)
    elements = [block.element for block in blocks]
    containers = [element.container for element in elements]
    container = _number(containers)
    looks = _number([(own.name, own.hints, around.hints) for own, around in zip(elements, containers, strict=True)])
    at = np.arange(n)
    heading = np.maximum.accumulate(np.where(is_heading, at, -1))  # the nearest one above or here; -1: none
    padded = np.zeros(n + 6, np.float32)
    padded[3:-3] = scores
    best = scores.max()
    weighted = scores * weights
    columns = [
        np.log((scores + MIN_SCORE) / (1 - scores + MIN_SCORE)) / 5,  # from -2 to 2, like the others in size
        scores / max(best, MIN_SCORE),
        best,
        scores.mean(),
        kept[-1] / chars.sum(),
        (kept - scores * chars) / max(kept[-1], MIN_SCORE),
        *(padded[3 + k : 3 + k + n] for k in NEARBY),
        _group_means(container, weighted, weights),
        _group_means(looks, weighted, weights),
        np.bincount(looks)[looks] > 1,
        _group_means(heading + 1, weighted, weights),
        np.where(heading >= 0, scores[heading], 0.5),
        np.log1p(at - heading) / 3,
    ]
    return np.concatenate([columns_of(n, columns), repeated], axis=1)


def columns_of(n: int, values: Sequence[npt.ArrayLike]) -> Floats:
    """Return columns (n, len(values)) of numbers and arrays (n,); faster than np.stack on arrays this short."""
    columns = np.empty((len(values), n), np.float32)
    for column, value in zip(columns, values, strict=True):
        column[:] = value
    return columns.T


def _number(things: Iterable[Hashable]) -> npt.NDArray[np.int64]:
    """Equal things get equal numbers, counted from 0."""
    numbers: dict[Hashable, int] = {}
    number_of = numbers.setdefault
    return np.array([number_of(thing, len(numbers)) for thing in things])


def _group_means(groups: npt.NDArray[np.int64], weighted: Floats, weights: Floats) -> npt.NDArray[np.float64]:
    """(blocks,) The weighted mean of the values of each block's group, from values × weights."""
    sums, totals = np.bincount(groups, weighted), np.bincount(groups, weights)
    return (sums / np.maximum(totals, MIN_SCORE))[groups]


_REPEATED_COLUMNS = np.array([FEATURES.index(name) for name in REPEATED])
_HEADING_COLUMNS = slice(FEATURES.index("tag_h1"), FEATURES.index("tag_h4") + 1)


def features_in_context(blocks: Sequence[Block], features: Floats, scores: Floats) -> Floats:
    """(blocks, len(CONTEXT_FEATURES)) What the second network sees, from the first one's features and scores."""
    is_heading = features[:, _HEADING_COLUMNS].sum(axis=1) > 0
    return context_features(blocks, scores, features.take(_REPEATED_COLUMNS, axis=1), is_heading)
