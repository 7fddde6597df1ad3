/* An image file as the RGB values that the command reads: no colour profile, no gamma, transparent pixels over white.
   What a browser reads otherwise than the command is refused instead of being scored differently. */

/** `{width, height, pixels}`, uint8 RGB. */
export async function decodeRgb(file) {
  refuse(new Uint8Array(await file.slice(0, 65_536).arrayBuffer()));
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" });
  } catch {
    throw new Error("This browser cannot read the image: it is damaged, or in another format. Use the command for it.");
  }
  const { width, height } = bitmap;
  let values = onCanvas(bitmap);
  if (!isOpaque(values)) values = onTexture(bitmap);
  bitmap.close();
  return { width, height, pixels: overWhite(values) };
}

function onCanvas(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

function isOpaque(values) {
  for (let at = 3; at < values.length; at += 4) if (values[at] !== 255) return false;
  return true;
}

/** The colours of transparent pixels, which a canvas would round: WebGL reads them as they are in the file. */
function onTexture(bitmap) {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl || Math.max(bitmap.width, bitmap.height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
    throw new Error("This browser cannot read transparent images of this size exactly. Use the command for it.");
  }
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
  const values = new Uint8Array(4 * bitmap.width * bitmap.height);
  gl.readPixels(0, 0, bitmap.width, bitmap.height, gl.RGBA, gl.UNSIGNED_BYTE, values);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return values;
}

function overWhite(values) {
  const pixels = new Uint8Array((values.length / 4) * 3);
  for (let from = 0, to = 0; from < values.length; from += 4) {
    const alpha = values[from + 3];
    for (let channel = 0; channel < 3; channel += 1, to += 1) pixels[to] = blend(values[from + channel], alpha);
  }
  return pixels;
}

/** A value over white, rounded as Pillow does it. */
function blend(value, alpha) {
  if (alpha === 255) return value;
  const sum = 128 * (value * alpha + 255 * (255 - alpha) + 128);
  return ((sum >>> 8) + sum) >>> 15;
}

function refuse(head) {
  const isPng = head[0] === 0x89 && head[1] === 0x50;
  if (isPng && head[24] === 16) throw new Error("A PNG file of 16 bits a channel: browsers round it otherwise. Use the command for it.");
  if (head[0] === 0xff && head[1] === 0xd8 && channelsOf(head) === 4) throw new Error("A CMYK JPEG file: browsers convert it otherwise. Use the command for it.");
}

/** How many channels the frame header of a JPEG file names. */
function channelsOf(head) {
  let at = 2;
  while (at + 9 < head.length && head[at] === 0xff) {
    const marker = head[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return head[at + 9];
    at += 2 + head[at + 2] * 256 + head[at + 3];
  }
  return null;
}
