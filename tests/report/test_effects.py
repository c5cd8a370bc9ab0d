"""Which effects show in several runs."""

from crawl2chat.report.compare import RunFigure
from crawl2chat.report.effects import effects_table


def figure(run, name, value, stage="reinforce", unit="share"):
    return RunFigure(run, 0, stage, name, value, unit, None, None, None)


def test_an_effect_is_counted_over_the_runs_that_measured_it():
    rows = [
        *(figure("a", f"pass_at_1_{when}", value) for when, value in (("before", 0.5), ("after", 0.7))),
        *(figure("b", f"pass_at_1_{when}", value) for when, value in (("before", 0.6), ("after", 0.5))),
        figure("c", "pass_at_1_before", 0.6),
        *(figure("c", f"identity {when}", v, "honesty") for when, v in (("before", 0.0), ("after", 0.9))),
    ]
    header, identity, rewards = [line.split("  ") for line in effects_table(rows).splitlines()]
    assert [cell.strip() for cell in header if cell] == ["effect", "shows in", "difference"]
    assert [cell.strip() for cell in identity if cell] == ["the model learns who it is", "1 of 1", "90 points"]
    said, shown, difference = (cell.strip() for cell in rewards if cell)
    assert (said, shown) == ("rewards find more right answers", "1 of 2")
    assert difference.startswith("5 [-")  # the mean of +20 and −10 points, with an interval over two runs
    assert difference.endswith("points")


def test_nothing_is_said_of_runs_without_figures():
    assert effects_table([figure("a", "problems", 3.0, unit="")]) == ""
