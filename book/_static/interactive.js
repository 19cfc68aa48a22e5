// Puts the page's charts into their figures. The static picture, which stands there without JavaScript, is folded below.
{ // a scope of its own
  const ink = "#222";
  const config = {
    font: getComputedStyle(document.body).fontFamily,
    mark: { color: "#0173b2" },
    axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: "normal", titlePadding: 10, labelFlush: false,
            labelOverlap: "greedy", labelSeparation: 8, gridColor: "#e6e6e6", domainColor: ink, labelColor: ink, titleColor: ink },
    axisX: { labelFlush: true }, // a long last label would be cut
    legend: { orient: "bottom", labelLimit: 0, labelFontSize: 13, titleFontSize: 13, titleFontWeight: "normal", titleOrient: "left",
              symbolOpacity: 1, symbolSize: 250, symbolStrokeWidth: 2, labelColor: ink, titleColor: ink,
              ...(innerWidth < 500 && { columns: 1 }) }, // one row would be cut on a phone
    title: { anchor: "start", fontSize: 13, fontWeight: "normal", color: ink },
    range: { category: ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"] },
    view: { stroke: null },
  };

  // A control with the numbers it passes below it and its value beside it. Where it stands is in the page's address:
  // `?alpha=32`, and for all figures but the first `?FIGURE.alpha=32`.
  const control = (input, view, prefix) => {
    const name = input.name, range = input.type === "range", state = view.getState({ signals: () => true }).signals;
    const ticks = range && state[`${name}_ticks`]; // texts of the places that it stops at
    const text = () => (ticks ? ticks[view.signal(name)] : String(view.signal(name)));
    const shownAs = (number) => String(number).replace("-", "−");
    const first = text(), asked = new URLSearchParams(location.search).get(prefix + name);
    if (range) {
      const places = ticks ? ticks.map((_, i) => i) : [0, 1, 2, 3, 4].map((i) => +input.min + (i / 4) * (input.max - input.min));
      const every = Math.ceil((places.length - 1) / 6) || 1, last = places.length - 1;
      const shown = places.map((_, i) => i).filter((i) => i === last || (i % every === 0 && last - i >= every));
      const track = Object.assign(document.createElement("span"), { className: "track" });
      const marks = Object.assign(document.createElement("span"), { className: "ticks", ariaHidden: "true" });
      for (const i of shown) {
        const mark = Object.assign(document.createElement("span"), { textContent: shownAs(ticks ? ticks[i] : +places[i].toPrecision(3)) });
        mark.style.left = `${last ? (100 * i) / last : 0}%`;
        marks.append(mark);
      }
      input.after(track);
      track.append(input, marks);
      track.nextSibling?.remove(); // Vega's own bare number
      track.after(document.createElement("output"));
    }
    const output = input.closest("label").querySelector("output");
    const tell = () => {
      if (output) output.textContent = shownAs(text());
      const address = new URL(location);
      if (text() === first) address.searchParams.delete(prefix + name);
      else address.searchParams.set(prefix + name, text());
      if (address.href !== location.href) history.replaceState(null, "", address);
    };
    const place = ticks ? ticks.indexOf(asked) : range ? Number(asked) : asked;
    const known = ticks ? place >= 0 : range ? place >= input.min && place <= input.max : [...input.options].some((o) => o.value === asked);
    if (asked !== null && asked !== "" && known) view.signal(name, place);
    view.addSignalListener(name, tell);
    if (output) output.textContent = shownAs(text());
  };

  for (const [number, source] of document.querySelectorAll("script.interactive").entries()) {
    const figure = document.getElementById(source.dataset.figure);
    const caption = figure.querySelector("figcaption");
    const chart = Object.assign(document.createElement("div"), { className: "interactive" });
    const reading = Object.assign(document.createElement("p"), { className: "reading" });
    const folded = document.createElement("details");
    folded.append(Object.assign(document.createElement("summary"), { textContent: "As a static picture" }));
    figure.prepend(chart);
    const spec = { width: "container", autosize: { type: "fit-x", contains: "padding" }, ...JSON.parse(source.textContent) };
    vegaEmbed(chart, spec, { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, config })
      .then(async ({ view }) => {
        for (const input of chart.querySelectorAll(".vega-bind [name]")) control(input, view, number ? `${source.dataset.figure}.` : "");
        await view.runAsync();
        const tell = () => {
          reading.textContent = view.signal("reading");
          for (const slider of chart.querySelectorAll("input[type=range]")) slider.setAttribute("aria-valuetext", reading.textContent);
        };
        tell();
        view.addSignalListener("reading", tell);
        chart.append(reading);
        while (chart.nextSibling !== caption) folded.append(chart.nextSibling);
        figure.insertBefore(folded, caption);
      })
      .catch((error) => {
        chart.remove(); // the static picture stays
        console.error(`${source.dataset.figure}: ${error}`);
      });
  }
}
