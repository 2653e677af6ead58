// The card of a task: scores per presence pattern, calibration, versions, provenance.
import { bar, byId, element, hint } from "./element.js";
import { count, decimal, percent } from "./figure.js";
import { ask, askJson, hasKey } from "./service.js";
import { pairs, table } from "./table.js";

const PATTERNS = { both: "image and text", image: "image only", text: "text only" };
const METRICS = {
  items: "items",
  accuracy: "accuracy",
  exact_match: "exact match",
  macro_f1: "macro-F1",
  macro_f1_calibrated: "macro-F1, calibrated thresholds",
  ece: "calibration error",
  ece_calibrated: "after calibration",
  recall_at_1: "recall@1",
  recall_at_5: "recall@5",
  recall_at_10: "recall@10",
};
const PROBLEMS = { single_label: "one label of many", multi_label: "any number of labels", retrieval: "retrieval" };
const FEW_LABELS = 20;

// The details of the task, or null if another task was chosen. Throws Problem; later problems go to `failed(problem)`.
export async function load(task, signal, failed) {
  const path = `tasks/${encodeURIComponent(task)}`;
  const asked = [askJson(path, { signal }), askJson(`${path}/versions`, { signal })];
  const [detail, { versions }] = await Promise.all(asked);
  if (signal.aborted) return null;
  byId("card-title").textContent = `About ${detail.task}`;
  byId("card-body").replaceChildren(
    ...refused(detail.refused),
    part("Scores", ...Object.entries(detail.metrics).reverse().map(([split, rows]) => scores(split, rows))),
    ...(detail.embedding_size === null ? [part("Calibration", ...calibration(detail))] : []),
    part("Trained on", mix(detail.training_mix)),
    ...(detail.embedding_size === null ? [part("Labels", labels(detail.labels))] : []),
    part("Versions", element("ul", { class: "chips" }, ...versions.map(version)), report(path, detail, failed)),
    part("Provenance", ...provenance(detail)),
  );
  return detail;
}

function part(title, ...content) {
  return element("section", { class: "part" }, element("h3", {}, title), ...content);
}

function refused(refusal) {
  if (refusal === null) return [];
  const what = `Version ${refusal.version ?? "?"} is live in the store but failed its checks (${refusal.reason})`;
  return [element("p", { class: "notice" }, `${what}. The previous version answers.`)];
}

function scores(split, rows) {
  const given = Object.keys(METRICS).filter((metric) => Object.values(rows).some((row) => row[metric] !== undefined));
  const columns = ["Items have", ...given.map((metric) => METRICS[metric])];
  const body = Object.entries(rows).map(([pattern, row]) =>
    [PATTERNS[pattern] ?? "as tested", given.map((metric) => score(metric, row[metric]))]);
  return table(`Scores on the ${split} split`, columns, body, `${split} split`);
}

function score(metric, value) {
  if (value === undefined || value === null) return "\u2013";
  return metric === "items" ? count(value) : percent(value);
}

function calibration(detail) {
  const patterns = Object.keys(PATTERNS);
  const by = (of) => patterns.map((pattern) => decimal(of(detail.calibration[pattern])));
  const temperatures = by(({ temperature }) => temperature);
  const told = [
    hint("Temperature: logits are divided by it"),
    pairs(patterns.map((pattern, place) => [PATTERNS[pattern], temperatures[place]])),
  ];
  if (detail.calibration.both.thresholds === null) return told;
  const rows = detail.labels.map((label, place) => [label, by(({ thresholds }) => thresholds[place])]);
  const thresholds = table("Thresholds", ["Label", ...Object.values(PATTERNS)], rows);
  thresholds.classList.add("tall");
  const summary = element("summary", {}, "Minimum score to select each label");
  return [...told, element("details", {}, summary, thresholds)];
}

function mix(shares) {
  return element("ul", { class: "mix" }, ...Object.entries(shares).map(([pattern, share]) =>
    element("li", {},
      element("span", { class: "name" }, PATTERNS[pattern]),
      element("span", { class: "number" }, percent(share)),
      bar(share))));
}

function labels(all) {
  const chips = element("ul", { class: "chips" }, ...all.map((label) => element("li", {}, label)));
  return element("details", { open: all.length <= FEW_LABELS }, element("summary", {}, `${all.length} labels`), chips);
}

function version({ version: number, live }) {
  if (!live) return element("li", {}, `${number}`);
  return element("li", { class: "live", "aria-current": "true" }, `${number}`, element("b", {}, " live"));
}

// A link cannot send a key, so with a key the report is fetched and saved.
function report(path, detail, failed) {
  if (!detail.has_report) return hint("Published without a training report.");
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
  const link = { href: `${path}/report`, target: "_blank", rel: "noopener", click: save };
  return element("p", {}, element("a", link, `Training report of version ${detail.version}`));
}

function provenance(detail) {
  const made = detail.provenance;
  const packages = Object.entries(made.packages).map(([name, number]) => `${name} ${number}`).join(", ");
  const config = element("code", {}, JSON.stringify(made.config, null, 2));
  return [
    pairs([
      ["problem", PROBLEMS[detail.problem]],
      ...(detail.embedding_size === null ? [] : [["vectors", `${detail.embedding_size} numbers`]]),
      ["backbone", `${detail.backbone.name} (${detail.backbone.family})`],
      ["precision", detail.precision],
      ["trained", `${new Date(made.created_at).toISOString().slice(0, 16).replace("T", " ")} UTC`],
      ["code", made.code_version],
      ["seed", `${made.seed}`],
      ["data fingerprint", made.dataset_fingerprint],
      ["packages", packages || "not recorded"],
    ]),
    element("details", {},
      element("summary", {}, "Training configuration"),
      element("pre", { tabindex: "0", "aria-label": "Training configuration" }, config)),
  ];
}
