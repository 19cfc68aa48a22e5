// Puts the page's charts into their figures. The static picture, which readers without JavaScript see, stays folded below.
const config = {
  font: "inherit",
  axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: "normal", gridColor: "#e6e6e6", domainColor: "#333", labelColor: "#222", titleColor: "#222" },
  legend: { orient: "bottom", direction: "horizontal", columns: 2, labelFontSize: 12, titleFontSize: 12, labelLimit: 300, symbolType: "stroke" },
  title: { anchor: "start", fontSize: 14, color: "#222" },
  range: { category: ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"] },
  view: { stroke: null },
};

for (const source of document.querySelectorAll("script.moving")) {
  const figure = document.getElementById(source.dataset.figure);
  const caption = figure.querySelector("figcaption");
  const chart = document.createElement("div");
  const reading = document.createElement("p");
  chart.className = "moving";
  reading.className = "reading";
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
      const folded = document.createElement("details");
      folded.append(Object.assign(document.createElement("summary"), { textContent: "As a static picture" }));
      while (chart.nextSibling !== caption) folded.append(chart.nextSibling);
      figure.insertBefore(folded, caption);
    })
    .catch((error) => {
      chart.remove();
      console.error(`${source.dataset.figure}: ${error}`);
    });
}
