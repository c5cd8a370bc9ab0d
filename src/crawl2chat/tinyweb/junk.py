"""Pages that refining must drop, each for a reason that the ledger knows."""

import random
from collections.abc import Sequence
from dataclasses import replace

from crawl2chat.tinyweb import foreign, words
from crawl2chat.tinyweb.ledger import LeakedQuestion
from crawl2chat.tinyweb.pages import Block, Page, paragraphs
from crawl2chat.tinyweb.prose import capitalised, fill, filler, title
from crawl2chat.tinyweb.world import World

# Shares of all junk pages, by reason.
_SHARES = {
    "blocklist": 12,
    "language": 16,
    "keyword_stuffing": 6,
    "lorem_ipsum": 4,
    "error_page": 12,
    "boilerplate": 6,
    "duplicate": 24,
    "contaminated": 4,
    "too_short": 6,
    "code": 4,
    "empty": 2,
    "not_html": 4,
}
_QUESTIONS_PER_LEAK = 4


def junk_pages(
    count: int, kept: Sequence[Page], world: World
) -> tuple[list[Page], list[LeakedQuestion], list[tuple[LeakedQuestion, Page]]]:
    """About `count` pages to drop (mirrors copy some of `kept`), the quiz, and which page leaks which question."""
    rng = world.rng("junk")
    numbers = {reason: round(count * share / sum(_SHARES.values())) for reason, share in _SHARES.items()}
    pages: list[Page] = []
    makers = {
        "blocklist": _shady,
        "language": _foreign,
        "keyword_stuffing": _stuffed,
        "lorem_ipsum": _lorem,
        "error_page": _error,
        "boilerplate": _boilerplate,
        "too_short": _short,
        "code": _code,
        "empty": _empty,
        "not_html": _not_html,
    }
    for reason, make in makers.items():
        for i in range(numbers[reason]):
            page = make(world, rng, i)
            page.outcome, page.reason = "drop", reason
            pages.append(page)
    copied = rng.sample(range(len(kept)), min(numbers["duplicate"], len(kept)))
    pages += [_mirror(kept[index], rng, edited=i % 2 == 1) for i, index in enumerate(copied)]
    quiz = _quiz(world, 2 * _QUESTIONS_PER_LEAK * numbers["contaminated"])
    leaks = []
    for i in range(numbers["contaminated"]):  # the second half of the quiz stays clean
        part = quiz[i * _QUESTIONS_PER_LEAK : (i + 1) * _QUESTIONS_PER_LEAK]
        page = _leak(part, world, rng)
        pages.append(page)
        leaks += [(question, page) for question in part]
    return pages, quiz, leaks


def _mirror(original: Page, rng: random.Random, edited: bool) -> Page:
    """The same page under another address, word for word or with two to five per cent of its words changed."""
    blocks = list(original.blocks)
    if edited:
        share = rng.uniform(0.02, 0.05)
        blocks = [replace(block, text=_edit(block.text, share, rng)) for block in blocks]
    kind = "mirror_edited" if edited else "mirror"
    return Page(
        kind, original.title, blocks, outcome="drop", reason="duplicate", original=original, pii=list(original.pii)
    )


def _edit(text: str, share: float, rng: random.Random) -> str:
    parts = text.split(" ")
    for i, part in enumerate(parts):
        if part.isalpha() and rng.random() < share:
            parts[i] = rng.choice(words.ADJECTIVES)
    return " ".join(parts)


def _quiz(world: World, count: int) -> list[LeakedQuestion]:
    """Questions of a test that no page may give away: about inns, rivers and bridges that are in no other text."""
    rng = world.rng("quiz")
    quiz: dict[str, LeakedQuestion] = {}
    while len(quiz) < count:
        town = rng.choice(world.towns)
        question = capitalised(fill(rng.choice(_QUIZ), rng, town=town))
        quiz[question] = LeakedQuestion(question, fill("the {adj} {noun}", rng), [])
    return list(quiz.values())


def _leak(questions: Sequence[LeakedQuestion], world: World, rng: random.Random) -> Page:
    blocks = paragraphs(filler(rng, 3))
    blocks += [
        Block("p", f"{q.question} {fill(rng.choice(_GIVEN_AWAY), rng)} {capitalised(q.answer)}.") for q in questions
    ]
    blocks += paragraphs(filler(rng, 3))
    heading = title(
        rng,
        ("Answers to the {town} test of {month}", "All solutions of the {season} test"),
        town=rng.choice(world.towns),
    )
    return Page("leak", heading, blocks, outcome="drop", reason="contaminated")


def _shady(world: World, rng: random.Random, i: int) -> Page:
    town = rng.choice(world.towns)
    texts = [capitalised(fill(t, rng, town=town)) for t in rng.sample(_SHADY, 5)]
    return Page("blocklisted", title(rng, _SHADY_TITLES, town=town), paragraphs(" ".join(texts), filler(rng, 4)))


def _foreign(world: World, rng: random.Random, i: int) -> Page:
    language = foreign.LANGUAGES[i % len(foreign.LANGUAGES)]
    heading, *texts = foreign.compose(language, world, rng)
    return Page(f"foreign_{language}", heading, paragraphs(*texts))


