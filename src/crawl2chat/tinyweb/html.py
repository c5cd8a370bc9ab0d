"""Pages as real sites would serve them: navigation, scripts and notices, sloppy markup, many encodings."""

import html
import random
import re

from crawl2chat.tinyweb.chrome import Chrome
from crawl2chat.tinyweb.pages import Block, Page, Site, Template

# How a site says what its bytes are: encoding, HTTP's Content-Type, whether a meta tag names it.
ENCODINGS: tuple[tuple[str, str, bool], ...] = (
    ("utf-8", "text/html; charset=utf-8", True),
    ("utf-8", "text/html; charset=UTF-8", False),
    ("utf-8", "text/html", True),
    ("utf-8", "text/html; charset=utf-8", True),
    ("iso-8859-1", "text/html; charset=ISO-8859-1", False),
    ("iso-8859-1", "text/html", True),
    ("windows-1252", "text/html", True),
    ("utf-16", "text/html; charset=utf-16", False),
)


def render(page: Page, rng: random.Random) -> tuple[bytes, str]:
    """The page's bytes and its Content-Type."""
    site = page.site
    encoding, content_type, named = ENCODINGS[site.encoding]
    meta = f'<meta charset="{encoding}">' if named else ""
    chrome = Chrome(site.host, site.name, rng)
    head = f"<head>{meta}<title>{_escape(page.title, rng)} - {site.name}</title>{chrome.head()}</head>"
    main = _main_text(page, site, rng)
    body = _BODIES[site.template](chrome, f"<h1>{_escape(page.title, rng)}</h1>", main)
    doctype = rng.choice(_DOCTYPES[site.template])
    markup = f"{doctype}\n<html>\n{head}\n<body>\n{body}\n</body>\n</html>\n"
    if site.sloppy:
        markup = _make_sloppy(markup, rng)
    # what an encoding lacks is written as a character reference, as editors do
    return markup.encode(encoding, "xmlcharrefreplace"), content_type


def _main_text(page: Page, site: Site, rng: random.Random) -> list[str]:
    return [_block(block, site, rng) for block in page.blocks]


def _block(block: Block, site: Site, rng: random.Random) -> str:
    match block.tag:
        case "h2":
            return f"<h2>{_escape(block.text, rng)}</h2>"
        case "quote":
            return f"<blockquote><p>{_escape(block.text, rng)}</p></blockquote>"
        case "lines":
            lines = [_escape(line, rng) for line in block.text.split("\n")]
            return "<p>" + "<br>\n".join(lines) + "</p>"
        case "p":
            text = _decorate(_escape(block.text, rng), rng)
            return f"<p>{text}" if site.sloppy and rng.random() < 0.6 else f"<p>{text}</p>"


def _escape(text: str, rng: random.Random) -> str:
    """HTML's necessary references, and now and then needless ones, which editors love."""
    escaped = html.escape(text, quote=False)
    if rng.random() < 0.15:
        escaped = escaped.replace("'", "&#39;").replace("“", "&ldquo;").replace("”", "&rdquo;").replace("é", "&eacute;")
    return escaped


_PLAIN_WORD = re.compile(r"(?<=[a-z] )[a-z]{4,}(?= [a-z])")


def _decorate(text: str, rng: random.Random) -> str:
    """Set a word in bold or italics, or make it a link."""
    if rng.random() > 0.35:
        return text
    spots = list(_PLAIN_WORD.finditer(text))
    if not spots:
        return text
    spot = rng.choice(spots)
    word = spot[0]
    tag = rng.choice(
        (
            f"<b>{word}</b>",
            f"<em>{word}</em>",
            f'<a href="/tag/{word}">{word}</a>',
            f"<b><i>{word}</b></i>",
            f"<span>{word}</span>",
        )
    )
    return text[: spot.start()] + tag + text[spot.end() :]


