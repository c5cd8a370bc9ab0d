"""Settings of the base suite."""

from pydantic import Field

from crawl2chat.recipe import Settings


class BaseSettings(Settings):
    """How much is asked of a base model; the defaults take less than a minute at laptop size."""

    seed: int = Field(0, ge=0, description="of what is drawn and asked")
    questions: int = Field(400, ge=1, description="questions of each kind; more give narrower intervals")
    samples: int = Field(
        64, ge=2, description="texts drawn at each temperature and each top-p, at most one a held-out document"
    )
    searched_tokens: int = Field(
        1_000_000_000,
        ge=1,
        description="of training text, at most, in which copies are looked for; 8 minutes on a core",
    )
    archive_bytes: int = Field(40_000, ge=0, description="of held-out text that is archived and restored; 0: none")
