// The page: it shows the chosen task and sends the form.
import * as answer from "./answer.js";
import * as card from "./card.js";
import * as coverage from "./coverage.js";
import { byId, element } from "./element.js";
import * as examples from "./examples.js";
import * as notice from "./notice.js";
import * as picture from "./picture.js";
import { Problem, askJson, hasKey, useKey } from "./service.js";

const HINT = "Give an image, a text, or both. A missing one costs no compute.";
let shown = null; // the task, its version on the card, and the controller that ends what is loading for it
let sending = null;

async function loadTasks() {
  notice.clear();
  try {
    const { tasks } = await askJson("tasks");
    byId("key-field").hidden = !hasKey();
    byId("task").replaceChildren(...tasks.map(({ task }) => element("option", { value: task }, task)));
    if (!tasks.length) throw new Problem({ code: "no_model", title: "No task is loaded" });
    await showTask(tasks, asked());
  } catch (problem) {
    fail(problem);
  }
}

const asked = () => new URLSearchParams(location.hash.slice(1)).get("task");

async function showTask(tasks, wanted) {
  const isThere = tasks.some(({ task }) => task === wanted);
  const { task, version } = tasks.find((one) => one.task === wanted) ?? tasks[0];
  byId("task").value = task;
  await show(task, version);
  if (wanted !== null && !isThere) {
    const title = "The address names a task that is not loaded";
    notice.show(new Problem({ code: "no_such_deep_link", title, detail: `The page shows ${task} instead.` }));
  }
}

async function show(task, version = null) {
  shown?.loading.abort();
  const loading = new AbortController();
  shown = { task, version, loading };
  sending?.abort();
  answer.clear(HINT);
  await loadAbout();
}

async function loadAbout() {
  const { task, loading } = shown;
  const parts = [
    card.load(task, loading.signal, fail).then((detail) => { if (detail) coverage.offer(detail); }),
    examples.load(task, loading.signal, tryOut),
  ];
  for (const { reason } of await Promise.allSettled(parts)) {
    if (reason) fail(reason);
  }
}

async function tryOut(file, text) {
  picture.choose(file);
  byId("text").value = text;
  await send();
}

async function send() {
  sending?.abort();
  const mine = sending = new AbortController();
  notice.clear();
  const request = {
    address: new URL("classify", document.baseURI).href,
    task: byId("task").value,
    text: byId("text").value,
    picture: picture.chosen(),
    topK: byId("top-k").value,
    coverage: byId("coverage").value,
    hasKey: hasKey(),
  };
  setBusy(true);
  try {
    const started = performance.now();
    const found = await askJson("classify", { method: "POST", body: formOf(request), signal: mine.signal });
    answer.show(found, request, performance.now() - started);
    reveal();
    if (shown?.version !== null && shown.version !== found.version) await refresh(found.version);
  } catch (problem) {
    if (problem.name !== "AbortError") answer.clear("There is no answer; the form shows the reason.");
    fail(problem);
  } finally {
    if (sending === mine) setBusy(false);
  }
}

// Another version has become live since the card was loaded.
async function refresh(version) {
  shown.version = version;
  await loadAbout();
}

function formOf(request) {
  const form = new FormData();
  form.set("task", request.task);
  if (request.picture) form.set("image", request.picture, request.picture.name);
  if (request.text) form.set("text", request.text);
  form.set("top_k", request.topK);
  if (request.coverage) form.set("coverage", request.coverage);
  form.set("explain", "true");
  return form;
}

function setBusy(isBusy) {
  byId("send").textContent = isBusy ? "Classifying\u2026" : "Classify";
  byId("result").setAttribute("aria-busy", String(isBusy));
}

// On a phone the answer is below the form.
function reveal() {
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("result").scrollIntoView({ block: "nearest", behavior: isStill ? "auto" : "smooth" });
}

function fail(problem) {
  if (problem.name === "AbortError") return;
  if (!(problem instanceof Problem)) throw problem;
  const place = notice.show(problem, picture.chosen() !== null);
  if (place === "key") {
    byId("key-field").hidden = false;
    byId("key").focus();
  }
}

async function takeKey() {
  const key = byId("key").value.trim();
  byId("key").value = "";
  if (/[^\x21-\x7e]/.test(key)) { // no header can hold it
    fail(new Problem({ code: "unauthorized", title: "This key is not valid" }));
    return;
  }
  useKey(key);
  await loadTasks();
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
});
byId("key").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault(); // it would send the form
  takeKey();
});
byId("use-key").addEventListener("click", takeKey);
byId("task").addEventListener("change", async (event) => {
  history.replaceState(null, "", `#task=${encodeURIComponent(event.target.value)}`);
  notice.clear();
  await show(event.target.value);
});
addEventListener("hashchange", () => {
  if (asked() !== null && asked() !== shown?.task) loadTasks();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the task
  byId("result").focus();
});
picture.listen(notice.clear);
loadTasks();
