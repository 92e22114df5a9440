"""What was measured is judged against its bar, and told."""

from bench import bars, report
from bench.bars import BARS, Bar, Verdict
from bench.run import SECTIONS, Results

COST = Bar("cost", "×", 1.25, 1.1, "fanout/memory/1000/fast/cost", of="fanout/write() loop/1000/fast/cost")
RATE = Bar("rate", "events/s", 300_000, 1_000_000, "replay/lmdb/1/rate", least=True)


def test_a_ratio_is_of_two_figures_of_the_run() -> None:
    """8 against 4 is 2; without the baseline it was not measured."""
    assert COST.value({COST.figure: 8, str(COST.of): 4}) == 2
    assert COST.value({COST.figure: 8}) is None


def test_a_value_is_held_against_its_bar_and_its_stretch() -> None:
    """Less is better, unless more is; on the bar is within."""
    words = [Verdict(COST, value).word for value in (1.0, 1.25, 1.26, None)]
    assert words == ["stretch", "holds", "**missed**", "not measured"]
    assert [Verdict(RATE, value).word for value in (2e6, 3e5, 1e5)] == ["stretch", "holds", "**missed**"]


def test_a_short_run_judges_ratios_with_slack() -> None:
    """A ratio that is far off is found, a little noise and an absolute figure are not."""
    place = "fanout/{}/1000/fast/cost"
    figures = {place.format("memory"): 30.0, place.format("lmdb"): 13.0, place.format("write() loop"): 10.0}
    missed = bars.missed(figures | {"replay/lmdb/1/rate": 1.0})
    assert [bar.figure for bar in missed] == [place.format("memory")]


def test_every_bar_names_a_section_that_is_measured() -> None:
    """No row can stay empty because its figure's name is wrong."""
    assert {bar.section for bar in BARS} <= set(SECTIONS)


def test_the_tables_show_every_figure_and_every_failure() -> None:
    """A saturated server, a failed section and a missing baseline are told."""
    sample = {"cost": 8.1, "p50": 1, "p99": 2, "max": 3, "rate": 1234, "busy": 0.5, "complete": 1, "kept_up": 0}
    figures = {f"fanout/memory/1000/40/{what}": float(value) for what, value in sample.items()}
    results = Results(figures | {"publish/lmdb/16/rate": 5000.0}, {"herd": "RuntimeError: too slow"}, ["Nchan"])
    text = report.summary(results)
    assert "| 1,000       | 40/s    | memory | 8.10            |" in text
    assert "| 1,234    | 50%  | saturated |" in text
    assert "5,000" in text
    assert "**Failed**: herd: RuntimeError: too slow" in text
    assert "Nchan" in text
    assert all(bar.text in text for bar in BARS)


def test_new_bars_replace_the_old_ones() -> None:
    """Between the markers of the page, and nowhere else."""
    page = f"before\n{report.BARS_BEGIN}\nold\n{report.BARS_END}\nafter\n"
    assert report.spliced(page, "new\n") == page.replace("old", "new")
