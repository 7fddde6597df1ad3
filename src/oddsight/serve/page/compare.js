/* Compare: two models on the same images, where they decide differently, and whether that could be chance. */
import { html, useMemo, useState } from "./dom.js";
import { Card } from "./gallery.js";
import { count, images as imagesOf, mcnemar, percent } from "./numbers.js";
import { divide, scoreAll, stopScoring } from "./scoring.js";
import { useStore } from "./store.js";
import { Empty, Meter } from "./widgets.js";

const SHOWN = 24;
const NO_HEAT = { opacity: 0 };

export function Compare() {
  const { models, images, model, scoring, revision } = useStore();
  const [other, setOther] = useState(models.find((one) => one.name !== model)?.name ?? "");
  const [a, b] = [models.find((one) => one.name === model), models.find((one) => one.name === other)];
  const answer = useMemo(() => (a && b ? compare(images, a, b) : null), [images, revision, a, b]);
  if (models.length < 2) {
    return html`<${Empty} title="Two models are needed"><p>Train another one, for example with another method, and compare both on the same images.</p>
      <p><a class="button primary" href="#train">Train</a></p><//>`;
  }
  if (!images.length) {
    return html`<${Empty} title="No images yet"><p>Both models score the images that you drop in Look.</p><p><a class="button primary" href="#look">Look</a></p><//>`;
  }
  return html`<div class="stack">
    <div class="row"><b>${a.name}</b><span class="soft">against</span>
      <select aria-label="Other model" value=${other} onChange=${(event) => setOther(event.target.value)}>
        ${models.filter((one) => one !== a).map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}
      </select>
      ${answer.missing > 0 && !scoring && html`<button class="primary" onClick=${() => scoreAll(b.name)}>Score ${imagesOf(answer.missing)} with ${b.name}</button>`}
    </div>
    ${scoring && html`<${Meter} label="Scoring" ...${scoring}><button class="quiet" onClick=${stopScoring}>Stop</button><//>`}
    ${!answer.both && !scoring && html`<p class="soft">Both models score the same images. Then you see where they decide differently.</p>`}
    ${answer.both > 0 && !scoring && html`<${Answer} a=${a} b=${b} answer=${answer} />`}
  </div>`;
}

function compare(images, a, b) {
  const { scored } = divide(images, a.name);
  const both = scored.filter((image) => image.results[b.name] && !image.results[b.name].error);
  const cells = { yy: 0, yn: 0, ny: 0, nn: 0 };
  const onlyA = [];
  const onlyB = [];
  for (const image of both) {
    const [byA, byB] = [flags(a, image), flags(b, image)];
    cells[`${byA ? "y" : "n"}${byB ? "y" : "n"}`] += 1;
    if (byA && !byB) onlyA.push(image);
    if (byB && !byA) onlyB.push(image);
  }
  return { both: both.length, missing: scored.filter((image) => !image.results[b.name]).length, cells, onlyA, onlyB, p: mcnemar(cells.yn, cells.ny) };
}

/** Whether a model flags an image by its saved threshold, whatever is being tried. */
function flags(model, image) {
  const result = image.results[model.name];
  return result.score > (model.classes ? result.threshold : model.threshold);
}

function Answer({ a, b, answer }) {
  const { cells, p } = answer;
  const flips = cells.yn + cells.ny;
  return html`
    <section class="panel">
      <h2>They differ on ${imagesOf(flips)} of ${count(answer.both)}</h2>
      <p>${sentence(a, b, cells, p)}</p>
      <div class="scroll"><table class="cross"><thead><tr><th></th><th class="number">${b.name} flags</th><th class="number">${b.name} passes</th></tr></thead><tbody>
        <tr><th>${a.name} flags</th><td class="number">${count(cells.yy)}</td><td class="number"><b>${count(cells.yn)}</b></td></tr>
        <tr><th>${a.name} passes</th><td class="number"><b>${count(cells.ny)}</b></td><td class="number">${count(cells.nn)}</td></tr>
      </tbody></table></div>
      <p class="soft small">McNemar's exact test: p ${p.toPrecision(3)}. It says whether one flags more than the other, not which one is right.
        ${a.false_alarm_rate === b.false_alarm_rate ? "" : ` The models have different rates (${rate(a)} and ${rate(b)}).`}</p>
    </section>
    <${Flips} title=${`Only ${a.name} flags`} images=${answer.onlyA} model=${a} />
    <${Flips} title=${`Only ${b.name} flags`} images=${answer.onlyB} model=${b} />`;
}

const rate = (model) => (model.false_alarm_rate ? percent(model.false_alarm_rate) : "set by hand");

function sentence(a, b, { yn, ny }, p) {
  if (yn + ny === 0) return "Both decide the same for every image.";
  const [more, less] = yn >= ny ? [a, b] : [b, a];
  if (p < 0.05) return `${more.name} flags more of these images than ${less.name}, by more than chance explains.`;
  return "Neither flags more than the other by more than chance explains.";
}

function Flips({ title, images, model }) {
  if (!images.length) return null;
  return html`<section><h2>${title}</h2>
    <div class="strip">
      ${images.slice(0, SHOWN).map((image) => html`<div key=${image.key} class="cell"><${Card} image=${image} model=${model} heat=${NO_HEAT} width=${112} x=${0} y=${0} plain=${true} /></div>`)}
    </div>
    ${images.length > SHOWN && html`<p class="soft">and ${count(images.length - SHOWN)} more</p>`}
  </section>`;
}
