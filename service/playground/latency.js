// The stages of an answer: one after another, the two encoders in parallel.
import { element, hint, measured } from "./element.js";
import { milliseconds } from "./figure.js";

const NAMES = {
  decode: "decode image",
  tokenize: "tokenize text",
  queue: "queue",
  image_encoder: "image encoder",
  text_encoder: "text encoder",
  head: "head",
  total: "total",
};

export function waterfall(latency, roundTrip) {
  const { end, ...starts } = startsOf(latency);
  const whole = Math.max(latency.total, end, 1e-9);
  const rows = Object.keys(NAMES).map((stage) => row(stage, latency[stage], starts[stage], whole));
  return [
    element("table", { class: "waterfall" }, element("tbody", {}, ...rows)),
    hint(`This browser waited ${milliseconds(roundTrip)} in all; the rest is the network and the page.`),
  ];
}

function row(stage, duration, start, whole) {
  const place = { start: `${(start / whole) * 100}%`, length: `${(duration / whole) * 100}%` };
  const span = measured(element("span", { class: `span ${stage}` }), place);
  return element("tr", duration === 0 ? { class: "idle" } : {},
    element("th", { scope: "row" }, NAMES[stage]),
    element("td", { class: "track", "aria-hidden": "true" }, span),
    element("td", { class: "number" }, duration === 0 ? "not run" : milliseconds(duration)));
}

// The start of each stage and the end of the last one, in milliseconds from the start of the request.
function startsOf(latency) {
  const tokenize = latency.decode;
  const queue = tokenize + latency.tokenize;
  const encoders = queue + latency.queue;
  const head = encoders + Math.max(latency.image_encoder, latency.text_encoder);
  const end = head + latency.head;
  return { decode: 0, tokenize, queue, image_encoder: encoders, text_encoder: encoders, head, total: 0, end };
}
