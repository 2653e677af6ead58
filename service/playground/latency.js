// Where the time of an answer went: its stages one after another, the two encoders side by side.
import { element, measured } from "./element.js";
import { milliseconds } from "./figure.js";

const NAMES = {
  decode: "decode image", tokenize: "tokenize text", queue: "queue", image_encoder: "image encoder", text_encoder: "text encoder",
  head: "head", total: "total",
};

export function waterfall(latency, roundTrip) {
  const starts = startsOf(latency);
  const end = Math.max(latency.total, starts.total, 1e-9);
  const rows = Object.entries(NAMES).map(([stage, name]) => {
    const bar = measured(element("span", { class: `span ${stage}` }), {
      start: `${(stage === "total" ? 0 : starts[stage] / end) * 100}%`, length: `${(latency[stage] / end) * 100}%`,
    });
    return element("tr", latency[stage] === 0 ? { class: "idle" } : {},
      element("th", { scope: "row" }, name),
      element("td", { class: "track", "aria-hidden": "true" }, bar),
      element("td", { class: "number" }, latency[stage] === 0 ? "not run" : milliseconds(latency[stage])));
  });
  return [
    element("table", { class: "waterfall" }, element("tbody", {}, ...rows)),
    element("p", { class: "hint" }, `This browser waited ${milliseconds(roundTrip)}; the network and the page took the rest.`),
  ];
}

// Milliseconds from the beginning at which each stage began; `total` is where the last one ends.
function startsOf(latency) {
  const tokenize = latency.decode;
  const queue = tokenize + latency.tokenize;
  const encoders = queue + latency.queue;
  const head = encoders + Math.max(latency.image_encoder, latency.text_encoder);
  return { decode: 0, tokenize, queue, image_encoder: encoders, text_encoder: encoders, head, total: head + latency.head };
}
