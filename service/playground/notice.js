// Problems as sentences, beside what they are about.
import { byId, element } from "./element.js";

const PLACES = {
  picture: ["image_format", "image_undecodable", "image_too_many_pixels", "body_too_large", "cut_off"],
  text: ["text_too_large", "bad_text"],
  task: ["unknown_task", "no_model", "version_refused", "unknown_version", "no_such_deep_link"],
  key: ["unauthorized"],
};
const CURES = {
  image_format: "Save this one as such, or choose another.",
  image_undecodable: "Save the picture again, or choose another.",
  image_too_many_pixels: "Scale the picture down and choose it again.",
  body_too_large: "Choose a smaller picture, or a shorter text.",
  cut_off: "It may be larger than the service takes: choose a smaller picture, or send it again.",
  text_too_large: "Shorten the text.",
  bad_text: "Remove the characters that are none.",
  no_model: "Publish a version with mora-train or mora-store, then load this page again.",
  unauthorized: "Enter a key that the operator of this service gave you.",
  no_answer: "Check the network and that the service runs, then send it again.",
  proxy: "Try again; if it stays so, tell the operator.",
  internal: "Tell the operator the request id.",
};

// Show a problem; `hasPicture` says what a body that is too large is large of.
export function show(problem, hasPicture = true) {
  const found = Object.keys(PLACES).find((place) => PLACES[place].includes(problem.code)) ?? "send";
  const place = found === "picture" && !hasPicture ? "text" : found;
  byId(`${place}-notice`).replaceChildren(...sentences(problem));
  if (place !== "send") byId(place).setAttribute("aria-invalid", "true");
  return place;
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
