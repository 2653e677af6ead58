// Label one item with model.onnx: node classify.mjs FOLDER [--image FILE] [--text TEXT]
//
// `mora-train export RUN --output FOLDER --single-file` writes the folder. package.json names what this program needs.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Tokenizer } from "@huggingface/tokenizers";
import ort from "onnxruntime-node";
import sharp from "sharp";

const KERNELS = { nearest: "nearest", lanczos: "lanczos3", bilinear: "linear", bicubic: "cubic" };

/** (1, 3, H, W): RGB over white, resized, cropped at the centre, scaled to 0..1, normalised. */
async function pixelValues(picture, image) {
  const upright = picture.autoOrient().flatten({ background: "white" }).toColourspace("srgb");
  const { autoOrient: size } = await picture.metadata();
  const resized = (edge) => Math.floor((edge * image.shortest_edge) / Math.min(size.width, size.height));
  const [height, width] = image.exact_size ?? [resized(size.height), resized(size.width)];
  const [cropHeight, cropWidth] = image.crop ?? [height, width];
  const kernel = KERNELS[image.resample];
  const { data, info } = await upright
    .resize(width, height, { fit: "fill", kernel, fastShrinkOnLoad: false })
    .extract({
      left: Math.floor((width - cropWidth) / 2),
      top: Math.floor((height - cropHeight) / 2),
      width: cropWidth,
      height: cropHeight,
    })
    .raw()
    .toBuffer({ resolveWithObject: true });
  const pixels = info.width * info.height;
  const values = new Float32Array(3 * pixels);
  for (let channel = 0; channel < 3; channel++)
    for (let pixel = 0; pixel < pixels; pixel++)
      values[channel * pixels + pixel] = (data[3 * pixel + channel] / 255 - image.mean[channel]) / image.std[channel];
  return new ort.Tensor("float32", values, [1, 3, info.height, info.width]);
}

/** The tokens of the text with its end token, cut at `max_length`. */
function tokens(words, text, tokenizer) {
  const { ids } = tokenizer.encode(words);
  if (ids.length > text.max_length) ids.splice(text.max_length - 1, ids.length - text.max_length);
  while (text.padding && ids.length < text.padding.length) ids.push(text.padding.token);
  return ids;
}

/** In 0..1, as the service answers them. */
function scores(logits, problem, temperature) {
  const scaled = logits.map((logit) => logit / temperature);
  if (problem === "multi_label") return scaled.map((value) => 1 / (1 + Math.exp(-value)));
  const powers = scaled.map((value) => Math.exp(value - Math.max(...scaled)));
  const sum = powers.reduce((total, power) => total + power);
  return powers.map((power) => power / sum);
}

const options = { image: { type: "string" }, text: { type: "string" } };
const { values: asked, positionals } = parseArgs({ options, allowPositionals: true });
const [folder] = positionals;
const words = asked.text?.trim() ? asked.text : "";
if (!folder || !(asked.image || words)) {
  console.error("usage: node classify.mjs FOLDER [--image FILE] [--text TEXT]; give an image, a text or both");
  process.exit(2);
}
const read = (name) => JSON.parse(readFileSync(join(folder, name), "utf8"));
const manifest = read("manifest.json");
const session = await ort.InferenceSession.create(join(folder, "model.onnx"));

// A missing image is a white picture, a missing text is the empty string.
const white = { create: { width: 64, height: 64, channels: 3, background: "white" } };
const ids = tokens(words, manifest.text, new Tokenizer(read("tokenizer.json"), {}));
const inputs = {
  pixel_values: await pixelValues(sharp(asked.image ?? white), manifest.image),
  input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
  last_token: new ort.Tensor("int64", [BigInt(ids.length - 1)], [1]),
};
const { logits } = await session.run(inputs); // (1, C)

const pattern = asked.image && words ? "both" : asked.image ? "image" : "text";
const { temperature, thresholds } = manifest.calibration[pattern];
const ofLabels = scores([...logits.data], manifest.problem, temperature);
const answer = manifest.labels.map((label, number) => {
  const score = ofLabels[number];
  return { label, score, selected: score >= (thresholds?.[number] ?? Math.max(...ofLabels)) };
});
for (const line of answer.sort((one, other) => other.score - one.score)) console.log(JSON.stringify(line));
