"""A chapter from end to end on one's own data: other sizes, another number of classes, names of one's own."""

from pathlib import Path

import numpy as np

from phenomena.runs.execute import runner
from phenomena.runs.store.chapters import Project


def test_a_chapter_runs_on_arrays_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PHENOMENA_DATA", str(tmp_path / "cache"))
    rng, y = np.random.default_rng(0), np.arange(180) % 3
    x = (rng.random((180, 12, 14)) * 0.5 + 0.25 * y[:, None, None] * (np.arange(14) > 6)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", x=x, y=np.array(["ant", "bee", "cat"])[y])
    project = Project(Path(__file__).parents[2])
    chapter = project.chapter("local_elasticity")
    own = {"dataset": f"npz:{tmp_path}/mine.npz", "test_samples": 10, "samples": 20, "collapse_classes": 3}
    parameters = chapter.resolve("smoke", own | {"test_samples": 10, "collapse_samples": 10})
    np.savez(tmp_path / "mine.npz", x=x[:2], y=y[:2])  # what was read is kept
    run, executed = runner.run(project, chapter, parameters, home=tmp_path / "runs")
    assert executed and run.record.parameters["dataset"].startswith("npz:mine.npz@")
    assert len(run.record.values["accuracy_p0"]) == 2
    data = {name: figure.data.decode() for name, figure in run.figures.items() if figure.data}
    assert any("bee" in table for table in data.values())
    assert not [p for p in (tmp_path / "runs").rglob("*") if p.is_file() and str(tmp_path).encode() in p.read_bytes()]