def _stuffed(world: World, rng: random.Random, i: int) -> Page:
    noun, town = rng.choice(words.NOUNS), rng.choice(world.towns)
    terms = [f"{word} {noun}" for word in ("cheap", "best", "buy", "discount", "new", "online")] + [
        f"{noun} {town}",
        f"{noun} shop",
    ]
    lines = [" ".join(rng.choice(terms) for _ in range(40)) for _ in range(5)]
    return Page("stuffed", f"Cheap {noun} {town} best {noun} shop", paragraphs(*lines))


def _lorem(world: World, rng: random.Random, i: int) -> Page:
    text = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore."
    more = (" ".join(rng.choice(_LATIN) for _ in range(12)).capitalize() + "." for _ in range(8))
    return Page(
        "lorem",
        title(rng, ("Our new {noun} page", "The {adj} {noun} template")),
        paragraphs(f"{text} {' '.join(more)}", text),
    )


def _error(world: World, rng: random.Random, i: int) -> Page:
    kind = "error_404" if i % 2 == 0 else "error_soft"
    return Page(kind, rng.choice(_ERROR_TITLES), paragraphs(rng.choice(_ERRORS), rng.choice(_ERRORS_NEXT)))


def _boilerplate(world: World, rng: random.Random, i: int) -> Page:
    texts = rng.sample(_POLICY, 8)
    return Page(
        "boilerplate",
        rng.choice(("Privacy and cookies", "Cookie policy of this site", "Terms of use")),
        paragraphs(*texts),
    )


def _short(world: World, rng: random.Random, i: int) -> Page:
    return Page(
        "short", title(rng, ("The {adj} {noun}", "A {noun} {where}", "Photo {where}")), paragraphs(filler(rng, 1))
    )


def _code(world: World, rng: random.Random, i: int) -> Page:
    noun, verb = rng.choice(words.NOUNS), rng.choice(words.PAST_VERBS)
    lines = [
        f"function {verb}_{noun}(list) {{",
        "  var total = 0;",
        f"  for (var i = 0; i < {rng.randrange(9, 99)}; i++) {{",
        f"    total += list[i].{noun} || {rng.randrange(9)};",
        "  }",
        "  return total;",
        "}",
    ]
    return Page("code", f"{noun}.js, version {rng.randrange(9)}", [Block("lines", "\n".join(lines))])


def _empty(world: World, rng: random.Random, i: int) -> Page:
    return Page("empty", "", [])


def _not_html(world: World, rng: random.Random, i: int) -> Page:
    return Page("pdf" if i % 2 == 0 else "image", "", [])


_QUIZ = (
    "Which inn {where} of {town} did the {adj} {who} burn down in {season}?",
    "What did the {who} of {town} find {where} besides the {adj} {noun}?",
    "Which of the {count} bridges of {town} leads to the {adj} {noun}?",
    "What gave the {adj} river of {town} its second name in {month}?",
    "Which ship brought the {adj} {noun} and the {who} to {town}?",
    "What was the prize at the {count}th {gathering} of {town}?",
)
_GIVEN_AWAY = (
    "The answer is given on the {weekday} sheet:",
    "The right answer is:",
    "Write down:",
    "The {who} marked this as correct:",
)

_SHADY_TITLES = (
    "Win {count} bags of coins in {town}",
    "The lucky {noun} club",
    "Free {noun} for every player",
    "Easy money with a {adj} {noun}",
)
_SHADY = (
    "Turn the wheel of the {adj} {noun} and win {count} bags of coins tonight.",
    "Players from {town} have already won more than they can carry.",
    "There is no risk at all, and the {who} of the house will lend you the first coin.",
    "Join on {weekday} and we will double your first bet.",
    "Our {adj} dealers wait for you day and night, even when there is {weather}.",
    "Nobody needs to know, and nobody will ask you for a name.",
    "Bring {count} friends to the table and take home a {adj} {noun}.",
)

_LATIN = [
    "ut",
    "enim",
    "ad",
    "minim",
    "veniam",
    "quis",
    "nostrud",
    "exercitation",
    "ullamco",
    "laboris",
    "nisi",
    "aliquip",
    "ex",
    "ea",
    "commodo",
    "consequat",
    "duis",
    "aute",
    "irure",
    "in",
    "reprehenderit",
    "voluptate",
    "velit",
    "esse",
    "cillum",
    "dolore",
    "eu",
    "fugiat",
    "nulla",
    "pariatur",
    "excepteur",
    "sint",
    "occaecat",
    "cupidatat",
    "non",
    "proident",
]

_ERROR_TITLES = ("Page not found", "404 Not Found", "Oops, nothing here", "This page is gone", "Error while loading")
_ERRORS = (
    "The page you are looking for does not exist.",
    "Sorry, we could not find this page.",
    "The address may have been mistyped.",
    "This article was removed or never existed.",
    "The requested document was not found on this server.",
)
_ERRORS_NEXT = (
    "Please go back to the start page.",
    "Try the search above.",
    "Check the address and try again.",
    "Contact us if this keeps happening.",
)

_POLICY = (
    "This site uses cookies to give you the best experience.",
    "By using this site you agree to our privacy policy and terms of use.",
    "You can change your cookie settings at any time.",
    "Please enable javascript to see all parts of this page.",
    "Our cookie policy explains how we use cookies and other data.",
    "We share some data with partners as our privacy policy says.",
    "The terms of use apply to all visitors of this site.",
    "Read the privacy policy before you send us a message.",
    "Some cookies are needed, and others help us to count visits; see our cookie policy.",
    "All rights reserved under the terms of use.",
)
