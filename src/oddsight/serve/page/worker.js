/* Runs a model in ONNX Runtime Web, away from the page, so that the page never freezes. */
let session = null;
let runtime = null;

self.onmessage = async ({ data }) => {
  try {
    if (data.model) await load(data);
    else self.postMessage({ id: data.id, outputs: await run(data) });
  } catch (error) {
    self.postMessage({ id: data.id, error: String(error.message ?? error) });
  }
};

async function load({ script, wasm, model }) {
  runtime = await import(script);
  runtime.env.wasm.wasmBinary = wasm;
  runtime.env.wasm.numThreads = 1;
  runtime.env.logLevel = "error";
  session = await runtime.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  self.postMessage({ ready: true });
}

async function run({ width, height, pixels }) {
  const image = new runtime.Tensor("uint8", pixels, [1, height, width, 3]);
  const outputs = {};
  for (const [name, tensor] of Object.entries(await session.run({ image }))) {
    outputs[name] = { dims: tensor.dims, data: Array.from(tensor.data, Number) };
    tensor.dispose();
  }
  image.dispose();
  return outputs;
}
