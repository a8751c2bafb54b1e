// The one file that touches Plotly's global. It is loaded when the page has painted what needs no Plotly.

let loading = null;

/** Plotly, once loaded; its address stands in <html data-plotly>. Rejects with a sentence when it can't be had. */
export function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.getElementById("plotly").href;
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => reject(new Error("The charts couldn't be loaded. Reload the page."));
    document.head.append(script);
  });
  return loading;
}

const CONFIG = { staticPlot: true, displayModeBar: false, responsive: false };

/**
 * Draws lines and axes into `element`. All interaction lies on our own overlay: Plotly only paints.
 *
 * @param {{x: object, y: object, margin: object, width: number, height: number, colours: object}} frame axes as Plotly
 *   takes them, sizes in CSS pixels
 */
export function draw(Plotly, element, traces, { x, y, margin, width, height, colours, font }) {
  const axis = {
    zeroline: false,
    showline: false,
    ticks: "",
    fixedrange: true,
    gridcolor: colours.grid,
    gridwidth: 1,
    tickfont: { family: font, size: 11, color: colours.text },
    automargin: false,
  };
  const layout = {
    autosize: false,
    width,
    height,
    margin: { ...margin, pad: 0 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false,
    hovermode: false,
    dragmode: false,
    xaxis: { ...axis, ...x },
    yaxis: { ...axis, ...y },
  };
  return Plotly.react(element, traces, layout, CONFIG);
}

/** Gives back what Plotly holds for `element`. */
export function purge(element) {
  if (globalThis.Plotly) globalThis.Plotly.purge(element);
}
