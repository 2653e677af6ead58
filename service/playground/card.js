// What is known about a task: how good it is with each modality missing, how it was calibrated, where it comes from.
import { byId, element, measured } from "./element.js";
import { count, decimal, percent } from "./figure.js";
import { ask, askJson, hasKey } from "./service.js";

const PATTERNS = { overall: "as tested", both: "image and text", image: "image only", text: "text only" };
const METRICS = {
  items: "items", accuracy: "accuracy", macro_f1: "macro-F1", macro_f1_calibrated: "macro-F1, own thresholds",
  ece: "calibration error", ece_calibrated: "after calibration",
};

// Throws Problem; `failed(problem)` hears of those that come later.
export async function load(task, signal, failed) {
  const path = `tasks/${encodeURIComponent(task)}`;
  const [detail, { versions }] = await Promise.all([askJson(path, { signal }), askJson(`${path}/versions`, { signal })]);
  if (signal.aborted) return;
  byId("card-title").textContent = `About ${detail.task}`;
  byId("card-body").replaceChildren(
    ...refused(detail.refused),
    part("Scores", ...Object.entries(detail.metrics).reverse().map(([split, rows]) => scores(split, rows))),
    part("Calibration", ...calibration(detail)),
    part("Trained on", mix(detail.training_mix)),
    part("Labels", element("details", { open: detail.labels.length <= 20 }, element("summary", {}, `${detail.labels.length} labels`),
      element("ul", { class: "chips" }, ...detail.labels.map((label) => element("li", {}, label))))),
    part("Versions", element("ul", { class: "chips" }, ...versions.map(version)), reportLink(path, detail, failed)),
    part("Where it comes from", provenance(detail)),
  );
}

export const clear = () => byId("card-body").replaceChildren();

const part = (title, ...content) => element("section", { class: "part" }, element("h3", {}, title), ...content);

function refused(refusal) {
  if (refusal === null) return [];
  return [element("p", { class: "notice" }, `Version ${refusal.version ?? "?"} is live in the store but failed its checks (${refusal.reason}), so the one before answers.`)];
}

function scores(split, rows) {
  const given = Object.keys(METRICS).filter((metric) => Object.values(rows).some((row) => row[metric] !== undefined));
  const head = element("tr", {}, element("th", { scope: "col" }, "Items have"), ...given.map((metric) => element("th", { scope: "col" }, METRICS[metric])));
  const body = Object.entries(rows).map(([pattern, row]) => element("tr", {},
    element("th", { scope: "row" }, PATTERNS[pattern] ?? pattern), ...given.map((metric) => element("td", {}, score(metric, row[metric])))));
  const table = element("table", { class: "scores" }, element("caption", {}, `${split} split`), element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Scores on the ${split} split` }, table);
}

function score(metric, value) {
  if (value === undefined || value === null) return "\u2013";
  return metric === "items" ? count(value) : percent(value);
}

function calibration(detail) {
  const rows = Object.entries(detail.calibration).map(([pattern, { temperature }]) =>
    element("div", {}, element("dt", {}, PATTERNS[pattern]), element("dd", {}, decimal(temperature))));
  const list = [element("p", { class: "hint" }, "Temperature that logits are divided by"), element("dl", { class: "pairs" }, ...rows)];
  if (detail.calibration.both.thresholds === null) return list;
  const body = detail.labels.map((label, place) => element("tr", {}, element("th", { scope: "row" }, label),
    ...["both", "image", "text"].map((pattern) => element("td", {}, decimal(detail.calibration[pattern].thresholds[place])))));
  const head = element("tr", {}, element("th", { scope: "col" }, "Label"), ...["both", "image", "text"].map((pattern) => element("th", { scope: "col" }, PATTERNS[pattern])));
  return [...list, element("details", {}, element("summary", {}, "Score from which each label is selected"),
    element("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Thresholds" }, element("table", { class: "scores" }, element("thead", {}, head), element("tbody", {}, ...body))))];
}

function mix(shares) {
  return element("ul", { class: "mix" }, ...Object.entries(shares).map(([pattern, share]) =>
    element("li", {}, element("span", { class: "name" }, PATTERNS[pattern]), element("span", { class: "number" }, percent(share)),
      element("span", { class: "bar", "aria-hidden": "true" }, measured(element("span"), { length: `${share * 100}%` })))));
}

function version({ version: number, live }) {
  return element("li", live ? { class: "live", "aria-current": "true" } : {}, `${number}`, live ? element("b", {}, " live") : null);
}

// A link sends no key, so with one the report is fetched and saved.
function reportLink(path, detail, failed) {
  if (!detail.has_report) return element("p", { class: "hint" }, "Published without a training report.");
  const save = async (event) => {
    if (!hasKey()) return;
    event.preventDefault();
    try {
      const address = URL.createObjectURL(await (await ask(`${path}/report`)).blob());
      element("a", { href: address, download: `${detail.task}-${detail.version}.html` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    } catch (problem) {
      failed(problem);
    }
  };
  return element("p", {}, element("a", { href: `${path}/report`, target: "_blank", rel: "noopener", click: save }, `Training report of version ${detail.version}`));
}

function provenance(detail) {
  const made = detail.provenance;
  const rows = {
    problem: detail.problem === "single_label" ? "one label of many" : "any number of labels",
    backbone: `${detail.backbone.name} (${detail.backbone.family})`,
    precision: detail.precision,
    trained: new Date(made.created_at).toISOString().slice(0, 16).replace("T", " ") + " UTC",
    code: made.code_version,
    seed: String(made.seed),
    "data fingerprint": made.dataset_fingerprint,
    packages: Object.entries(made.packages).map(([name, number]) => `${name} ${number}`).join(", ") || "not recorded",
  };
  return element("div", {},
    element("dl", { class: "pairs wide" }, ...Object.entries(rows).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
    element("details", {}, element("summary", {}, "Training configuration"),
      element("pre", { tabindex: "0", "aria-label": "Training configuration" }, element("code", {}, JSON.stringify(made.config, null, 2)))));
}
