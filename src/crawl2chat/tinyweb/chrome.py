"""What surrounds the main text of a page: navigation, scripts, notices, advertisements, comments, footers."""

import random
from collections.abc import Sequence

from crawl2chat.tinyweb.prose import capitalised, fill


class Chrome:
    """The furniture of one page of one site; each call draws anew."""

    def __init__(self, host: str, site: str, rng: random.Random) -> None:
        self.host, self.site, self.rng = host, site, rng

    def head(self) -> str:
        number = self.rng.randrange(100, 10**6)
        return (
            f"<style>body {{ font: {number % 9 + 12}px serif }} .ad {{ color: #{number % 900 + 100} }}</style>"
            f"<script>var page = {{id: {number}, host: '{self.host}'}}; if (1 < 2) {{ track(page); }}</script>"
            '<link rel="stylesheet" href="/style.css"><meta name="viewport" content="width=device-width">'
        )

    def nav(self) -> str:
        return f'<nav><ul class="menu">{self.items(6)}</ul></nav>'

    def items(self, count: int) -> str:
        return "".join(f"<li>{link}</li>" for link in self._links(count))

    def links(self, count: int) -> str:
        return " | ".join(self._links(count))

    def link_list(self) -> str:
        return "<ul>" + "".join(f"<li>{link}" for link in self._links(7)) + "</ul>"

    def cookie_banner(self) -> str:
        if self.rng.random() < 0.4:
            return ""
        buttons = "<button>Accept</button><button>Settings</button>"
        return f'<div class="cookie-banner" id="cookie-consent"><p>{self.rng.choice(_COOKIES)}</p>{buttons}</div>'

    def byline(self) -> str:
        return f'<p class="byline">{fill("By our {who}, {weekday}", self.rng)}</p>' if self.rng.random() < 0.6 else ""

    def posted(self) -> str:
        """The line under a post that an extractor can hardly tell from its last paragraph."""
        where = ", ".join(self._links(2))
        return f"<p>Posted in {where} on {fill('{weekday}', self.rng)}</p>" if self.rng.random() < 0.4 else ""

    def share_buttons(self) -> str:
        return (
            '<div class="social share-buttons"><a href="#">Share</a> <a href="#">Mail</a> <a href="#">Print</a></div>'
        )

    def between(self, blocks: Sequence[str]) -> str:
        """The main text, with an advertisement, a script or a link between two of its blocks now and then."""
        pieces = list(blocks)
        if len(pieces) > 2 and self.rng.random() < 0.5:
            link = f"<p>Read also: {self._headlines(1)[0]}</p>"
            intruder = self.rng.choice((self._ad(), "<script>ads.push({});</script>", "<!-- advert -->", link))
            pieces.insert(self.rng.randrange(1, len(pieces)), intruder)
        return "\n".join(pieces)

    def sidebar(self) -> str:
        headlines = "".join(f"<li>{link}</li>" for link in self._headlines(5))
        return f'<aside class="sidebar"><h3>{self.rng.choice(_SIDE)}</h3><ul>{headlines}</ul>{self._ad()}</aside>'

    def related(self) -> str:
        headlines = "".join(f"<p>{link}</p>" for link in self._headlines(3))
        return f'<aside class="related"><h3>Related</h3>{headlines}</aside>'

    def comments(self) -> str:
        if self.rng.random() < 0.3:
            return ""
        posts = "".join(self._comment() for _ in range(self.rng.randrange(1, 4)))
        return f'<section id="comments" class="comments"><h3>Comments</h3>{posts}</section>'

    def _comment(self) -> str:
        author = f"{self.rng.choice(_NICKNAMES)}{self.rng.randrange(99)}"
        text = self.rng.choice(_COMMENTS)
        return f'<div class="comment"><span class="author">{author}</span><p>{text}</p></div>'

    def footer(self, tag: str) -> str:
        return f'<{tag} id="footer" class="footer">{self.small_print()} {self.links(4)}</{tag}>'

    def small_print(self) -> str:
        return f"© {self.site}. {self.rng.choice(_SMALL_PRINT)}"

    def _ad(self) -> str:
        link = f"http://ads.example/{self.rng.randrange(10**5)}"
        return f'<div class="ad advertisement"><a href="{link}">{self.rng.choice(_ADS)}</a></div>'

    def _links(self, count: int) -> list[str]:
        return [f'<a href="/{name.lower().replace(" ", "-")}">{name}</a>' for name in self.rng.sample(_MENU, count)]

    def _headlines(self, count: int) -> list[str]:
        return [
            f'<a href="/p/{self.rng.randrange(10**4)}">{capitalised(fill(template, self.rng))}</a>'
            for template in self.rng.sample(_HEADLINES, count)
        ]


_MENU = (
    "Home", "News", "Weather", "Contact", "About us", "Archive", "Sport", "Culture", "Shop", "Members", "Login",
    "Gallery", "Guestbook", "Links", "Search", "Help",
)  # fmt: skip
_COOKIES = (
    "We use cookies to improve your visit. By going on you accept our cookie policy.",
    "This site uses cookies. Read our privacy policy to learn more.",
    "Cookies help us to serve you. Do you accept all of them?",
)
_SIDE = ("Most read", "Latest posts", "Popular this week", "Recent")
_ADS = (
    "Buy new shoes today",
    "Holidays at half price",
    "Your bank is a click away",
    "Lose weight in three days",
    "Win a new car",
)
_HEADLINES = (
    "The {adj} {noun} returns",
    "Why {weather} worries the {who}",
    "{count} tips for {season}",
    "A {pet} at the {gathering}",
    "How to cook {food}",
    "What the {who} saw {where}",
    "Pictures of the {adj} {noun}",
    "The {gathering} in {month}",
)
_NICKNAMES = ("sunny", "grumpy", "reader", "night_owl", "teapot", "wanderer", "anon")
_COMMENTS = (
    "Thanks for this, I laughed out loud.",
    "I do not agree at all with the last part.",
    "First!",
    "Could you post more pictures, please?",
    "My grandfather told me the same.",
    "Great page, I will come back.",
    "The link at the top is broken.",
)
_SMALL_PRINT = (
    "All rights reserved.",
    "Imprint and privacy policy.",
    "Made with love and coffee.",
    "Best viewed in 800x600.",
)
