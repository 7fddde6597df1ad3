/* Images on the screen: a few hundred small copies are kept, the rest is decoded when it comes into view. */
import { html, useEffect, useState } from "./dom.js";

const KEPT = 400;
const SIDE = 320;
const cache = new Map();

/** A small copy of a dropped image as an ImageBitmap; null if the browser cannot read it. */
export function smallCopy(image) {
  const known = cache.get(image.key);
  if (known) {
    cache.delete(image.key);
    cache.set(image.key, known);
    return known;
  }
  const made = decode(image.file, SIDE);
  cache.set(image.key, made);
  if (cache.size > KEPT) cache.delete(cache.keys().next().value);
  return made;
}

async function decode(file, side) {
  if (!file) return null;
  try {
    const whole = await createImageBitmap(file, { colorSpaceConversion: "none" });
    const scale = Math.min(1, side / Math.max(whole.width, whole.height));
    if (scale === 1) return whole;
    const size = { resizeWidth: Math.max(1, Math.round(whole.width * scale)), resizeQuality: "medium" };
    const small = await createImageBitmap(whole, size);
    whole.close();
    return small;
  } catch {
    return null;
  }
}

/** The image in full, up to what a screen shows. */
export const largeCopy = (file) => decode(file, 1600);

/** Where an image lies in a box when all of it is seen. */
export function fit(width, height, boxWidth, boxHeight) {
  const scale = Math.min(boxWidth / width, boxHeight / height);
  const [w, h] = [width * scale, height * scale];
  return { x: (boxWidth - w) / 2, y: (boxHeight - h) / 2, width: w, height: h };
}

/** Make a canvas as fine as the screen, and return its context in CSS pixels. */
export function prepare(canvas, width, height) {
  const ratio = Math.min(2, devicePixelRatio || 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

/** An image that `load` fetches, such as one of the service. */
export function Fetched({ load, name, alt, missing = "no image" }) {
  const [url, setUrl] = useState(undefined);
  useEffect(() => {
    let [gone, made] = [false, null];
    setUrl(undefined);
    load()
      .catch(() => null)
      .then((address) => {
        if (gone && address) URL.revokeObjectURL(address);
        if (gone) return;
        made = address;
        setUrl(address);
      });
    return () => {
      gone = true;
      if (made) URL.revokeObjectURL(made);
    };
  }, [name]);
  if (url === null) return html`<div class="fetched missing" role="img" aria-label=${`${alt}: ${missing}`}>${missing}</div>`;
  return html`<div class="fetched">${url && html`<img src=${url} alt=${alt} />`}</div>`;
}
