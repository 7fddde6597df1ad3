/* History: what was flagged over time, and whether normal is still what it was. */
import { html, useEffect, useRef, useState } from "./dom.js";
import { count, score, when } from "./numbers.js";
import { Fetched } from "./images.js";
import { currentModel, say, useStore } from "./store.js";
import { Choice, Empty, Tag, useLoad } from "./widgets.js";

const BUCKETS = [["3600", "by hour"], ["86400", "by day"]];
const PAGE = 50;

export function Past({ backend }) {
  const { status } = useStore();
  const model = currentModel();
  if (!status.workspace) {
    return html`<${Empty} title="History needs a workspace"><p>Start the service with --workspace DIR. Without one, nothing is kept.</p><//>`;
  }
  if (!model) return html`<${Empty} title="No model yet"><p>Train a model first.</p><//>`;
  return html`<div class="stack" key=${model.name}><${Series} backend=${backend} model=${model} /><${Results} backend=${backend} model=${model} /></div>`;
}

function Series({ backend, model }) {
  const [bucket, setBucket] = useState("3600");
  const [series, problem] = useLoad(() => backend.series({ model: model.name, bucket }), [model.name, bucket]);
  if (problem) return html`<p class="bad">${problem}</p>`;
  if (!series) return html`<section class="panel"><p class="soft">Loading.</p></section>`;
  if (!series.times.length) return html`<${Empty} title="Nothing yet"><p>Every image that ${model.name} scores is counted here.</p><//>`;
  const { drift } = series;
  const highest = Math.max(...(drift?.martingale ?? [1]));
  return html`<section class="panel">
      <div class="row between"><h2>Flagged images</h2><${Choice} label="Bucket" options=${BUCKETS} value=${bucket} choose=${setBucket} /></div>
      <${Chart} times=${series.times} lines=${[["all", series.counts, "calm", "bars"], ["flagged", series.flagged, "odd", "bars"]]}
        says=${`${count(sum(series.flagged))} of ${count(sum(series.counts))} images were flagged`} />
    </section>
    <section class="panel"><h2>Drift</h2>
      <p class=${drift?.alarm_at ? "warn" : "soft"}>${
        drift?.alarm_at
          ? `What passes as normal has changed: it showed on ${when(drift.alarm_at)}. Look at recent images. If they are normal, teach them.`
          : `No sign that normal has changed. The evidence stands at ${score(drift?.martingale.at(-1) ?? 1)}, and 100 would be a sign.`
      }</p>
      <${Chart} times=${series.times} log=${true} limit=${100} lines=${[["evidence", drift?.martingale ?? [], "accent", "line"]]}
        says=${`Evidence of drift, at most ${score(highest)}`} />
      <p class="soft small">While images stay as they were, the chance that the evidence ever reaches 100 is at most 1%.</p>
    </section>`;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** A chart of values over time, by uPlot, which is loaded only here. */
function Chart({ times, lines, log = false, limit, says }) {
  const box = useRef(null);
  const [theme, setTheme] = useState(0);
  useEffect(() => {
    const turn = () => setTheme((count) => count + 1);
    addEventListener("themechange", turn);
    return () => removeEventListener("themechange", turn);
  }, []);
  useEffect(() => {
    let [gone, plot] = [false, null];
    const observer = new ResizeObserver(() => plot?.setSize({ width: box.current.clientWidth, height: 190 }));
    needStyle();
    import("./vendor/uplot.js").then(({ default: UPlot }) => {
      if (gone) return;
      plot = new UPlot(options(UPlot, box.current.clientWidth, lines, log, limit), [times, ...lines.map((line) => line[1])], box.current);
      observer.observe(box.current);
    }, (error) => say(error.message, true));
    return () => {
      gone = true;
      observer.disconnect();
      plot?.destroy();
    };
  }, [times, lines[0][1], theme]);
  const key = ([label, , name]) => html`<span key=${label}><span class=${`swatch ${name}`}></span>${label}</span>`;
  return html`${lines.length > 1 && html`<div class="row small soft">${lines.map(key)}</div>`}
    <div class="chart" ref=${box} role="img" aria-label=${says}></div>`;
}

function needStyle() {
  if (document.getElementById("uplot-style")) return;
  const link = Object.assign(document.createElement("link"), { id: "uplot-style", rel: "stylesheet", href: new URL("vendor/uplot.css", import.meta.url).href });
  document.head.append(link);
}

/** Powers of ten in a range, at most six of them. */
function decades(_, __, low, high) {
  const [first, last] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
  const step = Math.max(1, Math.ceil((last - first) / 5));
  return Array.from({ length: Math.floor((last - first) / step) + 1 }, (___, index) => 10 ** (first + index * step));
}

const brief = (_, splits) => splits.map((value) => (value < 1e4 ? String(value) : value.toExponential(0).replace("+", "")));

/** A range of times that leaves room for the first and the last bar, and is at least a day. */
function wide(low, high) {
  const room = Math.max(0.02 * (high - low), 1800);
  return [Math.min(low - room, high + room - 86_400), high + room];
}

/** Hours as 14:00, and midnight as its day. */
function hours(_, splits) {
  return splits.map((seconds) => {
    const time = new Date(1000 * seconds);
    const style = time.getHours() === 0 ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" };
    return time.getHours() === 0 ? time.toLocaleDateString("en-GB", style) : time.toLocaleTimeString("en-GB", style);
  });
}

function options(UPlot, width, lines, log, limit) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = { stroke: colour("soft"), grid: { stroke: colour("hair"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const upright = log ? { ...axis, size: 46, splits: decades, filter: (_, splits) => splits, values: brief } : { ...axis, size: 46 };
  const height = (_, low, high) => (log ? [Math.min(low, 1) / 2, 2 * Math.max(high, limit)] : [0, Math.max(1, 1.05 * high)]);
  const series = lines.map(([label, , name, kind]) => ({
    label,
    stroke: colour(name),
    width: kind === "line" ? 2 : 0,
    fill: kind === "bars" ? colour(name) : undefined,
    paths: kind === "bars" ? UPlot.paths.bars({ size: [0.7, 40] }) : undefined,
    points: { show: kind === "line" && lines[0][1].length < 3 },
  }));
  const line = (plot) => {
    if (!limit) return;
    const y = Math.round(plot.valToPos(limit, "y", true));
    if (y < plot.bbox.top || y > plot.bbox.top + plot.bbox.height) return;
    plot.ctx.fillStyle = colour("odd");
    plot.ctx.fillRect(plot.bbox.left, y, plot.bbox.width, 1);
  };
  return {
    width,
    height: 190,
    series: [{}, ...series],
    axes: [{ ...axis, values: hours }, upright],
    scales: { x: { range: (_, low, high) => wide(low, high) }, y: { distr: log ? 3 : 1, range: height } },
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { show: false } },
    hooks: { draw: [line] },
  };
}

function Results({ backend, model }) {
  const [which, setWhich] = useState("flagged");
  const [items, setItems] = useState([]);
  const [next, setNext] = useState(null);
  const load = async (before) => {
    try {
      const found = await backend.pastResults({ model: model.name, limit: PAGE, before, flagged: which === "flagged" ? true : undefined });
      setItems((old) => (before ? old.concat(found.items) : found.items));
      setNext(found.next);
    } catch (error) {
      say(error.message, true);
    }
  };
  useEffect(() => {
    load();
  }, [which, model.name]);
  return html`<section class="panel">
    <div class="row between"><h2>Results</h2>
      <${Choice} label="Which results" options=${[["flagged", "flagged"], ["all", "all"]]} value=${which} choose=${setWhich} />
    </div>
    ${items.length
      ? html`<div class="scroll" tabindex="0" role="region" aria-label="Results"><table class="results">
          <thead><tr><th></th><th>When</th><th>Image</th><th>Verdict</th><th class="number">p</th><th class="number">Score</th>
            <th>You said</th></tr></thead><tbody>
          ${items.map(
            (item) => html`<tr key=${item.id}>
              <td><${Fetched} name=${item.content} load=${() => backend.thumbnail(item.content, 96)} alt="" missing="–" /></td>
              <td>${when(item.time)}</td><td>${item.name}</td><td><${Tag} flagged=${item.anomalous}>${item.verdict}<//></td>
              <td class="number">${item.p_value.toPrecision(2)}</td><td class="number">${score(item.score)}</td><td>${item.feedback?.truth ?? ""}</td>
            </tr>`,
          )}
        </tbody></table></div>`
      : html`<p class="soft">No results yet.</p>`}
    ${next && html`<button onClick=${() => load(next)}>Show older ones</button>`}
  </section>`;
}
