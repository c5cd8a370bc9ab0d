"""Links between the documents lead to files and headings that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]
LINKS = [
    (str(document.relative_to(ROOT)), link)
    for document in DOCUMENTS
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8"))
    if "://" not in link
]


def anchors(document: Path) -> set[str]:
    """The names that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("document", "link"), LINKS)
def test_each_link_leads_somewhere(document, link):
    path, _, anchor = link.partition("#")
    target = (ROOT / document).parent / path if path else ROOT / document
    assert target.exists()
    assert not anchor or anchor in anchors(target)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name != "CHANGELOG.md"], ids=lambda d: d.name)
def test_each_file_that_is_named_exists(document):
    named = re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|toml|md|json|txt))`", document.read_text(encoding="utf-8"))
    missing = [
        name for name in named if not any((root / name).exists() for root in (ROOT, ROOT / "src" / "crawl2chat"))
    ]
    assert not missing


def test_every_example_is_named_in_their_readme_and_has_a_test():
    examples = {file.name for file in (ROOT / "examples").glob("*.py")}
    assert examples == {link for document, link in LINKS if document == "examples/README.md"}
    tests = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests" / "examples").glob("test_*.py"))
    assert examples == {name for name in examples if name in tests}


def test_there_are_links_to_test():
    assert {"README.md", "docs/tour.md"} <= {document for document, _ in LINKS}
