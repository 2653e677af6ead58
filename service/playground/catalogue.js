// The catalogue of a retrieval task: items that the service encodes for this page, and those nearest to a query.
import { byId } from "./element.js";
import { askJson } from "./service.js";

let items = []; // each with a picture (a file) or null, its address, a text, and the vector of the service
let owner = null;

// Encodes these items, and again those that the user added for the same task. Throws Problem.
export async function start(task, given, signal) {
  const added = owner === task ? items.filter(({ isAdded }) => isAdded) : [];
  items.forEach(({ address }) => address && URL.revokeObjectURL(address));
  [items, owner] = [[], task];
  await add(given, signal);
  await add(added, signal);
}

// Encodes more items, `{ file, text, isAdded }`, one after the other. Throws Problem.
export async function add(given, signal) {
  tell();
  for (const { file, text, isAdded } of given) {
    const form = new FormData();
    form.set("task", owner);
    if (file) form.set("image", file, file.name);
    if (text) form.set("text", text);
    const { embedding: vector } = await askJson("embed", { method: "POST", body: form, signal });
    if (signal.aborted) return;
    items.push({ file, text, isAdded, vector, address: file ? URL.createObjectURL(file) : null });
    tell();
  }
}

// The items nearest to a vector, each with its cosine similarity, the most similar first. All vectors have length 1.
export function nearest(vector, count) {
  const similarity = (item) => item.vector.reduce((sum, value, place) => sum + value * vector[place], 0);
  return items
    .map((item) => ({ ...item, similarity: similarity(item) }))
    .sort((one, other) => other.similarity - one.similarity)
    .slice(0, count);
}

function tell() {
  const said = items.length === 1 ? "1 item" : `${items.length} items`;
  byId("catalogue-hint").textContent = `${said}: the examples of the task, and the pictures that you add. They stay on this page.`;
}
