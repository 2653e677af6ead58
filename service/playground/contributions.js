// The contribution of each modality to each label, and the answers without one modality.
import { element, hint, measured } from "./element.js";
import { percent, signedLogit } from "./figure.js";

const PARTS = ["base", "image", "text"];

// One sentence, also for screen readers.
export function sentence(answer) {
  const { carried_by: carrier, without_image: withoutImage, without_text: withoutText } = answer.explanation;
  const absent = Object.keys(answer.modalities).find((modality) => answer.modalities[modality] === "absent");
  if (absent) return `There is no ${absent}, so the ${carrier} carried this answer.`;
  const [now, onText, onImage] = [answer.labels, withoutImage, withoutText].map(names);
  const carried = `The ${carrier} carried this answer`;
  if (now === onText && now === onImage) return `${carried}; each modality alone gives the same answer.`;
  if (now === onText) return `${carried}. Without the image it would be the same; without the text it would be ${onImage}.`;
  if (now === onImage) return `${carried}. Without the text it would be the same; without the image it would be ${onText}.`;
  return `${carried}. Without the image it would be ${onText}; without the text it would be ${onImage}.`;
}

export function contributions(answer) {
  const rows = answer.explanation.labels;
  const reach = Math.max(...rows.flatMap((row) => [side(row, 1), -side(row, -1)]), 1e-9);
  const keys = PARTS.map((part) => element("span", { class: `key ${part}` }, part));
  return [
    hint("The logit of each label, before calibration, is a sum: the logit of an item with neither modality (base), ",
      "plus the contributions of this image and this text. An amount that is added to all labels changes no score."),
    element("p", { class: "legend", "aria-hidden": "true" }, ...keys),
    element("ul", { class: "contributions" }, ...rows.map((row) => contribution(row, reach))),
  ];
}

function contribution(row, reach) {
  const figure = (part, value) =>
    element("span", { class: `figure ${part}` }, `${part} `, element("b", {}, signedLogit(value)));
  const figures = [...PARTS.map((part) => figure(part, row[part])), figure("sum", row.logit)];
  return element("li", {},
    element("span", { class: "name" }, row.label),
    element("span", { class: "figures" }, ...figures.flatMap((one) => [one, " "])),
    element("span", { class: "diverging", "aria-hidden": "true" }, ...stacked(row, reach)));
}

export function without(answer) {
  const { without_image: withoutImage, without_text: withoutText } = answer.explanation;
  if (!withoutImage || !withoutText) return [];
  const columns = { "With both": answer.labels, "Without the image": withoutImage, "Without the text": withoutText };
  return Object.entries(columns).map(([title, labels]) =>
    element("div", {}, element("h4", {}, title), element("ol", { class: "short" }, ...labels.slice(0, 3).map(short))));
}

function short(label) {
  return element("li", label.selected ? { class: "selected" } : {},
    element("span", {}, mark(label), label.label), element("span", {}, percent(label.score)));
}

// A selected label is not marked by colour alone.
export function mark(label) {
  return label.selected ? element("span", { class: "mark", role: "img", "aria-label": "selected:" }, "\u2713 ") : null;
}

export function names(labels) {
  const selected = labels.filter((label) => label.selected).map((label) => label.label);
  return selected.length ? selected.join(", ") : "no label";
}

function side(row, sign) {
  return PARTS.map((part) => row[part]).filter((value) => value * sign > 0).reduce((sum, value) => sum + value, 0);
}

// Negative parts extend left of zero and positive parts right, each from the end of the previous one; in shares of the width.
function stacked(row, reach) {
  const ends = { "1": 0.5, "-1": 0.5 };
  return PARTS.filter((part) => row[part] !== 0).map((part) => {
    const length = Math.abs(row[part]) / reach / 2;
    const sign = Math.sign(row[part]);
    const start = sign > 0 ? ends[1] : ends[-1] - length;
    ends[sign] += sign * length;
    const piece = element("span", { class: `part ${part}` });
    return measured(piece, { start: `${start * 100}%`, length: `${length * 100}%` });
  });
}
