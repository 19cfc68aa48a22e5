"""Figures: what is drawn, read back from axes; charts that move, rendered by Vega at every place of their controls."""

import ast
import itertools
import json
import re
from pathlib import Path

import altair as alt
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import vl_convert

from phenomena.science import frames, plots
from phenomena.statistics import interval


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


# Bands


def curves(**changed):
    """Two arms, three seeds, four steps; `changed` gives values to entries by their number."""
    frame = frames.tidy(np.arange(24.0).reshape(2, 3, 4) ** 1.5, "loss", arm=["b", "a"], seed=range(3), step=range(4))
    for place, value in changed.items():
        frame.loc[int(place[1:]), "loss"] = value
    return frame


def legend(ax):
    return ax.get_legend_handles_labels()[1]


def test_bands_are_mean_and_interval(ax):
    frame = curves()
    assert plots.bands(ax, frame, "step", "loss", "arm") is ax
    assert legend(ax) == ["b (n = 3)", "a (n = 3)"], "in the order of appearance"
    for line, band, arm in zip(ax.lines, ax.collections, "ba", strict=True):
        expected = np.array([interval(frames.select(frame, arm=arm, step=step)["loss"]) for step in range(4)])
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([range(4), expected[:, 0]]))
        edges = band.get_paths()[0].vertices
        for step, (_, low, high) in enumerate(expected):
            there = edges[edges[:, 0] == step, 1]
            assert (there.min(), there.max()) == pytest.approx((low, high))


def test_missing_seeds_and_nan_are_left_out_alike(ax):
    """Seed 1 of the first arm gives nan at step 2; or has no row there."""
    nan = curves(_6=np.nan)
    plots.bands(ax, nan, "step", "loss", "arm")
    assert legend(ax) == ["b (n = 2)", "a (n = 3)"], "n is the smallest over x"
    mean = nan.loc[[2, 10], "loss"].mean()
    assert ax.lines[0].get_ydata()[2] == pytest.approx(mean)
    figure, other = plt.subplots()
    plots.bands(other, nan.drop(index=6), "step", "loss", "arm")
    for first, second in zip(ax.lines, other.lines, strict=True):
        np.testing.assert_array_equal(first.get_xydata(), second.get_xydata())
    plt.close(figure)


def test_a_group_without_a_value_is_not_drawn_and_keeps_its_colour(ax):
    frame = curves(**{f"_{i}": np.nan for i in range(12)})
    plots.bands(ax, frame, "step", "loss", "arm", order=["b", "a"])
    assert legend(ax) == ["a (n = 3)"] and ax.lines[0].get_color() == "C1"
    assert ax.lines[0].get_marker() == plots.MARKERS[1]


def test_a_place_without_a_value_is_skipped(ax):
    plots.bands(ax, curves(_1=np.nan, _5=np.nan, _9=np.nan), "step", "loss", "arm")
    assert ax.lines[0].get_xdata().tolist() == [0, 2, 3] and ax.lines[1].get_xdata().tolist() == [0, 1, 2, 3]
    assert legend(ax)[0] == "b (n = 3)"


@pytest.mark.parametrize("joined", [True, False])
def test_one_seed_has_a_mean_and_no_interval(ax, joined):
    plots.bands(ax, frames.select(curves(), seed=1), "step", "loss", "arm", joined=joined)
    assert legend(ax) == ["b (n = 1)", "a (n = 1)"]
    ax.figure.canvas.draw()


def test_error_bars_where_places_have_no_order(ax):
    frame = curves().assign(step=lambda f: f["step"].map({0: "zero", 1: "one", 2: "two", 3: "three"}))
    plots.bands(ax, frame, "step", "loss", "arm", joined=False)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["zero", "one", "two", "three"]
    bars = ax.containers[0]
    assert bars.lines[0].get_linestyle() == "None"
    mean, low, high = interval(frames.select(frame, arm="b", step="two")["loss"])
    assert bars.lines[2][0].get_segments()[2][:, 1].tolist() == pytest.approx([low, high])
    assert bars.lines[0].get_ydata()[2] == pytest.approx(mean)


# Axes and samples


@pytest.mark.parametrize("x", ["step", "n", "mean", "place", "value"])
def test_points_are_means_with_intervals_whatever_the_column_is_called(ax, x):
    frame = (
        curves()
        .rename(columns={"step": x})
        .assign(place=lambda f: f.get("place", 7), value=lambda f: f.get("value", 7))
    )
    assert plots.points(ax, frame, x, "loss", "both", "k", trials=None) is ax
    assert legend(ax) == ["both (n = 6)"]
    expected = np.array([interval(part) for _, part in frame.groupby(x)["loss"]])
    (points,) = ax.containers
    np.testing.assert_allclose(points.lines[0].get_xydata(), np.column_stack([range(4), expected[:, 0]]))
    ends = [segment[:, 1] for segment in points.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, expected[:, 1:])
    plots.points(ax, frame, x, "loss", "", "k")
    assert len(legend(ax)) == 1, "no label, no place in the legend"


