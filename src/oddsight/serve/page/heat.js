/* Anomaly maps as heat maps, in the colours of src/oddsight/drawing/overlays.py: transparent well below the threshold,
   yellow at it, red above it, and the same on every image. */

const SCALE = [
  [0.75, 255, 237, 120, 0.0],
  [1.0, 255, 221, 0, 0.42],
  [1.25, 255, 125, 0, 0.5],
  [1.6, 225, 20, 20, 0.52],
  [2.0, 165, 0, 55, 0.55],
];
const STEPS = 512;
const START = SCALE[0][0];
const END = SCALE.at(-1)[0];

const TABLE = (() => {
  const table = new Uint8ClampedArray(4 * STEPS);
  for (let step = 0; step < STEPS; step += 1) {
    const at = START + ((END - START) * step) / (STEPS - 1);
    const next = Math.max(1, SCALE.findIndex((stop) => stop[0] >= at));
    const [low, high] = [SCALE[next - 1], SCALE[next]];
    const part = (at - low[0]) / (high[0] - low[0]);
    for (let channel = 0; channel < 4; channel += 1) {
      const value = low[channel + 1] + part * (high[channel + 1] - low[channel + 1]);
      table[4 * step + channel] = channel === 3 ? 255 * value : value;
    }
  }
  return table;
})();

/** The values of a map as the service sends it: `{height, width, values}`. */
export async function decodeMap(map) {
  if (map.values) return map;
  const content = Uint8Array.from(atob(map.png), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([content], { type: "image/png" }), { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, map.width, map.height);
  const [low, high] = map.scale;
  const values = new Float32Array(map.width * map.height);
  for (let cell = 0; cell < values.length; cell += 1) values[cell] = low + ((high - low) * data[4 * cell]) / 255;
  return { height: map.height, width: map.width, values };
}

/** The colours of a map, interpolated to a size in pixels. */
export function heatImage(map, threshold, width, height) {
  const image = new ImageData(width, height);
  const size = Math.abs(threshold) || 1e-9;
  const factor = (STEPS - 1) / (END - START);
  for (let y = 0; y < height; y += 1) {
    const row = Math.min(map.height - 1, Math.max(0, ((y + 0.5) * map.height) / height - 0.5));
    const top = Math.floor(row);
    const bottom = Math.min(map.height - 1, top + 1);
    for (let x = 0; x < width; x += 1) {
      const column = Math.min(map.width - 1, Math.max(0, ((x + 0.5) * map.width) / width - 0.5));
      const left = Math.floor(column);
      const right = Math.min(map.width - 1, left + 1);
      const upper = mix(map.values[top * map.width + left], map.values[top * map.width + right], column - left);
      const lower = mix(map.values[bottom * map.width + left], map.values[bottom * map.width + right], column - left);
      const level = 1 + (mix(upper, lower, row - top) - threshold) / size;
      const step = Math.round((Math.min(END, Math.max(START, level)) - START) * factor);
      image.data.set(TABLE.subarray(4 * step, 4 * step + 4), 4 * (y * width + x));
    }
  }
  return image;
}

const mix = (a, b, part) => a + part * (b - a);

/** Paint a heat map over what a context shows, in a box. */
export function paintHeat(context, map, threshold, opacity, box) {
  const scale = Math.min(1, 320 / Math.max(box.width, box.height));
  const [width, height] = [Math.max(1, Math.round(box.width * scale)), Math.max(1, Math.round(box.height * scale))];
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(heatImage(map, threshold, width, height), 0, 0);
  context.save();
  context.globalAlpha = opacity;
  context.drawImage(canvas, box.x, box.y, box.width, box.height);
  context.restore();
}

/** Draw the outlines of regions. */
export function paintRegions(context, regions, box, size) {
  const [across, down] = [box.width / size.width, box.height / size.height];
  context.save();
  context.lineJoin = "round";
  for (const [width, colour] of [[4, "rgb(20 20 20 / .65)"], [2, "#fff"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.beginPath();
    for (const ring of regions.flatMap((region) => region.polygons.flat())) {
      ring.forEach(([x, y], corner) => context[corner ? "lineTo" : "moveTo"](box.x + x * across, box.y + y * down));
      context.closePath();
    }
    context.stroke();
  }
  context.restore();
}
