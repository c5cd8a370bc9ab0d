import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.honesty.search import MAX_WORDS, NOTHING_FOUND, Passage, SearchIndex, build_index, shown
from crawl2chat.refine.documents import Document
from crawl2chat.stages.files import StageError

DOCUMENTS = [
    Document("1", "People of the week\nZoë Vulbar was born in Telm.\nAda Vulbar keeps a goat.", "http://www.a.example/x.html"),
    Document("2", "The mill\nZoë went away, said Mr Vulbar, who is a baker and owns a mill near the bridge.", "https://b.example/y"),
]  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    file = tmp_path_factory.mktemp("index") / "search.sqlite"
    assert build_index(DOCUMENTS, file) == 5
    return SearchIndex(file)


def test_the_paragraph_with_the_rarest_word_is_found_with_its_page(index):
    telm = Passage(1, "Zoë Vulbar was born in Telm.")
    assert index.find("zoe vulbar born") == telm
    assert index.find("In which town was Zoë Vulbar born?") == telm
    assert index.search("Vulbar?", query="born") == "Page 1: Zoë Vulbar was born in Telm.\nborn"
    assert index.search("Who owns a mill?").startswith("Page 2: Zoë went away")


def test_a_page_is_known_by_its_number(index):
    assert index.address(1) == "http://www.a.example/x.html"
    assert index.address(99) is None


def test_a_document_is_found_by_its_address_and_read_where_it_answers(index):
    assert index.passage_of("http://www.a.example/x.html", "What pet?", ["goat"]) == Passage(
        1, "Ada Vulbar keeps a goat."
    )
    assert index.passage_of("http://www.a.example/x.html", "What?", ["mill"]) is None
    assert index.passage_of("http://elsewhere.example", "What?", ["goat"]) is None


def test_an_index_may_lie_anywhere(tmp_path):
    folder = tmp_path / "odd #1? 100%"
    folder.mkdir()
    build_index(DOCUMENTS, folder / "search.sqlite")
    assert SearchIndex(folder / "search.sqlite").find("mill")


def test_nothing_is_found_about_a_name_that_is_on_no_page(index):
    assert index.search("Where was Zoë Nobody born?") == NOTHING_FOUND
    assert index.search("?!") == NOTHING_FOUND


@given(query=st.text(max_size=40))
def test_no_query_is_an_error(index, query):
    index.find(query)


@pytest.mark.parametrize("query", ['"', "a OR b", "NEAR(a b)", "text:mill", "mill*", "-mill", "') --"])
def test_what_looks_like_an_operator_is_words(index, query):
    index.find(query)


def test_a_query_that_is_no_text_is_refused(index):
    with pytest.raises(ValueError, match="expected a text"):
        index.search("x", query=3)


def test_a_passage_is_cut_to_what_a_context_can_hold():
    text = shown("What?", Passage(1, "word " * 500))
    assert text.endswith("word …\nWhat?")
    assert text.count("word") == MAX_WORDS


def test_equal_documents_make_an_equal_file(tmp_path):
    for name in ("one", "two"):
        build_index(DOCUMENTS, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_missing_index_is_named(tmp_path):
    with pytest.raises(StageError, match=r"search\.sqlite: no search index"):
        SearchIndex(tmp_path / "search.sqlite")
