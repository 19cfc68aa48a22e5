// Puts the page's charts into their figures. The static picture, which stands there without JavaScript, is folded below.
{ // a scope of its own
  const ink = "#222";
  const config = {
    font: getComputedStyle(document.body).fontFamily,
    mark: { color: "#0173b2" },
    axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: "normal", titlePadding: 10, labelFlush: false,
            labelOverlap: "greedy", labelSeparation: 8, gridColor: "#e6e6e6", domainColor: ink, labelColor: ink, titleColor: ink },
    legend: { orient: "bottom", labelLimit: 0, labelFontSize: 13, titleFontSize: 13, titleFontWeight: "normal", titleOrient: "left",
              symbolOpacity: 1, symbolSize: 250, symbolStrokeWidth: 2, labelColor: ink, titleColor: ink },
    title: { anchor: "start", fontSize: 13, fontWeight: "normal", color: ink },
    range: { category: ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"] },
    view: { stroke: null },
  };

  for (const source of document.querySelectorAll("script.interactive")) {
    const figure = document.getElementById(source.dataset.figure);
    const caption = figure.querySelector("figcaption");
    const chart = Object.assign(document.createElement("div"), { className: "interactive" });
    const reading = Object.assign(document.createElement("p"), { className: "reading" });
    const folded = document.createElement("details");
    folded.append(Object.assign(document.createElement("summary"), { textContent: "As a static picture" }));
    figure.prepend(chart);
    const spec = { width: "container", autosize: { type: "fit-x", contains: "padding" }, ...JSON.parse(source.textContent) };
    vegaEmbed(chart, spec, { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, config })
      .then(({ view }) => {
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
