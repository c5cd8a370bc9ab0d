"""What the page Data asks of the server, on a run, on one without documents, and on a model alone."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from pages_run import EVIL, EVIL_URL, EXACT_URL, N_GOOD, SHORT_URL, STAYED_URL, write_pages_run

from crawl2chat.refine.funnel import read_funnel
from crawl2chat.refine.rules import Text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_pages_run(tmp_path_factory.mktemp("runs") / "laptop")


@pytest.fixture(scope="module")
def served(serve, run):
    return serve(run)


def ask(served, what, status=200, **body):
    answer = served.http.post(f"/app/data/{what}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def row_of(served, table, url):
    found = [row for row in ask(served, "list", table=table, find=url)["rows"] if row["url"] == url]
    assert found, url
    return found[0]["row"]


def tensors(answer):
    length = int.from_bytes(answer.content[:4], "little")
    header = json.loads(answer.content[4 : 4 + length])
    arrays = {
        a["name"]: np.frombuffer(answer.content, a["dtype"], int(np.prod(a["shape"])), 4 + length + a["offset"])
        for a in header["arrays"]
    }
    return header, arrays


def test_the_funnel_is_the_runs_and_names_every_threshold(served, run):
    about = served.http.get("/app/data/about").json()
    table = read_funnel(run / "refine")
    assert (about["pages"], about["faults"], about["kept"]) == (table["pages"], 1, table["kept"])
    reasons = {(row["step"], row["reason"]): row["pages"] for row in about["rows"] if row["pages"]}
    assert reasons["gopher_quality", "too_few_words"] == reasons["language", "other_language"] == 1
    assert reasons["exact_duplicates", "copy"] == reasons["near_duplicates", "copy"] == reasons["read", "bad_http"] == 1
    rules = {rule["reason"]: rule for rule in about["rules"]}
    assert (rules["too_few_words"]["threshold"], rules["too_few_words"]["at_least"]) == (50, True)
    assert rules["top_2_gram"]["name"] == "gopher_repetition.max_top_ngrams.2"


def test_rows_come_a_page_at_a_time_and_can_be_filtered(served):
    first = ask(served, "list", table="kept", limit=10)
    assert first["total"] == N_GOOD + 1
    assert [row["row"] for row in first["rows"]] == list(range(10))
    last = ask(served, "list", table="kept", offset=N_GOOD, limit=10)["rows"]
    assert [row["url"] for row in last] == [EVIL_URL]
    assert ask(served, "list", table="kept", offset=10**6)["rows"] == []
    dropped = ask(served, "list", table="dropped", step="gopher_quality", reason="too_few_words")
    assert [row["url"] for row in dropped["rows"]] == [SHORT_URL]
    assert dropped["rows"][0]["value"] == 12
    assert ask(served, "list", table="dropped", find="COPIES.example")["total"] == 1
    assert "limit" in ask(served, "list", status=400, table="kept", limit=10**6)["error"]["message"]
    assert "table" in ask(served, "list", status=400, table="all")["error"]["message"]


def test_a_kept_page_has_its_document_and_its_way_through_the_steps(served):
    row = row_of(served, "kept", STAYED_URL)
    page = ask(served, "page", table="kept", row=row)
    live = ask(served, "inspect", table="kept", row=row)
    assert live["text"] == page["text"]
    assert live["as_in_the_run"]
    assert (page["copies"], page["copy_of"], live["status"]) == (2, None, 200)
    assert [step["step"] for step in live["steps"]][:4] == ["url", "response", "extract", "language"]
    values = {value["reason"]: value for step in live["steps"] for value in step["values"]}
    assert values["too_few_words"]["value"] == len(Text.of(page["text"]).words)
    assert len(values) == 28
    assert all(value["keeps"] for value in values.values())
    assert "".join(part["text"] for part in live["source"]).startswith("<!doctype html>")
    assert [part["text"] for part in live["source"] if part["kept"]] == page["text"].split("\n\n")
    assert ask(served, "page", status=400, table="kept", row=N_GOOD + 1)["error"]["param"] == "row"


def test_a_dropped_page_has_its_reason_with_value_and_limit(served):
    row = row_of(served, "dropped", SHORT_URL)
    page = ask(served, "page", table="dropped", row=row)
    assert (page["step"], page["reason"], page["value"]) == ("gopher_quality", "too_few_words", 12)
    live = ask(served, "inspect", table="dropped", row=row)
    last = live["steps"][-1]
    assert last["limit"] == {"name": "gopher_quality.min_words", "value": "50"}
    assert [value["reason"] for value in last["values"] if not value["keeps"]] == ["too_few_words"]
    assert live["not_taken"][0] == "gopher_repetition"
    assert live["as_in_the_run"]


def test_a_fault_says_that_there_is_no_page(served):
    row = row_of(served, "dropped", "https://host0.example.org/broken")
    told = ask(served, "inspect", status=409, table="dropped", row=row)
    assert "bad_http" in told["error"]["message"]


def test_hostile_pages_are_sent_as_text_in_json_alone(served):
    row = row_of(served, "kept", EVIL_URL)
    answer = served.http.post("/app/data/inspect", json={"table": "kept", "row": row})
    assert answer.headers["content-type"] == "application/json"
    live = answer.json()
    assert EVIL in "".join(part["text"] for part in live["source"])
    assert EVIL in live["text"]


def test_copies_stand_beside_their_document(served):
    clusters = ask(served, "clusters")
    assert (clusters["total"], clusters["copies"]) == (1, 2)
    row = clusters["rows"][0]["row"]
    assert clusters["rows"][0]["url"] == STAYED_URL
    copies = ask(served, "copies", row=row)["rows"]
    assert {copy["step"] for copy in copies} == {"exact_duplicates", "near_duplicates"}
    sides = {copy["step"]: ask(served, "compare", kept=row, copy_row=copy["row"]) for copy in copies}
    assert sides["exact_duplicates"]["urls"] == [STAYED_URL, EXACT_URL]
    for side in sides.values():
        (changed,) = [row for row in side["rows"] if row[0] != row[1]]
        assert [[text.strip() for text, differs in one if differs] for one in changed] == [["that"], ["the"]]
    page = ask(served, "page", table="dropped", row=copies[0]["row"])
    assert page["copy_of"] == row
    other = row_of(served, "dropped", SHORT_URL)
    assert "not a copy" in ask(served, "compare", status=400, kept=row, copy_row=other)["error"]["message"]


def test_values_of_a_rule_are_those_of_the_documents_and_of_what_it_dropped(served, run):
    answer = served.http.post("/app/data/values", json={"reason": "too_few_words"})
    header, arrays = tensors(answer)
    texts = pq.read_table(run / "refine" / "documents", columns=["text"])["text"].to_pylist()
    assert arrays["kept_rows"].tolist() == list(range(len(texts)))
    assert arrays["kept_values"].tolist() == [len(Text.of(text).words) for text in texts]
    assert arrays["dropped_values"].tolist() == [12]
    assert (header["threshold"], header["kept"], header["measured"], header["dropped"]) == (
        50,
        N_GOOD + 1,
        N_GOOD + 1,
        1,
    )
    again = served.http.post("/app/data/values", json={"reason": "too_few_words"})
    assert again.content == answer.content
    told = ask(served, "values", status=400, reason="copy")
    assert "no rule with a threshold" in told["error"]["message"]


def test_search_finds_documents_and_writes_nothing_into_the_run(served, run):
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    found = ask(served, "search", query="what hintas said of mallor", limit=3)["passages"]
    document = ask(served, "page", table="kept", row=found[0]["row"])
    assert document["url"] == found[0]["url"]
    assert "mallor" in found[0]["text"]
    assert found[0]["text"].split("\n")[0] in document["text"]
    assert ask(served, "search", query="Who is Xenophania?")["passages"] == []
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == before


def test_pages_on_other_machines_are_not_asked_for(serve, run, tmp_path):
    shutil.copytree(run / "refine", tmp_path / "refine")
    (tmp_path / "crawl").mkdir()
    place = "https://data.example/a.warc.gz"
    (tmp_path / "crawl" / "warcs.json").write_text(json.dumps([{"place": place}]))
    table = pq.read_table(tmp_path / "refine" / "documents")
    rows = [row | {"place": row["place"] | {"warc": place}} for row in table.to_pylist()]
    for file in (tmp_path / "refine" / "documents").iterdir():
        file.unlink()
    pq.write_table(
        type(table).from_pylist(rows, table.schema), tmp_path / "refine" / "documents" / "part-00000.parquet"
    )
    told = ask(serve(tmp_path), "inspect", status=409, table="kept", row=0)["error"]["message"]
    assert "lies on another machine, which the app does not ask" in told


def test_what_is_missing_is_named(serve, run, tmp_path):
    alone = serve(tmp_path, is_run=False)
    told = alone.http.get("/app/data/about")
    assert (told.status_code, "one model and not a run" in told.text) == (409, True)
    fresh = serve(tmp_path)
    assert "the stage refine writes them" in fresh.http.get("/app/data/about").text
    shutil.copytree(run / "refine", tmp_path / "refine")
    assert fresh.http.get("/app/data/about").json()["kept"] == N_GOOD + 1
    assert "folder crawl is missing" in ask(fresh, "inspect", status=409, table="kept", row=0)["error"]["message"]
    funnel = tmp_path / "refine" / "funnel.json"
    funnel.write_text(json.dumps(read_funnel(tmp_path / "refine") | {"pages": 7}))  # the stage was made again
    assert fresh.http.get("/app/data/about").json()["pages"] == 7
