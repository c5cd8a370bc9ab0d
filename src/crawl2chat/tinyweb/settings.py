"""Sizes of the fictional web."""

from pydantic import Field

from crawl2chat.stages.settings import Settings


class TinywebSettings(Settings):
    """How much of each kind the fictional web holds; by default 7,100 pages, of which 6,600 stay (9 MB of text)."""

    people: int = Field(300, ge=10, description="people with five facts each, who appear on 0, 1, 2, 4 ... 256 pages")
    passages_per_level: int = Field(
        6, ge=0, description="passages at each level of 4, 8 ... copies; six times as many at 1 and 2 copies"
    )
    passage_levels: int = Field(9, ge=1, le=9, description="number of levels of copies: 9 means 1, 2, 4 ... 256 copies")
    glossaries: int = Field(400, ge=0, description="pages that define invented words and then use them")
    word_games: int = Field(
        1500, ge=0, description="pages that repeat invented words and their meanings, a fifth of the tokens"
    )
    phrase_books: int = Field(60, ge=0, description="pages that translate into the world's invented language")
    interviews: int = Field(120, ge=0, description="interviews and pages of a helper who answers questions")
    stories: int = Field(400, ge=0, description="short stories, two per page")
    verses: int = Field(150, ge=0, description="rhymed verses, three per page")
    worked_sums: int = Field(6000, ge=0, description="sums worked digit by digit, three per page")
    direct_sums: int = Field(2250, ge=0, description="sums with the answer alone")
    held_out_sums: int = Field(600, ge=0, le=2000, description="problems that appear on no page, kept for testing")
    junk_pages: int = Field(520, ge=0, description="pages that must be dropped, over all reasons")
    personal_pages: int = Field(80, ge=0, description="pages to keep that contain e-mail or IP addresses to mask")
