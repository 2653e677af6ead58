// The golden examples of a task: a version must reproduce their answers before it is served.
import { byId, element } from "./element.js";
import { Problem, ask, askJson } from "./service.js";

let addresses = [];

// Calls `tried(file or null, text)` when an example is clicked. Returns the items; a version may have none. Throws Problem.
export async function load(task, signal, tried) {
  const folder = `tasks/${encodeURIComponent(task)}/examples`;
  const { examples } = await askJson(folder, { signal }).catch(emptyIfNoExamples);
  const fetched = examples.map((example, number) => (example.has_image ? fileOf(folder, number, signal) : null));
  const files = await Promise.all(fetched);
  if (signal.aborted) return [];
  addresses.forEach(URL.revokeObjectURL);
  addresses = [];
  byId("example-list").replaceChildren(...examples.map((example, number) => item(example, files[number], tried)));
  byId("examples").hidden = examples.length === 0;
  return examples.map(({ text }, number) => ({ file: files[number], text }));
}

function emptyIfNoExamples(problem) {
  if (problem instanceof Problem && problem.code === "no_examples") return { examples: [] };
  throw problem;
}

async function fileOf(folder, number, signal) {
  const path = `${folder}/${number}/image`;
  const picture = await (await ask(path, { signal })).blob();
  const file = new File([picture], `example-${number}.${picture.type.split("/")[1]}`, { type: picture.type });
  return Object.assign(file, { address: new URL(path, document.baseURI).href }); // for the curl command
}

function item(example, file, tried) {
  const picture = file === null ? null : element("img", { src: address(file), alt: "an image" });
  const text = example.text === null ? null : element("span", {}, example.text);
  const click = () => tried(file, example.text ?? "");
  return element("li", {}, element("button", { type: "button", class: "example", click }, picture, text));
}

function address(file) {
  addresses.push(URL.createObjectURL(file));
  return addresses.at(-1);
}
