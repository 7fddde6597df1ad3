/* A gallery of any number of images: only those in view are in the page. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "./dom.js";
import { decodeMap, paintHeat } from "./heat.js";
import { fit, prepare, smallCopy } from "./images.js";
import { cutOf, isFlagged, verdictOf } from "./scoring.js";
import { Tag } from "./widgets.js";

const WIDTH = 148; // Of a card, at least
const GAP = 12;
const CAPTION = 46;
const MORE = 1; // Rows above and below the view

export function Gallery({ images, model, chosen, choose, heat }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, width: 0, height: 0 });
  useLayoutEffect(() => {
    const measure = () => setView({ top: box.current.scrollTop, width: box.current.clientWidth, height: box.current.clientHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(box.current);
    box.current.addEventListener("scroll", measure, { passive: true });
    return () => observer.disconnect();
  }, []);
  const columns = Math.max(2, Math.floor((view.width + GAP) / (WIDTH + GAP)));
  const width = Math.max(1, (view.width - GAP * (columns - 1)) / columns);
  const row = width + CAPTION + GAP;
  const rows = Math.ceil(images.length / columns);
  const start = Math.max(0, Math.floor(view.top / row) - MORE) * columns;
  const end = Math.min(images.length, (Math.ceil((view.top + view.height) / row) + MORE) * columns);
  const index = images.indexOf(chosen);
  useEffect(() => {
    if (index >= 0) reveal(box.current, Math.floor(index / columns) * row, row);
  }, [chosen]);
  return html`<div class="gallery" ref=${box} role="listbox" tabindex="0" aria-label="Images"
    aria-activedescendant=${index >= start && index < end ? `image-${chosen.key}` : undefined}
    onFocus=${() => index < 0 && innerWidth > 720 && choose(images[0])}
    onKeyDown=${(event) => move(event, images, index, columns, Math.max(1, Math.floor(view.height / row)), choose)}>
    <div class="cards" style=${{ height: `${rows * row}px` }} role="presentation">
      ${view.width > 0 &&
      images.slice(start, end).map((image, offset) => {
        const at = start + offset;
        const [x, y] = [(at % columns) * (width + GAP), Math.floor(at / columns) * row];
        return html`<${Card} key=${image.key} ...${{ image, model, heat, width, x, y, at }} size=${images.length}
          chosen=${image === chosen} choose=${choose} />`;
      })}
    </div>
  </div>`;
}

function reveal(box, top, row) {
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + row > box.scrollTop + box.clientHeight) box.scrollTop = top + row - box.clientHeight;
}

function move(event, images, index, columns, page, choose) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: columns * page, PageUp: -columns * page };
  let to = null;
  if (event.key in steps) to = index + steps[event.key];
  else if (event.key === "Home") to = 0;
  else if (event.key === "End") to = images.length - 1;
  if (to === null || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  choose(images[Math.min(images.length - 1, Math.max(0, to))]);
}

/** One image; `plain` where it is no option of a list. */
export function Card({ image, model, heat, width, x, y, at, size, chosen, choose, plain }) {
  const canvas = useRef(null);
  const result = image.results[model.name];
  const cut = result.error ? null : cutOf(result, model);
  useEffect(() => {
    let gone = false;
    paintCard(canvas.current, image, result, cut, heat.opacity, width, () => gone);
    return () => {
      gone = true;
    };
  }, [image.key, result, cut, heat.opacity, width]);
  const flagged = !result.error && isFlagged(result, model);
  const says = result.error ?? `p ${result.p_value.toPrecision(2)}`;
  const option = plain ? {} : { id: `image-${image.key}`, role: "option", "aria-selected": String(chosen), "aria-posinset": at + 1, "aria-setsize": size };
  return html`<div ...${option} class=${`card ${chosen ? "chosen" : ""} ${flagged ? "flagged" : ""}`}
    style=${{ transform: `translate(${x}px, ${y}px)`, width: `${width}px` }} onClick=${() => choose?.(image)}>
    <canvas ref=${canvas} style=${{ width: `${width}px`, height: `${width}px` }} aria-hidden="true"></canvas>
    <div class="name" title=${image.name}>${image.name.split("/").at(-1)}</div>
    <div class="says">${result.error
      ? html`<span class="soft" title=${says}>not scored</span>`
      : html`<${Tag} flagged=${flagged}>${verdictOf(result, model)}<//> <span class="soft">${says}</span>`}</div>
  </div>`;
}

async function paintCard(canvas, image, result, cut, opacity, width, gone) {
  const copy = await smallCopy(image);
  const map = result.map && opacity > 0 && cut !== null ? await decodeMap(result.map) : null;
  if (gone()) return;
  if (map) result.map = map;
  const context = prepare(canvas, width, width);
  const size = copy ?? map ?? { width: 1, height: 1 };
  const box = fit(result.width || size.width, result.height || size.height, width, width);
  if (copy) context.drawImage(copy, box.x, box.y, box.width, box.height);
  if (map) paintHeat(context, map, cut, opacity, box);
}
