"""Settings of the base suite."""

from pydantic import Field

from crawl2chat.stages.settings import Settings

TIMES = "seconds/"  # begins the name of a part's last figure, the time that it took


class BaseSettings(Settings):
    """How much is asked of a base model; the defaults take less than a minute at laptop size."""

    seed: int = Field(0, ge=0, description="seed of what is sampled and asked")
    questions: int = Field(400, ge=1, description="number of questions of each kind; more give narrower intervals")
    samples: int = Field(
        64, ge=2, description="texts sampled at each temperature and each top-p, at most one per held-out document"
    )
    searched_tokens: int = Field(
        1_000_000_000,
        ge=1,
        description="maximum number of training tokens searched for copies; these take 8 minutes on one core",
    )
    archive_bytes: int = Field(40_000, ge=0, description="bytes of held-out text to archive and restore; 0: none")