def _make_sloppy(markup: str, rng: random.Random) -> str:
    """Capitals, missing quotes and stray end tags, as hand-made pages have them; never inside a text."""
    if rng.random() < 0.5:
        markup = re.sub(r"</?(p|td|tr|table|h1|br|b)\b", lambda m: m[0].upper(), markup)
    markup = re.sub(r'(class|id)="([\w-]+)"', r"\1=\2", markup)
    return markup.replace("</body>", "</font></div>\n</body>") if rng.random() < 0.5 else markup


def _blog(chrome: Chrome, heading: str, main: list[str]) -> str:
    return f"""<header class="site-header"><a class="logo" href="/">{chrome.site}</a>{chrome.nav()}</header>
{chrome.cookie_banner()}
<div class="container"><main><article class="post">
<header>{heading}</header>
<div class="entry-content">
{chrome.between(main)}
{chrome.posted()}
</div>
</article></main>
{chrome.sidebar()}
</div>
{chrome.comments()}
{chrome.footer("footer")}"""


def _newspaper(chrome: Chrome, heading: str, main: list[str]) -> str:
    return f"""{chrome.cookie_banner()}
<div id="masthead"><a href="/">{chrome.site}</a></div>
<nav class="main-nav">{chrome.links(8)}</nav>
<main id="content"><article>
{heading}
{chrome.byline()}{chrome.share_buttons()}
<div class="article-body">
{chrome.between(main)}
</div></article></main>
{chrome.related()}
{chrome.sidebar()}
{chrome.footer("footer")}"""


def _forum(chrome: Chrome, heading: str, main: list[str]) -> str:
    return f"""<div id="header"><div class="navbar">{chrome.links(6)}</div></div>
<div class="breadcrumbs">{chrome.links(3)}</div>
<div id="main" class="thread">
{heading}
<div class="post-content">
{chrome.between(main)}
</div>
</div>
{chrome.comments()}
{chrome.footer("div")}"""


def _wiki(chrome: Chrome, heading: str, main: list[str]) -> str:
    return f"""<div id="mw-navigation" class="navigation">{chrome.links(9)}</div>
<div id="content" class="mw-body" role="main">
{heading}
<div id="bodyContent">
{chrome.between(main)}
</div>
</div>
<div id="catlinks" class="catlinks navigation">{chrome.links(4)}</div>
{chrome.footer("footer")}"""


def _shop(chrome: Chrome, heading: str, main: list[str]) -> str:
    return f"""{chrome.cookie_banner()}
<header>{chrome.nav()}<form action="/search" class="search"><input name="q"><button>Search</button></form></header>
<div class="wrapper"><main class="product-page"><section class="story">
{heading}
{chrome.between(main)}
</section></main>
{chrome.related()}
</div>
{chrome.footer("footer")}"""


def _table(chrome: Chrome, heading: str, main: list[str]) -> str:
    rows = "\n".join(main)
    return f"""<table width=100% border=0 cellpadding=4>
<tr><td colspan=2 bgcolor=#ccccff><font size=5>{chrome.site}</font></td></tr>
<tr><td valign=top width=140 class="menu">{chrome.link_list()}</td>
<td valign=top><font face="Times">
{heading}
{rows}
</font></td></tr>
<tr><td colspan=2 class="footer" align=center><font size=1>{chrome.small_print()}</font></td></tr></table>"""


_BODIES = {"blog": _blog, "newspaper": _newspaper, "forum": _forum, "wiki": _wiki, "shop": _shop, "table": _table}

_HTML5 = ("<!DOCTYPE html>", "<!doctype html>")
_OLD = (
    '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN" "http://www.w3.org/TR/html4/loose.dtd">',
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">',
    "",
)
_DOCTYPES: dict[Template, tuple[str, ...]] = {
    "blog": _HTML5,
    "newspaper": _HTML5,
    "forum": (*_HTML5, *_OLD),
    "wiki": _HTML5,
    "shop": _HTML5,
    "table": _OLD,
}
