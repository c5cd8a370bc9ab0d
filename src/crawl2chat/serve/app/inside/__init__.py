"""What the page Inside asks for: passes through a model, and slices of them."""

from crawl2chat.serve.app.inside.endpoints import routes

__all__ = ["routes"]
