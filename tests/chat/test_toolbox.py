import pytest

from crawl2chat.chat.toolbox import BUILT_IN, CALCULATOR, built_in, python_tool, search_tool, tool_of
from crawl2chat.chat.tools import call, carry_out, offer_form, opening
from crawl2chat.evals.suites import sandbox
from crawl2chat.search import open_index
from crawl2chat.stages.files import StageError


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    (folder / "mill.txt").write_text("The mill opens at nine.")
    return open_index(folder)


def test_tools_are_described_in_the_form_of_openais_api(index):
    for tool in built_in(["search", "calculator"], index).values():
        function = tool.definition["function"]
        assert tool.definition["type"] == "function"
        assert set(function["parameters"]["required"]) <= set(function["parameters"]["properties"])
        assert function["description"]


def test_a_function_becomes_a_tool_by_its_signature():
    def double(asked, number, unit=""):
        """Doubles it."""
        return number * 2 + unit

    tool = tool_of("double", double)
    assert tool.definition["function"]["description"] == "Doubles it."
    assert tool.parameters["required"] == ["number"]
    assert set(tool.parameters["properties"]) == {"number", "unit"}
    assert carry_out(call("double", number="4")["tool_calls"][0], {"double": tool}, "") == "44"
    assert carry_out(call("double", of="4")["tool_calls"][0], {"double": tool}, "").startswith(
        "The tool double does not"
    )


def test_a_search_looks_for_the_question_where_the_model_writes_no_query(index):
    tools = {"search": search_tool(index)}
    assert carry_out(call("search")["tool_calls"][0], tools, "mill opens?").startswith("[1] Page (mill.txt): The mill")
    assert carry_out(call("search", query="Orson Kovats")["tool_calls"][0], tools, "") == "Nothing found."
    assert carry_out(call("search", query=3)["tool_calls"][0], tools, "") == "query: expected a text"


@pytest.mark.parametrize(
    ("names", "problem"), [(["search"], "nothing to look in"), (["shell"], "'shell' is not one of")]
)
def test_tools_that_there_are_not_are_refused(names, problem):
    with pytest.raises(StageError, match=problem):
        built_in(names)


def test_python_runs_in_the_sandbox_and_says_how_it_ended():
    if not sandbox.isolated():
        pytest.skip("no sandbox here")
    tool = python_tool()
    assert tool("", code="print('a')\n2**10") == "a\n1024"
    assert "ZeroDivisionError" in tool("", code="1/0")
    assert tool("", code="x = 1") == "Done; nothing was printed."
    assert len(tool("", code="print('x' * 10**5)")) < 3000


def test_python_is_refused_without_a_sandbox(monkeypatch):
    monkeypatch.setattr(sandbox, "_find_way", lambda: (None, "namespaces: denied"))
    with pytest.raises(StageError, match="namespaces: denied"):
        built_in(BUILT_IN[2:])


def test_tools_are_offered_as_the_model_reads_them(tokenizer):
    tools = {"calculator": CALCULATOR}
    assert [m["content"] for m in opening(tools, "names", "Be kind.")] == ["Tools: calculator.", "Be kind."]
    (first,) = opening(tools, "functions", "Be kind.")
    assert first["content"] == "Be kind."
    assert first["tools"] == [CALCULATOR.definition]
    assert "Works out sums" in tokenizer.decode(tokenizer.encode_chat([first])[0])
    assert opening(tools, None, None) == []
    assert offer_form("honesty", None, tokenizer) == offer_form("import", "names", tokenizer) == "names"
    assert offer_form("import", None, tokenizer) == "functions"
