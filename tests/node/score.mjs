// Score one picture with a model file: node score.mjs MODEL.onnx PIXELS.rgb HEIGHT WIDTH
import { readFileSync } from 'node:fs';
import * as ort from 'onnxruntime-web';

const [model, picture, height, width] = process.argv.slice(2);
const session = await ort.InferenceSession.create(readFileSync(model));
const pixels = new Uint8Array(readFileSync(picture));
const image = new ort.Tensor('uint8', pixels, [1, Number(height), Number(width), 3]);
const { score, p_value } = await session.run({ image });
console.log(JSON.stringify({ score: score.data[0], p_value: p_value.data[0] }));
