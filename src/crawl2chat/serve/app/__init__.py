"""The web app's endpoints: what its pages ask beside OpenAI's API. The pages themselves are in `serve/web`."""

from crawl2chat.serve.app.house import House
from crawl2chat.serve.app.routes import page_routes

__all__ = ["House", "page_routes"]
