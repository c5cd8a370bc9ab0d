"""The routes of the web app: its files, and the endpoints of each page."""

import base64
import hashlib
import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from crawl2chat.serve.app import chat, inside, ranking, sampling, tokens
from crawl2chat.serve.app.house import House
from crawl2chat.serve.guards import PAGES

WEB = Path(__file__).parent.parent / "web"
INLINE = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)
YEAR = 365 * 24 * 3600


def page_routes(house: House) -> list[BaseRoute]:
    """Of the pages and their files, and of what the pages ask."""

    async def about(request: Request) -> Response:
        return JSONResponse(house.about())

    return [
        *(Route(path, _index) for path in PAGES),
        Mount("/web", GZipMiddleware(_Files(directory=WEB))),
        Route("/app/about", about),
        *tokens.routes(house),
        *sampling.routes(house),
        *inside.routes(house),
        *chat.routes(house),
        *ranking.routes(house),
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
