"""The page Sampling: which token comes next, before and after the controls, and going on from any of them."""

from crawl2chat.serve.app.sampling.routes import routes

__all__ = ["routes"]
