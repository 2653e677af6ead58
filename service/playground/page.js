// The page: it shows the chosen task and sends the form.
import * as answer from "./answer.js";
import * as card from "./card.js";
import * as catalogue from "./catalogue.js";
import * as coverage from "./coverage.js";
import { byId, element } from "./element.js";
import * as examples from "./examples.js";
import * as nearest from "./nearest.js";
import * as notice from "./notice.js";
import * as picture from "./picture.js";
import { Problem, askJson, hasKey, useKey } from "./service.js";

const HINT = "Give an image, a text, or both. A missing one costs no compute.";
const SEARCH_HINT = "Give an image, a text, or both: a picture and a change to it finds the changed item.";
const WORDS = {
  classify: { send: "Classify", busy: "Classifying\u2026", count: "Labels to show", examples: "Examples: click one to classify it" },
  embed: { send: "Search", busy: "Searching\u2026", count: "Items to show", examples: "Examples: click one to search with it" },
};
let all = []; // the loaded tasks
let shown = null; // the task, its version on the card, its path, and the controller that ends what is loading for it
let sending = null;

async function loadTasks() {
  notice.clear();
  try {
    const { tasks } = await askJson("tasks");
    all = tasks;
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
  const isSearch = all.some((one) => one.task === task && one.embedding_size !== null);
  shown = { task, version, loading, path: isSearch ? "embed" : "classify" };
  sending?.abort();
  setMode(isSearch);
  answer.clear(isSearch ? SEARCH_HINT : HINT);
  await loadAbout();
}

// A retrieval task has vectors in place of labels.
function setMode(isSearch) {
  const words = WORDS[shown.path];
  byId("coverage-field").hidden = isSearch;
  byId("catalogue").hidden = !isSearch;
  byId("top-k-label").textContent = words.count;
  byId("examples-title").textContent = words.examples;
  setBusy(false);
}

async function loadAbout() {
  const { task, loading, path } = shown;
  const parts = [
    card.load(task, loading.signal, fail).then((detail) => { if (detail) coverage.offer(detail); }),
    examples.load(task, loading.signal, tryOut).then((items) => fill(path, task, items, loading.signal)),
  ];
  for (const { reason } of await Promise.allSettled(parts)) {
    if (reason) fail(reason);
  }
}

async function fill(path, task, items, signal) {
  if (path === "embed" && !signal.aborted) await catalogue.start(task, items, signal);
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
    address: new URL(shown.path, document.baseURI).href,
    isSearch: shown.path === "embed",
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
    const found = await askJson(shown.path, { method: "POST", body: formOf(request), signal: mine.signal });
    const roundTrip = performance.now() - started;
    if (request.isSearch) {
      nearest.show(catalogue.nearest(found.embedding, Number(request.topK)), found, request, roundTrip);
    } else {
      answer.show(found, request, roundTrip);
    }
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
  if (request.isSearch) return form;
  form.set("top_k", request.topK);
  if (request.coverage) form.set("coverage", request.coverage);
  form.set("explain", "true");
  return form;
}

function setBusy(isBusy) {
  const words = WORDS[shown?.path ?? "classify"];
  byId("send").textContent = isBusy ? words.busy : words.send;
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
byId("catalogue-pictures").addEventListener("change", async (event) => {
  const given = [...event.target.files].map((file) => ({ file, text: null, isAdded: true }));
  event.target.value = ""; // the same files may be chosen again
  notice.clear();
  try {
    await catalogue.add(given, shown.loading.signal);
  } catch (problem) {
    if (problem instanceof Problem && problem.code !== "unauthorized") notice.showAtCatalogue(problem);
    else fail(problem);
  }
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
