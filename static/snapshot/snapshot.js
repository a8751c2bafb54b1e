// Draws a frozen snapshot from the data in it. A classic script: a page opened from a file can't load modules.
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const style = getComputedStyle(document.documentElement);
  const token = (name) => style.getPropertyValue(name).trim();
  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "sendDataToCloud"] };

  const axis = (more) => Object.assign({ gridcolor: token("--line"), zerolinecolor: token("--line"), linecolor: token("--line") }, more);
  const layout = (more) =>
    Object.assign(
      {
        paper_bgcolor: "transparent",
        plot_bgcolor: "transparent",
        font: { color: token("--text-2"), size: 11, family: "system-ui, sans-serif" },
        margin: { l: 56, r: 12, t: 6, b: 34 },
        showlegend: false,
        modebar: { bgcolor: "transparent", color: token("--line"), activecolor: token("--text-2") },
        dragmode: "zoom",
      },
      more,
    );

  function section(title, tall) {
    const box = document.createElement("section");
    const head = document.createElement("h2");
    head.textContent = title;
    const chart = document.createElement("div");
    chart.className = tall ? "chart tall" : "chart";
    box.append(head, chart);
    document.getElementById("charts").append(box);
    return chart;
  }

  function line(series, index) {
    const colour = token(index ? "--series-2" : "--series-1");
    const traces = [
      { x: data.steps, y: series.high, mode: "lines", line: { width: 0 }, hoverinfo: "skip", connectgaps: false },
      { x: data.steps, y: series.low, mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: colour + "33", hoverinfo: "skip" },
      { x: data.steps, y: series.last, mode: "lines", line: { width: 1.5, color: colour }, name: series.name, connectgaps: false },
    ];
    const shapes = series.odd.map((step) => ({
      type: "line", xref: "x", yref: "paper", x0: step, x1: step, y0: 0, y1: 1, line: { color: token("--critical"), width: 1, dash: "dot" },
    }));
    const title = series.odd.length ? series.name + " (dotted: NaN or infinite)" : series.name;
    const more = { xaxis: axis({ title: { text: "step" } }), yaxis: axis({ type: series.log ? "log" : "linear" }), shapes };
    Plotly.newPlot(section(title, false), traces, layout(more), config);
  }

  function heat(map) {
    const trace = {
      type: "heatmap", x: data.steps, y: map.names, z: map.z, zmin: -6, zmax: 6, xgap: 0, ygap: 0, hoverongaps: false,
      colorscale: [[0, "#1d4e9e"], [0.25, "#5e8fce"], [0.42, "#b5cfe9"], [0.5, "#f4f5f4"], [0.58, "#f7cd98"], [0.75, "#e8853a"], [1, "#b02a18"]],
      colorbar: { thickness: 10, len: 0.9 }, hovertemplate: "%{y}<br>step %{x}: %{z:.1f}<extra></extra>",
    };
    const more = { xaxis: axis({ title: { text: "step" } }), yaxis: axis({ autorange: "reversed", showticklabels: map.names.length <= 40, automargin: true }) };
    Plotly.newPlot(section(map.title, true), [trace], layout(more), config);
  }

  function alerts(list) {
    const target = document.getElementById("alerts");
    for (const alert of list) {
      const item = document.createElement("li");
      item.dataset.severity = alert.open ? alert.severity : "";
      item.textContent = alert.text;
      target.append(item);
    }
    if (!list.length) target.replaceWith(Object.assign(document.createElement("p"), { textContent: "No alert has fired.", className: "muted" }));
  }

  function settings(pairs) {
    const target = document.getElementById("settings");
    target.hidden = !pairs.length;
    for (const [name, text] of pairs) target.lastChild.append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: text }));
  }

  function comparison({ runs, x, charts }) {
    for (const { name, log, lines } of charts) {
      const traces = lines.flatMap(({ run, x: places, low, high, last }) => {
        const colour = token("--chart-" + run);
        const band = { x: places, mode: "lines", line: { width: 0 }, hoverinfo: "skip", connectgaps: false, legendgroup: runs[run], showlegend: false };
        return [
          Object.assign({ y: high }, band),
          Object.assign({ y: low, fill: "tonexty", fillcolor: colour + "33" }, band),
          { x: places, y: last, mode: "lines", line: { width: 1.5, color: colour }, name: runs[run], legendgroup: runs[run], connectgaps: false },
        ];
      });
      const shapes = lines.flatMap(({ run, odd }) =>
        odd.map((place) => ({ type: "line", xref: "x", yref: "paper", x0: place, x1: place, y0: 0, y1: 1, line: { color: token("--chart-" + run), width: 1, dash: "dot" } })),
      );
      const title = shapes.length ? name + " (dotted: NaN or infinite)" : name;
      const more = { xaxis: axis({ title: { text: x } }), yaxis: axis({ type: log ? "log" : "linear" }), shapes, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, margin: { l: 56, r: 12, t: 30, b: 34 } };
      Plotly.newPlot(section(title, true), traces, layout(more), config);
    }
  }

  if (data.compared) comparison(data.compared);
  else {
    data.lines.forEach(line);
    if (data.heat) heat(data.heat);
    alerts(data.alerts);
    settings(data.settings);
  }
  document.body.dataset.ready = "1";
})();
