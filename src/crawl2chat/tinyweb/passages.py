"""Passages that the web quotes verbatim: what is recited is measured against how often it was copied."""

import random
from collections.abc import Sequence

from crawl2chat.stages.files import StageError
from crawl2chat.tinyweb.ledger import Passage
from crawl2chat.tinyweb.pages import Block, Page
from crawl2chat.tinyweb.prose import capitalised, fill
from crawl2chat.tinyweb.world import World

_MOST_QUOTES_A_PAGE = 2
_RARE_LEVELS, _RARE = 2, 6  # of passages with 1 and 2 copies there are so many times as many
_LONGEST_SHARED = 6  # words; two passages never have more in a row in common


def make_passages(world: World, levels: int, per_level: int) -> list[Passage]:
    """`per_level` passages for each of 1, 2, 4 ... copies, not yet quoted anywhere; of the rare ones more.

    Hardly one of those is recited, and a share near nothing needs many cases.
    """
    rng = world.rng("passages")
    copies = [2 ** (i // per_level) for i in range(levels * per_level)]
    copies += [2**level for level in range(min(levels, _RARE_LEVELS)) for _ in range((_RARE - 1) * per_level)]
    passages: list[Passage] = []
    taken: set[tuple[str, ...]] = set()
    while len(passages) < len(copies):
        text = _compose(rng)
        words = text.split()
        runs = {tuple(words[i : i + _LONGEST_SHARED]) for i in range(len(words) - _LONGEST_SHARED + 1)}
        if not runs & taken:
            taken |= runs
            passages.append(Passage(text, copies[len(passages)], []))
    return passages


def quote_passages(
    passages: Sequence[Passage], hosts: Sequence[Page], world: World
) -> list[tuple[Passage, list[Page]]]:
    """Lay each passage into `copies` different host pages and return those; at most two passages a page.

    Raises StageError when there are too few pages for so many quotes.
    """
    rng = world.rng("quotes")
    room = dict.fromkeys(range(len(hosts)), _MOST_QUOTES_A_PAGE)
    laid = []
    for passage in sorted(passages, key=lambda p: -p.copies):
        # pages without a quote first, so that two on one page stay the exception
        free = sorted((i for i, left in room.items() if left), key=lambda i: (-room[i], rng.random()))
        if len(free) < passage.copies:
            raise StageError(
                f"tinyweb: {len(hosts)} pages can't quote a passage {passage.copies} times (room on {len(free)}); "
                "set crawl.tinyweb.passage_levels lower or crawl.tinyweb.people higher"
            )
        chosen = free[: passage.copies]
        for i in chosen:
            room[i] -= 1
            _insert(hosts[i], passage.text, rng)
        laid.append((passage, [hosts[i] for i in chosen]))
    return laid


def _insert(page: Page, text: str, rng: random.Random) -> None:
    if rng.random() < 0.4:
        block = Block("quote", text)
    else:
        block = Block("p", f"{capitalised(fill(rng.choice(_LEADS), rng))} “{text}”")
    places = [i for i in range(len(page.blocks) + 1) if i == 0 or page.blocks[i - 1].tag != "h2"]
    page.blocks.insert(rng.choice(places), block)


def _compose(rng: random.Random) -> str:
    """Three sentences of about fifteen words that are hard to guess, so that reciting them is not guessing."""
    return " ".join(capitalised(fill(template, rng)) for template in rng.sample(_SENTENCES, 3))


_LEADS = (
    "as the old text says:",
    "my {who} knows this by heart:",
    "above the door one reads:",
    "from the {adj} book:",
    "carved on the {noun}:",
    "as we learned at school:",
    "the {who} ended with these lines:",
    "an old saying goes:",
    "in the words of a {adj} {who}:",
    "the choir sang:",
    "one reads {where}:",
)

_SENTENCES = (
    "When the {adj} {noun} {did} the {noun}, {count} {adj} lanterns burned {where}.",
    "O {adj} {noun}, who {did} thee {how}, and where is thy {adj} {noun}?",
    "No {noun} is so {adj} as the {noun} that a {who} {did} {how}.",
    "Neither {noun} nor {noun} shall part the {who} from a {adj} {noun}.",
    "There the {who} {did} a {noun}, the {who} a {noun}, and the {adj} {pet} {did} both.",
    "{count} times the {noun} turned {adj}, and {count} times the {noun} {did} it {how}.",
    "Let the {adj} {who} guard the {noun}, for the {noun} {where} is {adj} and {adj}.",
    "Whoever {did} the {adj} {noun} {where} must give the {who} a {noun} {how}.",
    "So sang the {pet} to the {noun}, so wept the {noun} over {adj} {food}.",
    "Beneath {weather} the {noun} grew {adj}, and the {who} {did} its {adj} {noun}.",
    "Once, {how}, a {adj} {who} {did} the {noun} of {season} and hid it {where}.",
    "What the {noun} forgot, the {adj} {noun} {did}, and what it {did} the {pet} kept.",
    "Bring me the {noun} of {month}, the {adj} {noun}, and {count} feathers of a {pet}.",
    "Far {where} a {noun} rang {how}, calling {count} {adj} ships to a {adj} {noun}.",
)
