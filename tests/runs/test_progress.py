"""How long a run will take, told beforehand and while it runs."""

import json
import threading

import pytest
from conftest import CHAPTER

from phenomena.runs.execute import progress
from phenomena.runs.execute.progress import Expected, Told, expected, left


def test_without_a_run_the_edition_s_cost_counts_for_its_seeds(project):
    chapter = project.chapter("toy")
    cost = expected(project, chapter, chapter.resolve())
    assert (cost.seconds, cost.told, cost.sections) == (3, "about 3 s on one core", {})
    assert expected(project, chapter, chapter.resolve(overrides={"seeds": 30})).seconds == 30
    smoke = CHAPTER["editions"]["smoke"]["cost"]["seconds"]
    assert expected(project, chapter, chapter.resolve("smoke", {"seeds": 4})).seconds == 2 * smoke


def test_the_nearest_run_counts_for_its_seeds(ran):
    chapter = ran.chapter("toy")
    records = [r.model_copy(update={"seconds": {"total": 50.0, "overhead": 2.0, "Run": 48.0}})
               for r in progress.earlier(ran, chapter) if r.edition == "default"]  # fmt: skip
    twice = expected(ran, chapter, chapter.resolve(overrides={"seeds": 6}), records)
    assert (twice.seconds, twice.sections) == (100, {"Run": 96})
    assert twice.told == "about 1 min 40 s, going by a run at hand"
    smoke = expected(ran, chapter, chapter.resolve("smoke"), records)  # of which the run is none
    assert (smoke.seconds, smoke.told) == (2, "about 2 s on one core")
    assert expected(ran, chapter, chapter.resolve("smoke")).told.endswith("going by a run at hand")


COST = Expected(100.0, "", {"start": 0.0, "Data": 10.0, "Run": 60.0, "Rest": 30.0})


@pytest.mark.parametrize(
    ("spent", "now", "here", "seconds"),
    [
        ({"start": 0}, "start", 0, 100),
        ({"start": 0, "Data": 10, "Run": 0}, "Run", 0, 90),  # as expected
        ({"start": 0, "Data": 25, "Run": 0}, "Run", 0, 2 * 90),  # (25 + 5) / (10 + 5) as slow
        (
            {"start": 0, "Data": 10, "Run": 20},
            "Run",
            100,
            100 + 30 * 135 / 75,
        ),  # a part that tells better
        ({"start": 0, "Data": 10, "Run": 60, "Rest": 31}, "Rest", 0, 0),  # longer than expected
    ],
)
def test_the_time_left_is_that_of_the_whole_run(spent, now, here, seconds):
    assert left(COST, spent, now, here) == pytest.approx(seconds, abs=1.5)


def test_without_sections_the_whole_is_one():
    assert left(Expected(100.0, ""), {"Data": 5.0, "Run": 15.0}, "Run") == pytest.approx(80, abs=1)
    assert left(Expected(100.0, ""), {"Data": 5.0, "Run": 15.0}, "Run", here=300) == 300


class Ends:
    """An event that is set after so many waits."""

    def __init__(self, waits):
        self.waits, self.asked = waits, []

    def wait(self, seconds):
        self.asked.append(seconds)
        self.waits -= 1
        return self.waits < 0


def test_a_log_gets_a_line_now_and_then(tmp_path, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    path = tmp_path / "progress.json"
    told, stop = Told("toy", COST.__class__(100.0, "about 1 min 40 s on one core", COST.sections), path), Ends(3)
    told.enter("Run")
    path.write_text(json.dumps({"label": "measuring", "done": 3, "total": 10}))
    look = told.look

    def later():
        clock[0] += 30
        return look()

    monkeypatch.setattr(told, "look", later)
    progress._lines(told, stop)
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "toy: about 1 min 40 s on one core"
    assert lines[0].startswith("toy: 30 s, measuring 3 of 10, about ") and lines[0].endswith(" left")
    assert stop.asked == [30, 15, 30, 45]  # ever more rarely


def test_a_short_run_is_quiet_in_a_log(tmp_path, capsys):
    progress._lines(Told("toy", Expected(3.0, "about 3 s"), tmp_path / "none"), Ends(0))
    assert capsys.readouterr().err == ""


def test_where_nobody_watches_nothing_is_followed(tmp_path):
    before = threading.active_count()
    with progress.shown("toy", None, tmp_path / "progress.json") as (told, environment):
        assert (told, environment, threading.active_count()) == (None, {}, before)
