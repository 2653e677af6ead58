// Nodes of the page. Strings become text, never markup, because labels and texts are untrusted.

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

// Sets numbers for the style sheet; the page's Content-Security-Policy forbids style attributes.
export function measured(node, measures) {
  for (const [name, value] of Object.entries(measures)) node.style.setProperty(`--${name}`, value);
  return node;
}

// A bar that screen readers skip: its number is beside it.
export function bar(share) {
  const filled = measured(element("span"), { length: `${share * 100}%` });
  return element("span", { class: "bar", "aria-hidden": "true" }, filled);
}

export const hint = (...words) => element("p", { class: "hint" }, ...words);
export const byId = (id) => document.getElementById(id);
