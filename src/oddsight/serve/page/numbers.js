/* Numbers: how they are written, and conformal calibration as in docs/calibration.md. */

export const count = (n) => n.toLocaleString("en");
export const images = (n) => `${count(n)} ${n === 1 ? "image" : "images"}`;

/** A score with as many digits as distinguish it. */
export function score(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size >= 1e5 || (size > 0 && size < 1e-3) ? value.toExponential(2) : value.toPrecision(4);
}

/** A share as a percentage. */
export function percent(share) {
  const value = 100 * share;
  return `${value >= 10 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toPrecision(2)}%`.replace(".0%", "%");
}

export function bytes(n) {
  return n < 1e6 ? `${(n / 1e3).toFixed(0)} kB` : `${(n / 1e6).toFixed(1)} MB`;
}

/** What a p-value says, in a sentence. */
export function chance(p) {
  if (p >= 0.5) return "Most normal images look at least as unusual.";
  const one = Math.round(1 / p);
  return `About 1 in ${count(one)} normal images looks at least as unusual.`;
}

export function when(time) {
  const date = typeof time === "number" ? new Date(1000 * time) : new Date(time);
  return Number.isNaN(date.getTime()) ? String(time) : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

/** How many of ascending numbers are greater than a value. */
export function above(ascending, value) {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] > value) high = middle;
    else low = middle + 1;
  }
  return ascending.length - low;
}

/** The false-alarm rate that a threshold promises: the chance that a new normal image scores above it is at most that. */
export function rateOf(calibration, threshold) {
  return Math.min(1, (1 + above(calibration, threshold)) / (1 + calibration.length));
}

/** The threshold for a rate, as `oddsight threshold` sets it; null if there are too few calibration images. */
export function thresholdFor(calibration, rate) {
  const reached = Math.min(calibration.length, Math.floor(rate * (calibration.length + 1) * (1 + 1e-9)));
  return reached < 1 ? null : calibration[calibration.length - reached];
}

/** The exact two-sided p-value of McNemar's test on `b` changes one way and `c` the other. */
export function mcnemar(b, c) {
  const n = b + c;
  let term = -n * Math.LN2;
  let total = 0;
  for (let k = 0; k <= Math.min(b, c); k += 1) {
    total += Math.exp(term);
    term += Math.log((n - k) / (k + 1));
  }
  return Math.min(1, 2 * total);
}
