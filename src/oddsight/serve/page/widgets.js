/* Pieces that views share. */
import { html, Icon, useEffect, useRef, useState } from "./dom.js";
import { percent } from "./numbers.js";
import { filesOf } from "./scoring.js";

/** Buttons for images and for a folder; calls `take` with files. */
export function FileButtons({ take, primary = true }) {
  const images = useRef(null);
  const folder = useRef(null);
  const chosen = async (event) => {
    const files = await filesOf(event.target.files);
    event.target.value = "";
    take(files);
  };
  return html`<div class="row">
    <button class=${primary ? "primary" : ""} onClick=${() => images.current.click()}><${Icon} name="upload" />${primary ? "Choose images" : "Add images"}</button>
    <button class="wide" onClick=${() => folder.current.click()}>${primary ? "Choose a folder" : "Add a folder"}</button>
    <input ref=${images} class="hidden" type="file" multiple tabindex="-1" aria-label="Images" onChange=${chosen} />
    <input ref=${folder} class="hidden" type="file" webkitdirectory tabindex="-1" aria-label="Folder" onChange=${chosen} />
  </div>`;
}

/** Files that are dropped anywhere on the page go to `take`. */
export function useDrops(take) {
  const [over, setOver] = useState(false);
  const latest = useRef(take);
  latest.current = take;
  useEffect(() => {
    const drag = (event) => {
      event.preventDefault();
      setOver(true);
    };
    const leave = (event) => {
      if (!event.relatedTarget) setOver(false);
    };
    const drop = async (event) => {
      event.preventDefault();
      setOver(false);
      latest.current(await filesOf(event.dataTransfer));
    };
    const events = { dragover: drag, dragleave: leave, drop };
    for (const [name, listener] of Object.entries(events)) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(events)) removeEventListener(name, listener);
    };
  }, []);
  return over;
}

/** A place that says what to drop. */
export function DropPlace({ take, title, children }) {
  const over = useDrops(take);
  return html`<section class=${`drop ${over ? "over" : ""}`}>
    <h2>${title}</h2>
    ${children}
    <${FileButtons} take=${take} />
  </section>`;
}

/** One of a few, as a row of buttons. */
export function Choice({ label, options, value, choose }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(
      ([key, text]) => html`<button key=${key} aria-pressed=${String(key === value)} onClick=${() => choose(key)}>${text}</button>`,
    )}
  </div>`;
}

export function Meter({ label, done, total, children }) {
  const share = total ? done / total : 0;
  return html`<div class="meter">
    <div class="row between"><span>${label}</span><span class="soft">${total ? percent(share) : ""}</span></div>
    <progress max="1" value=${total ? share : undefined} aria-label=${label}></progress>
    ${children}
  </div>`;
}

/** A view that has nothing to show yet: what it is for, and what to do. */
export function Empty({ title, children }) {
  return html`<section class="empty"><h2>${title}</h2>${children}</section>`;
}

export function Tag({ flagged, children }) {
  return html`<span class=${`tag ${flagged ? "odd" : "fine"}`}>${children}</span>`;
}

export function Facts({ rows }) {
  return html`<dl class="facts">
    ${rows.filter(Boolean).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

export function Field({ label, hint, children }) {
  return html`<label class="field"><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}</label>`;
}

/** Save content as a file. */
export function download(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Load something once and again on demand: `[value, error, reload]`. */
export function useLoad(load, inputs = []) {
  const [answer, setAnswer] = useState([null, null]);
  const turn = useRef(0);
  const reload = async () => {
    const own = (turn.current += 1);
    try {
      const value = await load();
      if (own === turn.current) setAnswer([value, null]);
    } catch (error) {
      if (own === turn.current && error.name !== "AbortError") setAnswer([null, error.message]);
    }
  };
  useEffect(() => {
    reload();
    return () => {
      turn.current += 1;
    };
  }, inputs);
  return [...answer, reload];
}
