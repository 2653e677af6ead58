// Problems as sentences, beside the field that caused them.
import { byId, element } from "./element.js";

const PLACES = {
  picture: ["image_format", "image_undecodable", "image_too_many_pixels", "body_too_large", "cut_off"],
  text: ["text_too_large", "bad_text"],
  coverage: ["coverage_unsupported"],
  task: ["no_labels", "unknown_task", "no_model", "version_refused", "unknown_version", "no_such_deep_link"],
  key: ["unauthorized"],
};
// Advice for problems whose detail has none: those of the page itself, and those that only the operator can solve.
const CURES = {
  cut_off: "It may be larger than the service accepts: choose a smaller picture, or try again.",
  no_model: "Publish a version with mora-train or mora-store, then load this page again.",
  unauthorized: "Enter a key that the operator of this service gave you.",
  no_answer: "Check the network and that the service runs, then try again.",
  proxy: "Try again. If the problem persists, tell the operator.",
  internal: "Tell the operator the request id.",
};

// Show a problem. `hasPicture` decides whether a body that is too large is blamed on the picture or the text.
export function show(problem, hasPicture = true) {
  const found = Object.keys(PLACES).find((place) => PLACES[place].includes(problem.code)) ?? "send";
  const place = found === "picture" && !hasPicture ? "text" : found;
  byId(`${place}-notice`).replaceChildren(...sentences(problem));
  if (place !== "send") byId(place).setAttribute("aria-invalid", "true");
  return place;
}

// Show a problem of an item of the catalogue.
export function showAtCatalogue(problem) {
  byId("catalogue-notice").replaceChildren(...sentences(problem));
}

function sentences(problem) {
  const parts = [problem.detail, CURES[problem.code], again(problem.retryAfterSeconds)].filter(Boolean);
  const title = problem.title.endsWith(".") ? problem.title : `${problem.title}.`;
  const said = element("p", {}, element("strong", {}, title), ` ${parts.join(" ")}`);
  if (!problem.requestId) return [said];
  return [said, element("p", { class: "request-id" }, "Request id ", element("code", {}, problem.requestId))];
}

export function clear() {
  for (const node of document.querySelectorAll(".notices")) node.replaceChildren();
  for (const node of document.querySelectorAll("[aria-invalid]")) node.removeAttribute("aria-invalid");
}

function again(seconds) {
  if (!seconds) return "";
  const when = new Date(Date.now() + seconds * 1000).toLocaleTimeString("en-GB");
  return `Try again in ${seconds} ${seconds === 1 ? "second" : "seconds"}, at ${when}.`;
}
