/* Scores as two histograms back to back, and a threshold between them that is dragged or moved by keys. */
import { html, useEffect, useMemo, useRef, useState } from "./dom.js";
import { percent, rateOf, score } from "./numbers.js";
import { prepare } from "./images.js";

const HEIGHT = 220;
const LOWER = 0.36; // Share of the height for calibration
const BINS = 64;
const PAD = 10;

export function Histogram({ calibration, scores, threshold, saved, words, move }) {
  const box = useRef(null);
  const canvas = useRef(null);
  const [width, setWidth] = useState(0);
  const range = useMemo(() => rangeOf(calibration, scores), [calibration, scores]);
  const bins = useMemo(() => [binsOf(scores, range), binsOf(calibration, range)], [calibration, scores]);
  const [theme, setTheme] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(() => setWidth(box.current.clientWidth));
    observer.observe(box.current);
    const recolour = () => setTheme((turn) => turn + 1);
    addEventListener("themechange", recolour);
    return () => {
      observer.disconnect();
      removeEventListener("themechange", recolour);
    };
  }, []);
  const at = (value) => PAD + (width - 2 * PAD) * Math.min(1, Math.max(0, (value - range.low) / (range.high - range.low)));
  useEffect(() => {
    if (width) draw(canvas.current, width, bins, at(threshold), at(saved));
  }, [width, bins, threshold, saved, theme]);
  const pick = (event) => {
    const part = (event.clientX - box.current.getBoundingClientRect().left - PAD) / (width - 2 * PAD);
    move(snapped(calibration, range.low + part * (range.high - range.low), range));
  };
  const drag = (event) => {
    event.preventDefault();
    event.currentTarget.setPointerCapture(event.pointerId);
    event.currentTarget.querySelector("[role=slider]").focus();
    pick(event);
  };
  const rate = percent(rateOf(calibration, threshold));
  return html`<div class="histogram" ref=${box} style=${{ height: `${HEIGHT}px` }} onPointerDown=${drag}
    onPointerMove=${(event) => event.buttons === 1 && pick(event)}>
    <canvas ref=${canvas} role="img" aria-label="Histogram of the scores of these images, and below it of the calibration images"></canvas>
    <span class="legend upper">these images</span><span class="legend lower">calibration</span>
    <span class="legend right">${words[1]} →</span>
    <div class="handle" role="slider" tabindex="0" aria-label="Threshold" aria-orientation="horizontal" aria-valuemin=${range.low}
      aria-valuemax=${range.high} aria-valuenow=${threshold} aria-valuetext=${`${score(threshold)}, at most ${rate} false alarms`}
      style=${{ left: `${at(threshold)}px` }} onKeyDown=${(event) => byKey(event, calibration, threshold, range, move)}></div>
  </div>`;
}

/** From the lowest to the highest score, without what lies very far beyond the calibration scores. */
function rangeOf(calibration, scores) {
  const ends = (values) => (values.length ? [values[0], values.at(-1)] : []);
  const all = [...ends(calibration), ...ends(scores)];
  if (!all.length) return { low: 0, high: 1 };
  const low = Math.min(...all);
  const [start, end] = calibration.length ? ends(calibration) : [low, Math.max(...all)];
  const high = Math.min(Math.max(...all), end + 3 * Math.max(end - start, 1e-9));
  const room = 0.03 * (high - low) || Math.abs(high) || 1;
  return { low: low - room, high: high + room };
}

/** Shares of values by bin; the first and the last have what lies beyond the range, too. */
function binsOf(values, { low, high }) {
  const bins = new Float64Array(BINS);
  for (const value of values) {
    const bin = Math.floor((BINS * (value - low)) / (high - low));
    bins[Math.min(BINS - 1, Math.max(0, bin))] += 1 / values.length;
  }
  return bins;
}

/** The nearest calibration score, whose rate is promised; above all of them any value. */
function snapped(calibration, value, range) {
  const within = Math.min(range.high, Math.max(range.low, value));
  if (!calibration.length || within > calibration.at(-1)) return within;
  const next = calibration.length - aboveOrEqual(calibration, within);
  const before = calibration[Math.max(0, next - 1)];
  const after = calibration[Math.min(calibration.length - 1, next)];
  return within - before < after - within ? before : after;
}

function aboveOrEqual(ascending, value) {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] >= value) high = middle;
    else low = middle + 1;
  }
  return ascending.length - low;
}

function byKey(event, calibration, threshold, range, move) {
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
  const ends = { Home: calibration[0] ?? range.low, End: range.high }[event.key];
  if (steps === undefined && ends === undefined) return;
  event.preventDefault();
  move(ends ?? stepped(calibration, threshold, steps, range));
}

/** So many calibration scores further; above all of them so many hundredths of the range. */
function stepped(calibration, threshold, steps, range) {
  const distinct = [...new Set(calibration)];
  const here = distinct.length - aboveOrEqual(distinct, threshold);
  const exact = distinct[here] === threshold;
  const to = steps > 0 ? here + steps - (exact ? 0 : 1) : here + steps;
  if (here < distinct.length && to < distinct.length) return distinct[Math.max(0, to)];
  const free = threshold + (steps * (range.high - range.low)) / 100;
  return free < (distinct.at(-1) ?? range.low) ? distinct.at(-1) : Math.min(range.high, free);
}

function draw(canvas, width, [upper, lower], threshold, saved) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const context = prepare(canvas, width, HEIGHT);
  const base = Math.round(HEIGHT * (1 - LOWER));
  context.fillStyle = colour("odd-tint");
  context.fillRect(threshold, 0, width - threshold, HEIGHT);
  const step = (width - 2 * PAD) / BINS;
  const bars = (bins, height, direction) => {
    const most = Math.max(...bins, 1e-9);
    bins.forEach((share, bin) => {
      const tall = share ? Math.max(1.5, (share / most) * (height - 22)) : 0;
      context.fillRect(PAD + bin * step + 0.5, direction < 0 ? base - tall : base + 1, step - 1, tall);
    });
  };
  const sides = [[0, threshold, "accent"], [threshold, width, "odd"]];
  for (const [start, end, name] of sides) {
    context.save();
    context.beginPath();
    context.rect(start, 0, end - start, HEIGHT);
    context.clip();
    context.fillStyle = colour(name);
    bars(upper, base, -1);
    context.restore();
  }
  context.fillStyle = colour("calm");
  bars(lower, HEIGHT - base, 1);
  context.fillStyle = colour("rule");
  context.fillRect(0, base, width, 1);
  context.setLineDash([3, 4]);
  context.strokeStyle = colour("soft");
  context.strokeRect(Math.round(saved) + 0.5, 0, 0, HEIGHT);
}
