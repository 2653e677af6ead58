// The answer of a retrieval task: the items of the catalogue that are nearest to the query.
import { block, copyable } from "./answer.js";
import { command } from "./curl.js";
import { bar, byId, element, hint } from "./element.js";
import { decimal } from "./figure.js";
import { waterfall } from "./latency.js";

// `items` are those of catalogue.js; `answer`, `asked` and `roundTrip` are as in answer.js.
export function show(items, answer, asked, roundTrip) {
  const origin = `${answer.task}, version ${answer.version}. Request id `;
  byId("headline").replaceChildren(...headline(items, answer));
  byId("answer").replaceChildren(
    element("ol", { class: "labels nearest", "aria-label": "Items, nearest first" }, ...items.map(row)),
    block("Time", ...waterfall(answer.latency_ms, roundTrip)),
    block("The same vector with curl", ...copyable(command(asked), asked.picture)),
    element("p", { class: "request-id" }, origin, element("code", {}, answer.request_id)),
  );
}

function headline(items, answer) {
  if (!items.length) return [hint("The catalogue is empty: add pictures to it.")];
  const isCut = answer.modalities.text === "truncated";
  const cut = isCut ? " The text is longer than the model accepts, so its end was ignored." : "";
  const used = ["image", "text"].filter((name) => answer.modalities[name] !== "absent").join(" and the ");
  return [
    element("p", { class: "verdict" }, element("strong", {}, "Nearest items"), " ",
      element("span", { class: "score" }, decimal(items[0].similarity))),
    element("p", { class: "sentence" }, `By the ${used} of the query; 1 is the same direction.${cut}`),
  ];
}

function row(item) {
  const picture = item.address === null ? null : element("img", { src: item.address, alt: item.text || item.file.name });
  const words = item.text || (item.file ? item.file.name : "");
  return element("li", {},
    element("span", { class: "item" }, picture, element("span", { class: "name" }, words)),
    element("span", { class: "number" }, decimal(item.similarity)),
    bar(Math.max(item.similarity, 0)));
}
