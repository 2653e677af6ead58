// An answer: its labels, why, how long it took, and the command that asks the same.
import { contributions, mark, names, sentence, without } from "./contributions.js";
import { command } from "./curl.js";
import { byId, element, measured } from "./element.js";
import { percent } from "./figure.js";
import { waterfall } from "./latency.js";

// `asked` is what curl.js needs of the request.
export function show(answer, asked, roundTrip) {
  byId("headline").replaceChildren(...headline(answer));
  byId("answer").replaceChildren(
    element("ol", { class: "labels", "aria-label": "Labels, best first" }, ...answer.labels.map(row)),
    ...block("Why", ...contributions(answer)),
    ...compared(answer),
    ...block("Time", ...waterfall(answer.latency_ms, roundTrip)),
    ...block("The same by curl", ...copyable(command(asked), asked.picture)),
    element("p", { class: "request-id" }, `${answer.task}, version ${answer.version}. Request id `, element("code", {}, answer.request_id)),
  );
}

export function clear(words) {
  byId("headline").replaceChildren(element("p", { class: "hint" }, words));
  byId("answer").replaceChildren();
}

function headline(answer) {
  const best = answer.labels[0];
  const truncated = answer.modalities.text === "truncated" ? " The text was longer than the model takes, so its end was not read." : "";
  const isAnswered = answer.labels.some((label) => label.selected);
  const score = isAnswered ? percent(best.score) : `nearest: ${best.label}, ${percent(best.score)}`;
  return [
    element("p", { class: "verdict" }, element("strong", {}, names(answer.labels)), " ", element("span", { class: "score" }, score)),
    element("p", { class: "sentence" }, sentence(answer) + truncated),
  ];
}

function row(label) {
  return element("li", label.selected ? { class: "selected" } : {},
    element("span", { class: "name" }, mark(label), label.label),
    element("span", { class: "number" }, percent(label.score)),
    element("span", { class: "bar", "aria-hidden": "true" }, measured(element("span"), { length: `${label.score * 100}%` })));
}

function compared(answer) {
  const columns = without(answer);
  return columns.length ? block("If one were missing", element("div", { class: "columns" }, ...columns)) : [];
}

const block = (title, ...content) => [element("section", { class: "block" }, element("h3", {}, title), ...content)];

function copyable(text, picture) {
  const said = element("span", { role: "status", class: "hint" });
  const code = element("pre", { id: "curl", tabindex: "0", "aria-label": "curl command" }, element("code", {}, text));
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "Copied.";
    } catch { // without https there is no clipboard
      getSelection().selectAllChildren(code);
      said.textContent = "Selected: copy it with Ctrl+C.";
    }
  };
  const hint = picture ? element("p", { class: "hint" }, "Run it in the folder that holds the image.") : null;
  return [code, hint, element("div", { class: "row" }, element("button", { type: "button", id: "copy", click: copy }, "Copy"), said)].filter(Boolean);
}
