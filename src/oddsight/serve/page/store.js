/* What the page knows, in one place. Views read it with `useStore` and change it with `change`. */
import { useEffect, useState } from "./dom.js";

export const state = {
  status: null, // Of the service
  models: [],
  model: null, // Name of the model in use
  images: [], // Dropped images, with a result for each model that scored them
  here: false, // Whether images are scored in this browser
  scoring: null, // {done, total} while images are scored
  training: null, // The training that the page follows
  evaluation: null, // The evaluation that it follows
  draft: null, // A threshold that is tried and not saved
  selected: null, // Key of the image that is shown large
  notice: null, // {text, bad} that is said once
  revision: 0, // Counts changes of images in place
};

const listeners = new Set();
let waiting = false;

/** Change some of it; views are drawn again soon. */
export function change(values) {
  Object.assign(state, values);
  if (waiting) return;
  waiting = true;
  queueMicrotask(() => {
    waiting = false;
    for (const listener of [...listeners]) listener();
  });
}

/** The state; draws the view again after each change. */
export function useStore() {
  const [, redraw] = useState(0);
  useEffect(() => {
    const listener = () => redraw((count) => count + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return state;
}

/** Say something at the lower edge of the page. */
export function say(text, bad = false) {
  change({ notice: { text, bad } });
}

/** The model in use, or undefined. */
export function currentModel() {
  return state.models.find((model) => model.name === state.model);
}

export function allows(scope) {
  return Boolean(state.status?.scopes.includes(scope));
}
