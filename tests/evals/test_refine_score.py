from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crawl2chat.evals.refine_score import compare_words, score
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.stage import refine
from crawl2chat.stages.figures import Figure
from crawl2chat.tinyweb.ledger import LeakedQuestion, Ledger, PageTruth

SECRET = "anna@mill.example"
QUESTION = "What did the miller find?"


def page(name: str, text: str, reason: str | None = None, **more: object) -> PageTruth:
    outcome = "drop" if reason else "keep"
    return PageTruth(name, "story", text, outcome, reason, site="blog", **more)  # type: ignore[arg-type]


PAGES = [
    page("good", "the miller went home"),
    page("lost", "the river was high"),
    page("spam", "cheap shoes", "keyword_stuffing"),
    page("advert", "cheap boats", "keyword_stuffing"),
    page("told", f"write to {SECRET}", pii=[SECRET]),
    page("mirror", f"write to {SECRET}", "duplicate", duplicate_of="told", pii=[SECRET]),
    page("leak", f"{QUESTION} a hat", "contaminated"),
]


def write_ledger(crawl: Path) -> None:
    leaks = [LeakedQuestion(QUESTION, "a hat", ["leak"]), LeakedQuestion("Which inn?", "none", [])]
    Ledger([], [], [], [], [], [], [], [], leaks, PAGES).save(crawl / "ledger")


def write_results(out: Path, documents: dict[str, str], rejects: dict[str, tuple[str, str | None]]) -> None:
    """documents: url → text; rejects: url → step and the url of the copy that stayed."""
    for table, rows in (
        ("documents", [{"id": f"id {url}", "url": url, "text": text} for url, text in documents.items()]),
        (
            "rejects",
            [
                {"url": url, "step": step, "reason": "some", "copy_of": kept and f"id {kept}"}
                for url, (step, kept) in rejects.items()
            ],
        ),
    ):
        (out / table).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), out / table / "part-00000.parquet")


@pytest.fixture
def scored(tmp_path: Path) -> dict[str, Figure]:
    write_ledger(tmp_path)
    write_results(
        tmp_path,
        {
            "good": "# the miller\n\n- went | away",
            "mirror": "write to email@example.com",  # stayed in place of its original
            "advert": "cheap boats",
            "leak": f"{QUESTION}  a hat",
        },
        {"lost": ("c4", None), "spam": ("gopher_quality", None), "told": ("near_duplicates", "mirror")},
    )
    return {figure.name: figure for figure in score(tmp_path, tmp_path, masked=2)}


def test_drops_are_scored_page_by_page_and_either_of_two_copies_may_stay(scored):
    assert (scored["drop_precision"].value, scored["drop_precision"].count) == (2 / 3, 3)
    assert (scored["drop_recall"].value, scored["drop_recall"].count) == (2 / 4, 4)
    assert scored["drop_recall/keyword_stuffing"].value == 0.5
    assert scored["drop_recall/duplicate"].value == 1
    assert scored["wrongly_dropped/c4"].value == 1
    assert not any(name == "wrongly_dropped/near_duplicates" for name in scored)


def test_texts_are_compared_as_bags_of_words_without_marks_of_markup(scored):
    assert compare_words(["a", "a", "b"], ["a", "b", "b", "c"]) == (2 / 3, 2 / 4, 4 / 7)
    assert compare_words([], []) == (1, 1, 1)
    assert compare_words(["a"], []) == (0, 0, 0)
    # three of four words of the one page, all of the three others; masked addresses are no difference
    assert scored["text_f1"].value == pytest.approx((0.75 + 3) / 4)
    assert scored["text_f1"].count == scored["text_f1/blog"].count == 4


def test_pairs_addresses_and_leaked_questions_are_counted(scored):
    assert scored["duplicate_pairs_f1"].value == scored["duplicate_pairs_recall"].value == 1
    assert (scored["pii_recall"].value, scored["pii_recall"].count) == (1, 1)
    assert (scored["pii_precision"].value, scored["pii_precision"].count) == (0.5, 2)
    assert (scored["leaked_questions_caught"].value, scored["leaked_questions_caught"].count) == (0, 1)


def test_an_address_that_stays_and_a_pair_that_is_none_are_told(tmp_path):
    write_ledger(tmp_path)
    write_results(
        tmp_path,
        {"told": f"write to {SECRET}", "good": "the miller went home"},
        {"lost": ("near_duplicates", "good"), "mirror": ("exact_duplicates", "told"), "leak": ("decontaminate", None)},
    )
    found = {figure.name: figure.value for figure in score(tmp_path, tmp_path, masked=0)}
    assert found["pii_recall"] == 0
    assert found["duplicate_pairs_precision"] == 0.5
    assert found["duplicate_pairs_f1"] == pytest.approx(2 / 3)
    assert found["leaked_questions_caught"] == 1


def test_the_stage_scores_a_fictional_web_and_no_other(crawl_folder, tmp_path):
    figures = {figure.name: figure for figure in refine(crawl_folder, tmp_path / "a", RefineSettings(workers=1))}
    assert figures["text_f1"].value > 0.97
    assert figures["pii_recall"].value == 1
    assert figures["drop_precision"].value > 0.9
    files = sorted((crawl_folder / "warc").iterdir())
    figures = {figure.name: figure for figure in refine(files[0], tmp_path / "b", RefineSettings(workers=1))}
    assert not any(name.startswith(("drop_", "text_", "pii_")) for name in figures)
