/* Preact with its templates and hooks, and the icons. */
import htm from "./vendor/htm.js";
import { h, render } from "./vendor/preact.js";

export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
export { render };
export const html = htm.bind(h);

const SHAPES = {
  look: ["M3 5h7v6H3z", "M14 5h7v6h-7z", "M3 14h7v6H3z", "M14 14h7v6h-7z"],
  decide: ["M4 20V10", "M9 20V5", "M14 20v-9", "M19 20v-4", "M16 3v18"],
  train: ["M12 3 3 8l9 5 9-5z", "M6 11v5c2 2 10 2 12 0v-5"],
  evaluate: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16z", "m8.5 12 2.5 2.5 4.5-5"],
  teach: ["m4 20 1-4L16 5l3 3L8 19z", "m14 7 3 3"],
  compare: ["M12 4v16", "M4 8h5v8H4z", "M15 8h5v8h-5z"],
  history: ["M4 18 9 12l4 3 7-9", "M4 21h16"],
  watch: ["M3 7h12v10H3z", "m15 11 6-3v8l-6-3z"],
  close: ["m6 6 12 12", "M18 6 6 18"],
  upload: ["M12 16V4", "m7 9 5-5 5 5", "M4 20h16"],
  sun: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M5 19l1.4-1.4M17.6 6.4 19 5"],
  moon: ["M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z"],
  check: ["m5 13 4 4L19 7"],
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">${SHAPES[name].map((d) => html`<path d=${d} />`)}</svg>`;
}
