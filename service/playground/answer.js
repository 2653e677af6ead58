// An answer: its labels, its explanation, its stages, and the curl command for the same request.
import { contributions, mark, names, sentence, without } from "./contributions.js";
import * as coverage from "./coverage.js";
import { command } from "./curl.js";
import { bar, byId, element, hint } from "./element.js";
import { percent } from "./figure.js";
import { waterfall } from "./latency.js";

// `asked` is the request as curl.js needs it; `roundTrip` is the time until the answer arrived, in milliseconds.
export function show(answer, asked, roundTrip) {
  const rows = answer.labels.map((label) => row(label, coverage.badge(label.label, answer)));
  const labels = element("ol", { class: "labels", "aria-label": "Labels, best first" }, ...rows);
  const compared = without(answer);
  const origin = `${answer.task}, version ${answer.version}. Request id `;
  byId("headline").replaceChildren(...headline(answer));
  byId("answer").replaceChildren(
    labels,
    block("Why", ...contributions(answer)),
    ...(compared.length ? [block("With one modality missing", element("div", { class: "columns" }, ...compared))] : []),
    block("Time", ...waterfall(answer.latency_ms, roundTrip)),
    block("The same request with curl", ...copyable(command(asked), asked.picture)),
    element("p", { class: "request-id" }, origin, element("code", {}, answer.request_id)),
  );
}

export function clear(words) {
  byId("headline").replaceChildren(hint(words));
  byId("answer").replaceChildren();
}

function headline(answer) {
  const best = answer.labels[0];
  const isAnswered = answer.labels.some((label) => label.selected);
  const score = isAnswered ? percent(best.score) : `nearest: ${best.label}, ${percent(best.score)}`;
  const isCut = answer.modalities.text === "truncated";
  const cut = isCut ? " The text is longer than the model accepts, so its end was ignored." : "";
  const verdict = element("strong", {}, names(answer.labels));
  return [
    element("p", { class: "verdict" }, verdict, " ", element("span", { class: "score" }, score)),
    element("p", { class: "sentence" }, sentence(answer) + cut),
    ...coverage.sentence(answer),
  ];
}

function row(label, badge) {
  return element("li", label.selected ? { class: "selected" } : {},
    element("span", {}, element("span", { class: "name" }, mark(label), label.label), badge),
    element("span", { class: "number" }, percent(label.score)),
    bar(label.score));
}

export function block(title, ...content) {
  return element("section", { class: "block" }, element("h3", {}, title), ...content);
}

export function copyable(text, picture) {
  const said = element("span", { role: "status", class: "hint" });
  const code = element("pre", { id: "curl", tabindex: "0", "aria-label": "curl command" }, element("code", {}, text));
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "Copied.";
    } catch { // without https there is no clipboard
      getSelection().selectAllChildren(code);
      said.textContent = "The command is selected: copy it with Ctrl+C.";
    }
  };
  const button = element("button", { type: "button", id: "copy", click: copy }, "Copy");
  const where = picture && !picture.address ? [hint("Run it in the folder of the image.")] : [];
  return [code, ...where, element("div", { class: "row" }, button, said)];
}
