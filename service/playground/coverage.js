// The coverage to ask for, and the label set of an answer.
import { byId, element } from "./element.js";

const CHOICES = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];
const ONE = "Adds the labels among which the true one is with this probability, and whether a person should look.";
const SEVERAL = "Adds labels with this share of the true ones on average, and whether a person should look.";
const NO_SETS = "Off: this version has no label sets. They need a validation split of at least 100 items.";

// Offers the coverages that a task supports for at least one presence pattern.
export function offer(task) {
  const highest = Math.max(0, ...Object.values(task.highest_coverage));
  const values = CHOICES.filter((choice) => choice <= highest).map(String);
  const select = byId("coverage");
  const before = select.value;
  const options = values.map((value) => element("option", { value }, value));
  select.replaceChildren(element("option", { value: "" }, "off"), ...options);
  select.value = values.includes(before) ? before : "";
  select.disabled = values.length === 0;
  const promise = task.problem === "single_label" ? ONE : SEVERAL;
  byId("coverage-hint").textContent = values.length ? promise : NO_SETS;
}

// All labels of the set, which may be more than the ranked ones. Empty if no coverage was asked for.
export function sentence({ label_set: set }) {
  if (!set) return [];
  const labels = element("b", {}, set.labels.join(", ") || "no label");
  const review = set.review ? element("strong", {}, "review: a person should look at this one") : "no review needed";
  return [element("p", { class: "set" }, `Label set with coverage ${set.coverage}: `, labels, "; ", review, ".")];
}

// The mark of a ranked label that is in the set.
export function badge(label, { label_set: set }) {
  return set?.labels.includes(label) ? element("span", { class: "in-set" }, "in the set") : null;
}
