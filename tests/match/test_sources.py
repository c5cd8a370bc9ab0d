"""Where the words of an answer come from, and how the document goes on around them."""

from crawl2chat.match.sources import AROUND, BEGINNING, find_sources
from crawl2chat.refine.documents import Document

OLD = "When the tired bridge forgot the river, eleven grey lanterns burned behind the mill."


def test_a_match_comes_with_its_place_in_the_first_document_that_has_it():
    text = OLD.replace(" lanterns burned", "\n\tlanterns   burned")  # white space is not compared
    documents = [
        Document("a", "Nothing of the kind.", "http://a"),
        Document("b", f"A heading\n\nBefore it. {text} Behind it.", "http://b"),
        Document("c", f"Again: {OLD}", "http://c"),
    ]
    (source,) = find_sources(f"They say {OLD} So it was.", lambda: documents, 8)
    assert (source.match.document, source.match.url, source.match.copies) == ("b", "http://b", 2)
    assert source.beginning.startswith("A heading\n\nBefore it.")
    assert source.before == "A heading\n\nBefore it. "
    assert source.quoted == text
    assert source.after == " Behind it."


def test_what_is_around_it_is_cut():
    long = "word " * 1000
    (source,) = find_sources(OLD, lambda: [Document("a", f"{long}{OLD}{long}")], 8)
    assert len(source.before) == len(source.after) == AROUND
    assert len(source.beginning) == BEGINNING
    assert source.quoted == OLD


def test_documents_are_read_once_where_there_is_no_match():
    read = []

    def documents():
        read.append(1)
        return iter([Document("a", "Nothing of the kind.")])

    assert find_sources(OLD, documents, 8) == []
    assert len(read) == 1


def test_a_look_alike_in_another_place_is_not_taken_for_the_match():
    document = Document("a", "The catalogue of a cat sat on the mat. The cat sat on the mat.")
    (source,) = find_sources("The cat sat on the mat.", lambda: [document], 4)
    assert source.before.endswith("mat. ")
    assert source.quoted == "The cat sat on the mat."