def test_label_axes(ax):
    plots.label_axes(ax, "time", "value", "title", chance=0.1)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("time", "value", "title")
    assert ax.lines[0].get_ydata() == [0.1, 0.1] and ax.texts[0].get_text() == "chance"


def test_panels_are_one_flat_list():
    figure, axes = plots.panels(3, 2, width=6, height=2)
    assert len(axes) == 6 and figure.get_size_inches().tolist() == [6, 4]
    assert [(a.get_subplotspec().rowspan.start, a.get_subplotspec().colspan.start) for a in axes] == [
        (row, column) for row in range(2) for column in range(3)
    ]
    plt.close(figure)


@pytest.mark.parametrize("shape", [(1, 40), (1, 8, 8), (3, 8, 8)])
def test_samples_beside_their_versions(ax, shape):
    sample, versions = torch.rand(shape), torch.rand(4, *shape)
    plots.samples(ax, sample, versions, "class 3")
    assert ax.get_title() == "class 3"
    if len(shape) == 2:
        drawn = [line.get_ydata() for line in ax.lines]
        np.testing.assert_array_equal(drawn, torch.cat([versions[:, 0], sample]).numpy())
    else:
        strip = np.asarray(ax.images[0].get_array()).reshape(8, 40, -1)
        np.testing.assert_array_equal(strip[:, :8], sample.permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(strip[:, 32:], versions[3].permute(1, 2, 0).numpy())


# Charts that move

RATES, ARMS = (0.1, 1.0, 10.0), ("mixup", "erm")
MOVING = frames.tidy(np.arange(24.0).reshape(3, 2, 4), "y", rate=RATES, arm=ARMS, x=range(4))
STILL = pd.DataFrame({"x": [0.0, 3.0], "y": [0.5, 30.0]})
X, Y = plots.Axis("position", (0, 3)), plots.Axis("value", (0, 30))


def chart(*layers, **changed):
    settings = {
        "x": X,
        "y": Y,
        "controls": {"rate": "Rate", "arm": "Arm"},
        "reading": lambda rate, arm: f"At {rate:g} <{arm}> “é”.",
    }
    return plots.slider(*layers or (plots.Layer(MOVING, "point"),), **settings | changed)


def parameters(spec):
    return {parameter["name"]: parameter for parameter in spec["params"]}


def shown(spec, **at):
    """The numbers of points and lines in the rendered chart and its reading, with the controls put at these values."""
    spec = json.loads(json.dumps(spec))
    for parameter in spec["params"]:
        if parameter["name"] in at:
            parameter["value"] = at[parameter["name"]]
    text = {"data": {"values": [{}]}, "mark": {"type": "text", "text": {"expr": "reading"}}}
    svg = vl_convert.vegalite_to_svg(spec | {"layer": [*spec["layer"], text]})
    rows = [tuple(map(float, pair)) for pair in re.findall(r'aria-label="position: ([\d.]+); value: ([\d.]+)', svg)]
    (said,) = re.findall(r">(At [^/]*)</text>", svg)
    return rows, said.replace("&lt;", "<").replace("&gt;", ">")


def test_every_place_of_the_controls_shows_its_rows_and_says_so():
    spec = chart().to_dict()
    for (i, rate), arm in itertools.product(enumerate(RATES), ARMS):
        rows, said = shown(spec, rate=i, arm=arm)
        wanted = frames.select(MOVING, rate=rate, arm=arm)
        assert sorted(rows) == list(zip(wanted["x"], wanted["y"], strict=True))
        assert said == f"At {rate:g} <{arm}> “é”."


def test_numbers_make_a_slider_and_texts_a_menu():
    shuffled = MOVING.sort_values(["x", "rate"], ascending=False)  # arms appear in the other order
    found = parameters(chart(plots.Layer(MOVING.iloc[:1]), plots.Layer(shuffled)).to_dict())
    assert list(found) == ["rate", "k0", "rate_ticks", "arm", "k1", "reading"]
    assert found["rate"]["bind"] == {"input": "range", "min": 0, "max": 2, "step": 1, "name": "Rate"}
    assert found["arm"]["bind"] == {"input": "select", "options": ["mixup", "erm"], "name": "Arm"}
    assert (found["rate"]["value"], found["arm"]["value"]) == (0, "mixup")
    assert found["rate_ticks"]["value"] == ["0.1", "1", "10"]


def test_areas_of_points_are_as_their_values_over_all_places_of_the_controls():
    sized = MOVING.assign(mass=MOVING["y"] + 1)  # 1 to 24
    spec = chart(plots.Layer(sized, "point", size="mass", largest=480)).to_dict()
    for at, expected in ((0, [20, 40, 60, 80]), (2, [340, 360, 380, 400])):
        for parameter in spec["params"]:
            parameter["value"] = {"rate": at}.get(parameter["name"], parameter.get("value"))
        svg = vl_convert.vegalite_to_svg(spec)
        radii = [float(r) for r in re.findall(r'aria-label="position: [^"]*" role[^>]*d="M([\d.]+),0A', svg)]
        assert [4 * r**2 for r in radii] == pytest.approx(expected, rel=0.01)  # Vega's size is the square around it


def test_layers_share_one_scale_of_colours():
    few, other = MOVING[MOVING["arm"] == "erm"], STILL.assign(arm="bound")
    layers = (plots.Layer(few, "point", colour="arm"), plots.Layer(other, "point", colour="arm"))
    spec = chart(*layers, controls={"rate": "Rate"}, reading=lambda rate: "At it").to_dict()
    assert [layer["encoding"]["color"]["scale"]["domain"] for layer in spec["layer"]] == [["erm", "bound"]] * 2


def test_a_control_does_not_take_a_name_of_vegas_own():
    wide = MOVING.rename(columns={"rate": "width"})
    spec = chart(plots.Layer(wide, "point"), controls={"width": "Width"}, reading=lambda width: "At it").to_dict()
    assert list(parameters(spec))[:3] == ["width_", "k0", "width__ticks"]
    assert len(shown(spec, width_=2)[0]) == 8


@pytest.mark.parametrize(
    ("start", "rate", "arm"),
    [
        ({"rate": 1.0, "arm": "erm"}, 1, "erm"),
        ({"rate": 0.9}, 1, "mixup"),
        ({"rate": 100}, 2, "mixup"),
        ({"rate": -5, "arm": "none"}, 0, "mixup"),
    ],
)
def test_controls_start_at_the_nearest_value(start, rate, arm):
    found = parameters(chart(start=start).to_dict())
    assert (found["rate"]["value"], found["arm"]["value"]) == (rate, arm)


def test_backgrounds_and_layers_without_the_column_stay():
    layers = (
        plots.Layer(STILL, "point"),
        plots.Layer(MOVING[MOVING["x"] == 2], "point", background=True),
        plots.Layer(MOVING[MOVING["x"] == 1], "point"),
    )
    spec = chart(*layers).to_dict()
    still = [*zip(STILL["x"], STILL["y"], strict=True), *((2.0, y) for y in MOVING[MOVING["x"] == 2]["y"])]
    for i, y in ((0, 1.0), (2, 17.0)):
        rows, _ = shown(spec, rate=i, arm="mixup")
        assert sorted(rows) == sorted([*still, (1.0, y)])
    assert ["transform" in layer for layer in spec["layer"]] == [False, False, True]


def test_a_layer_with_one_of_the_controls_follows_that_one():
    both = plots.Layer(MOVING, "point")
    rates = plots.Layer(frames.tidy([5.5, 6.5, 7.5], "y", rate=RATES).assign(x=0), "point")
    spec = chart(both, rates).to_dict()
    for arm in ARMS:
        assert (0.0, 6.5) in shown(spec, rate=1, arm=arm)[0]


@pytest.mark.parametrize("count", [1, 3])
def test_one_to_three_controls(count):
    wide = frames.tidy(np.arange(12.0).reshape(2, 2, 3), "y", rate=(0.1, 1.0), arm=ARMS, layer=(3, 2, 1)).assign(x=0.0)
    names = ["rate", "arm", "layer"][:count]
    spec = chart(
        plots.Layer(wide, "point"),
        controls={name: name for name in names},
        reading=lambda **at: "At " + ", ".join(f"{name} {value}" for name, value in at.items()),
    ).to_dict()
    rows, said = shown(spec, rate=1, arm="erm", layer=0)
    assert len(rows) == {1: 6, 3: 1}[count]
    assert said == {1: "At rate 1.0", 3: "At rate 1.0, arm erm, layer 1"}[count]


def test_numbers_of_one_value_in_several_layers_are_one_stop():
    whole = MOVING.assign(rate=MOVING["rate"].map({0.1: 0, 1.0: 1, 10.0: 10}))  # int beside float
    spec = chart(plots.Layer(whole, "point"), plots.Layer(MOVING[MOVING["rate"] > 0.5], "point")).to_dict()
    assert parameters(spec)["rate"]["bind"]["max"] == 2
    assert len(shown(spec, rate=1)[0]) == 8


def test_a_value_keeps_colour_and_shape_where_others_are_not_in_view():
    some = MOVING[(MOVING["rate"] > 0.5) | (MOVING["arm"] == "erm")]
    layer = plots.Layer(some, "point", colour="arm", shape="arm")
    spec = chart(layer, controls={"rate": "Rate"}, reading=lambda rate: "At").to_dict()
    encoding = spec["layer"][0]["encoding"]
    assert encoding["color"]["scale"]["domain"] == encoding["shape"]["scale"]["domain"] == ["erm", "mixup"]
    assert len(vl_convert.vegalite_to_vega(spec)["legends"]) == 1, "one legend for both"
    nominal = chart(plots.Layer(some, "bar", colour="arm"), x=plots.Axis("position", scale="nominal")).to_dict()
    assert nominal["layer"][0]["encoding"]["xOffset"]["scale"]["domain"] == ["erm", "mixup"]


def test_every_channel_is_valid_vega_lite():
    frame = MOVING.assign(top=MOVING["y"] + 1, run=MOVING["x"] % 2)
    layers = (
        plots.Layer(frame, "area", y2="top", style={"opacity": 0.3}),
        plots.Layer(frame, "line", colour="arm", detail="run", order="x", style={"strokeDash": [6, 4]}),
        plots.Layer(frame, "point", colour="arm", shape="run"),
        plots.Layer(STILL, "rule", x=None),
        plots.Layer(frame, "rule", x2="top"),
        plots.Layer(frame, "text", text="arm"),
        plots.Layer(frame.assign(picture="data:,"), "image", image="picture"),
    )
    spec = chart(*layers, y=plots.Axis("value", (0.5, 30), "log")).to_dict()  # altair checks it against the schema
    assert spec["layer"][1]["encoding"]["y"]["scale"] == {
        "domain": [0.5, 30],
        "type": "log",
        "nice": False,
    }
    assert "x" not in spec["layer"][3]["encoding"]
    assert {"x2", "text", "url"} <= {channel for layer in spec["layer"] for channel in layer["encoding"]}
    shown(spec)


def test_missing_values_leave_valid_json():
    spec = chart(plots.Layer(MOVING.assign(y=MOVING["y"].where(MOVING["x"] != 2)), "point")).to_dict()
    assert len(shown(json.loads(json.dumps(spec, allow_nan=False)))[0]) == 3


def test_a_chart_of_usual_size_fits_its_page():
    """24 stops, 3 lines of 80 points, at six digits as `show` writes them: below 300 kB."""
    values = np.random.default_rng(0).normal(size=(24, 3, 80)).round(5)
    frame = frames.tidy(values, "y", rate=np.geomspace(0.1, 10, 24), arm=["a", "b", "c"], x=np.arange(80) / 80)
    lines = chart(plots.Layer(frame, colour="arm"), controls={"rate": "Rate"}, reading=lambda rate: f"At {rate:.3g}.")
    with alt.data_transformers.enable("default", max_rows=None):
        text = json.dumps(lines.to_dict(), separators=(",", ":"))
    assert len(text.encode()) < 300_000


@pytest.mark.parametrize(
    ("layers", "controls", "message"),
    [
        ([plots.Layer(MOVING)], {}, "0 controls: must be 1 to 3"),
        ([plots.Layer(MOVING)], dict.fromkeys("abcd", "title"), "4 controls: must be 1 to 3"),
        ([plots.Layer(MOVING)], {"rates": "Rate"}, "'rates' is a column of no layer"),
        ([plots.Layer(MOVING.iloc[:0])], {"rate": "Rate"}, "'rate' is a column of no layer with rows"),
        ([plots.Layer(MOVING.assign(rate=np.nan))], {"rate": "Rate"}, "'rate' has rows without a value"),
    ],
)
def test_controls_that_cannot_be_made_are_refused(layers, controls, message):
    with pytest.raises(ValueError, match=message):
        chart(*layers, controls=controls)


ROOT = Path(__file__).parents[2]
CODE = [path.read_text() for path in (ROOT / "lib" / "phenomena" / "chapters").rglob("*.py")] + [
    "".join(cell["source"])
    for path in (ROOT / "notebooks").glob("*.ipynb")
    for cell in json.loads(path.read_text())["cells"]
    if cell["cell_type"] == "code"
]


def test_layers_name_what_is_beyond_frame_mark_and_place():
    """By its place a column is easily taken for another: an area then stands on its side."""
    calls = [node for text in CODE for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    layers = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] == "Layer"]
    assert len(layers) > 20
    assert [ast.unparse(call)[:80] for call in layers if len(call.args) > 4] == []
