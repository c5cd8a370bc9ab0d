"""The web app: the files of its pages (`serve/web`), and the endpoints that they use in addition to OpenAI's API."""

import base64
import hashlib
import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from crawl2chat.serve.app.base import BasePage
from crawl2chat.serve.app.chat import ChatPage
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.app.data import DataPage
from crawl2chat.serve.app.home import HomePage
from crawl2chat.serve.app.honesty import HonestyPage
from crawl2chat.serve.app.inside import InsidePage
from crawl2chat.serve.app.lecture import LecturePage
from crawl2chat.serve.app.preferences import PreferencesPage
from crawl2chat.serve.app.ranking import RankingPage
from crawl2chat.serve.app.rollouts import RolloutsPage
from crawl2chat.serve.app.runs import RunsPage
from crawl2chat.serve.app.sampling import SamplingPage
from crawl2chat.serve.app.thinking import ThinkingPage
from crawl2chat.serve.app.tokens import TokensPage
from crawl2chat.serve.app.training import TrainingPage
from crawl2chat.serve.http import routes_of
from crawl2chat.serve.middleware import PAGES

WEB = Path(__file__).parent.parent / "web"
INLINE = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)
YEAR = 365 * 24 * 3600
PAGE_KINDS = (
    HomePage, LecturePage, DataPage, TokensPage, TrainingPage, BasePage, SamplingPage, InsidePage, ChatPage,
    HonestyPage, ThinkingPage, RolloutsPage, RankingPage, PreferencesPage, RunsPage,
)  # fmt: skip


def page_routes(context: AppContext) -> list[BaseRoute]:
    """Of the pages and their files, and of what the pages ask.

    Raises StageError for files of prompts or guidelines that can't be used.
    """
    pages = [kind(context) for kind in PAGE_KINDS]
    return [
        *(Route(path, _index) for path in PAGES),
        Mount("/web", GZipMiddleware(_Files(directory=WEB))),
        *routes_of(context),
        *(route for page in pages for route in routes_of(page)),
    ]


async def _index(request: Request) -> Response:
    """The one page that all addresses show; its script reads the address."""
    html = (WEB / "index.html").read_text(encoding="utf-8")
    return Response(html, media_type="text/html", headers=_headers(html))


def _headers(html: str) -> dict[str, str]:
    """Nothing is loaded from elsewhere, nothing inline is run but the import map, and no other page frames ours."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in INLINE.findall(html)
    )
    policy = (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }  # fmt: skip


class _Files(StaticFiles):
    """The pages' files. Vendored ones have their version in their names; ours are asked about each time."""

    def file_response(
        self, full_path: Any, stat_result: Any, scope: MutableMapping[str, Any], status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        vendored = Path(full_path).parent.name == "vendor"
        response.headers["Cache-Control"] = f"max-age={YEAR}, immutable" if vendored else "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
