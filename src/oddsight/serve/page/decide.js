/* Decide: a threshold that one drags, what it promises, and which images change. Nothing is asked of the service until it
   is saved, because the calibration scores came with the model. */
import { html, useEffect, useMemo, useState } from "./dom.js";
import { Card } from "./gallery.js";
import { Histogram } from "./histogram.js";
import { above, count, images as imagesOf, percent, rateOf, score, thresholdFor } from "./numbers.js";
import { divide } from "./scoring.js";
import { allows, change, currentModel, say, state, useStore } from "./store.js";
import { Choice, Empty, Facts } from "./widgets.js";

const RATES = [0.001, 0.01, 0.02, 0.05, 0.1];
const SHOWN = 12;
const REST = 60; // Milliseconds without a move until images follow the numbers
const NO_HEAT = { opacity: 0 };

export function Decide({ backend }) {
  const { images, revision, draft } = useStore();
  const model = currentModel();
  const ranked = useMemo(() => rank(images, model), [images, revision, model?.name]);
  if (!model) return html`<${Empty} title="No model yet"><p>Train a model first; then you decide how many false alarms it may raise.</p><//>`;
  if (model.classes) return html`<${ByClass} model=${model} />`;
  const threshold = draft ?? model.threshold;
  return html`<div class="stack">
    <section class="panel">
      <${Figures} model=${model} threshold=${threshold} ranked=${ranked} />
      <${Histogram} calibration=${model.calibration.scores} scores=${ranked.scores} threshold=${threshold} saved=${model.threshold}
        words=${model.verdicts ?? ["normal", "anomalous"]} move=${(value) => change({ draft: value === model.threshold ? null : value })} />
      <div class="row between">
        <${Rates} model=${model} threshold=${threshold} />
        <${Save} backend=${backend} model=${model} threshold=${threshold} />
      </div>
    </section>
    <${Flips} model=${model} threshold=${threshold} ranked=${ranked} />
  </div>`;
}

/** Images by ascending score, and the scores alone. */
function rank(images, model) {
  if (!model) return { list: [], scores: new Float64Array() };
  const list = divide(images, model.name).scored.sort((a, b) => a.results[model.name].score - b.results[model.name].score);
  return { list, scores: Float64Array.from(list, (image) => image.results[model.name].score) };
}

function Figures({ model, threshold, ranked }) {
  const rate = rateOf(model.calibration.scores, threshold);
  const flagged = above(ranked.scores, threshold);
  const before = above(ranked.scores, model.threshold);
  const total = ranked.list.length;
  return html`<div class="figures">
    <div><span class="figure" data-figure="rate">${percent(rate)}</span><span class="soft">of normal images are flagged at most, on average</span></div>
    <div><span class="figure" data-figure="flagged">${count(flagged)}</span>
      <span class="soft">of ${imagesOf(total)} here${flagged === before ? "" : `, ${flagged > before ? "up" : "down"} from ${count(before)}`}</span></div>
    <div><span class="figure">${score(threshold)}</span><span class="soft">threshold on the score</span></div>
  </div>`;
}

function Rates({ model, threshold }) {
  const { scores } = model.calibration;
  const options = RATES.filter((rate) => thresholdFor(scores, rate) !== null).map((rate) => [thresholdFor(scores, rate), percent(rate)]);
  if (!options.length) return html`<span class="soft">${imagesOf(scores.length)} for calibration promise no rate below ${percent(1 / (scores.length + 1))}.</span>`;
  return html`<div class="row"><span class="soft">False alarms at most</span>
    <${Choice} label="False-alarm rate" options=${options} value=${threshold} choose=${(value) => change({ draft: value === model.threshold ? null : value })} />
    <span class="soft small">from ${imagesOf(model.calibration.count)} for calibration</span>
  </div>`;
}

function Save({ backend, model, threshold }) {
  const [busy, setBusy] = useState(false);
  if (state.draft === null) return null;
  const save = async () => {
    setBusy(true);
    try {
      const saved = await backend.decide(model.name, decisionOf(model, threshold));
      change({ models: state.models.map((other) => (other.name === model.name ? saved : other)), draft: null });
      say("Saved as a new version. The old one stays.");
    } catch (error) {
      say(error.message, true);
    }
    setBusy(false);
  };
  return html`<div class="row">
    <button class="quiet" onClick=${() => change({ draft: null })}>Back to the saved one</button>
    ${state.status.workspace && allows("manage") && html`<button class="primary" disabled=${busy} onClick=${save}>Save as a new version</button>`}
  </div>`;
}

/** A rate where the calibration scores promise one, as then the model keeps its promise; else the threshold. */
function decisionOf(model, threshold) {
  const rate = rateOf(model.calibration.scores, threshold);
  return thresholdFor(model.calibration.scores, rate) === threshold ? { false_alarm_rate: rate } : { threshold };
}

function Flips({ model, threshold, ranked }) {
  const from = ranked.scores.length - above(ranked.scores, Math.min(threshold, model.threshold));
  const to = ranked.scores.length - above(ranked.scores, Math.max(threshold, model.threshold));
  const looser = threshold > model.threshold;
  const [normal, anomalous] = model.verdicts ?? ["normal", "anomalous"];
  if (!ranked.list.length) {
    return html`<p class="soft">Drop images in <a href="#look">Look</a> to see which of them change with the threshold.</p>`;
  }
  if (threshold === model.threshold) return html`<p class="soft">Move the threshold to see which images change.</p>`;
  const near = looser ? ranked.list.slice(Math.max(from, to - SHOWN), to).reverse() : ranked.list.slice(from, Math.min(to, from + SHOWN));
  return html`<section>
    <h2><span data-figure="flips">${imagesOf(to - from)}</span> would become ${looser ? normal : anomalous}</h2>
    <${Strip} images=${near} model=${model} />
    ${to - from > near.length && html`<p class="soft">and ${count(to - from - near.length)} more, farther from the threshold</p>`}
  </section>`;
}

/** A few images, once the threshold rests. */
function Strip({ images, model }) {
  const [shown, setShown] = useState(images);
  useEffect(() => {
    const timer = setTimeout(() => setShown(images), REST);
    return () => clearTimeout(timer);
  }, [images[0]?.key, images.at(-1)?.key, images.length]);
  return html`<div class="strip">
    ${shown.map((image) => html`<div key=${image.key} class="cell"><${Card} image=${image} model=${model} heat=${NO_HEAT} width=${112} x=${0} y=${0} plain=${true} /></div>`)}
  </div>`;
}

function ByClass({ model }) {
  return html`<section class="panel">
    <h2>A model of known classes</h2>
    <p>Each image is compared with images of its predicted class, so there is no one threshold to drag. Change the rate with the command.</p>
    <pre><code>oddsight threshold ${model.name}.onnx --false-alarm-rate 0.05 -o NEW.onnx</code></pre>
    <${Facts} rows=${[["Classes", count(model.classes.length)], ["Rate", model.false_alarm_rate ? percent(model.false_alarm_rate) : "by hand"]]} />
  </section>`;
}
