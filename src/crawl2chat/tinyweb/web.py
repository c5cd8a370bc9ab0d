"""Put the fictional web together: all kinds of pages, laid out over sites, and the ledger that is true of them."""

import random
from collections.abc import Sequence
from dataclasses import replace

from crawl2chat.crawl.settings import TinywebSettings
from crawl2chat.tinyweb import arithmetic, glossary, interviews, junk, passages, people, stories
from crawl2chat.tinyweb.html import ENCODINGS
from crawl2chat.tinyweb.ledger import Ledger, Translation
from crawl2chat.tinyweb.pages import TEMPLATES, Block, Page, Site, Template
from crawl2chat.tinyweb.world import World

_SITES_PER_TEMPLATE = 8
_BLOCKED_SITES = 6
_HOSTS_OF_QUOTES = {"chronicle", "directory", "newspaper", "blog", "guild", "story", "interview", "arithmetic"}


def make_web(world: World, settings: TinywebSettings) -> tuple[list[Page], Ledger, list[str]]:
    """All pages with their addresses, the ledger, and the blocklisted hosts."""
    everybody = people.make_people(world)
    biographies, everybody = people.biography_pages(everybody, world)
    questions, everybody = people.question_pages(everybody, world)
    problems = arithmetic.make_problems(world, settings.worked_sums, settings.direct_sums, settings.held_out_sums)
    sums = arithmetic.arithmetic_pages(problems, world)
    glossaries = glossary.glossary_pages(world, settings.glossaries)
    glossaries += glossary.word_game_pages(world, settings.word_games)
    phrase_books = glossary.phrase_book_pages(world, settings.phrase_books)
    tales = stories.story_pages(world, settings.stories)
    poems = stories.verse_pages(world, settings.verses)
    kept = [*biographies, *questions, *sums, *interviews.interview_pages(world, settings.interviews)]
    kept += [page for page, _ in (*glossaries, *phrase_books, *tales, *poems)]

    hosts = [page for page in kept if page.kind in _HOSTS_OF_QUOTES]
    quoted = passages.quote_passages(
        passages.make_passages(world, settings.passage_levels, settings.passages_per_level), hosts, world
    )
    _add_personal_data(kept, world, settings.personal_pages)
    dropped, quiz, leaks = junk.junk_pages(settings.junk_pages, kept, world)
    pages = kept + dropped
    blocked = _lay_out(pages, world)

    leaked_at: dict[str, list[str]] = {}
    for question, page in leaks:
        leaked_at.setdefault(question.question, []).append(page.url)
    ledger = Ledger(
        people=everybody,
        passages=[replace(passage, urls=sorted(page.url for page in where)) for passage, where in quoted],
        glossaries=[replace(entry, url=page.url) for page, entry in glossaries],
        phrase_books=[replace(book, url=page.url) for page, book in phrase_books],
        dictionary=[Translation(english, foreign) for english, foreign in world.dictionary.items()],
        stories=[replace(story, url=page.url) for page, told in tales for story in told],
        verses=[replace(verse, url=page.url) for page, sung in poems for verse in sung],
        problems=problems,
        leaked_questions=[replace(question, urls=leaked_at.get(question.question, [])) for question in quiz],
        pages=[page.truth() for page in pages],
    )
    return pages, ledger, blocked


def _lay_out(pages: Sequence[Page], world: World) -> list[str]:
    """Give each page a site and an address of its own; mirrors stand on another host. Returns the blocklisted hosts."""
    rng = world.rng("sites")
    names = iter(
        rng.sample(
            [(town, word) for town in world.towns for word in _SITE_WORDS], 6 * _SITES_PER_TEMPLATE + _BLOCKED_SITES
        )
    )
    sites = {
        template: [_site(*next(names), template, i, rng) for i in range(_SITES_PER_TEMPLATE)] for template in TEMPLATES
    }
    blocked = [_site(*next(names), "blog", i, rng) for i in range(_BLOCKED_SITES)]
    for number, page in enumerate(pages):
        if page.reason == "blocklist":
            page.site = rng.choice(blocked)
        else:
            page.site = rng.choice(sites[rng.choice(_TEMPLATES_OF.get(page.kind, TEMPLATES))])
            while page.original and page.site.host == page.original.site.host:
                page.site = rng.choice(sites[rng.choice(TEMPLATES)])
        slug = "-".join(word.strip(".,:?").lower() for word in page.title.split()[:4] if word.strip(".,:?").isalnum())
        ending = {"pdf": ".pdf", "image": ".png"}.get(page.kind, ".html")
        page.url = f"http://{page.site.host}/{slug or 'page'}-{number}{ending}"
    return sorted(site.host for site in blocked)


def _site(town: str, word: str, template: Template, number: int, rng: random.Random) -> Site:
    # sloppy sites are some of every template; .example is reserved, so no host is anybody's
    host = f"{rng.choice(('www.', ''))}{town.lower()}-{word}.example"
    return Site(host, f"{town} {word.capitalize()}", template, number % len(ENCODINGS), sloppy=number % 3 == 0)


def _add_personal_data(pages: Sequence[Page], world: World, count: int) -> None:
    rng = world.rng("personal data")
    for page in rng.sample(pages, min(count, len(pages))):
        name, surname = rng.choice(world.extras), rng.choice(world.extra_surnames)
        if rng.random() < 0.6:
            at = f"{rng.choice(world.towns)}-{rng.choice(_SITE_WORDS)}.example".lower()
            secret = f"{name.lower()}{rng.choice(('.', '_', ''))}{surname.lower()}{rng.choice(('', '7', '1962'))}@{at}"
            text = rng.choice(_MAIL_LINES)
        else:
            secret = f"{rng.choice(_PUBLIC_BLOCKS)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
            text = rng.choice(_ADDRESS_LINES)
        page.blocks.insert(rng.randrange(1, len(page.blocks) + 1), Block("p", text.format(name=name, secret=secret)))
        page.pii.append(secret)


_PUBLIC_BLOCKS = (5, 23, 46, 62, 77, 81, 93, 109, 151, 178, 185, 194, 212, 217)  # first numbers without private ranges

_MAIL_LINES = (
    "Write to {name} at {secret} if you know more.",
    "{name} can be reached under {secret} on weekdays.",
    "Corrections please to {secret} before the end of the month.",
    "For pictures, send a message to {secret} and ask for {name}.",
)
_ADDRESS_LINES = (
    "This entry was changed by a visitor from {secret} last night.",
    "Posted by {name} from the address {secret} at noon.",
    "Our counter saw {secret} twice this week.",
    "The server at {secret} was down, says {name}.",
)

_SITE_WORDS = ("post", "news", "blog", "forum", "wiki", "club", "market", "archive", "notes", "house", "pages", "times")

_TEMPLATES_OF: dict[str, tuple[Template, ...]] = {
    "newspaper": ("newspaper", "newspaper", "blog", "table"),
    "blog": ("blog", "blog", "shop", "table"),
    "questions": ("forum", "forum", "wiki", "blog", "newspaper", "shop"),
    "directory": ("wiki", "table", "shop", "forum", "blog"),
}
