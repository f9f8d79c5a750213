// How is a page put together? Strings become text and nothing else: what a task, a user, a document or a model says is data.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name === "value") node.value = value;
    else if (name === "checked") node.checked = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

/** An element with attributes, `on` for its events, and children: nodes or text. */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same of a drawing. */
export function draw(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** Puts these in place of what a node holds; what is not there is left out. */
export function put(node, ...children) {
  node.replaceChildren();
  return fill(node, {}, children);
}

let last = 0;
/** An id that no other element has. */
export function fresh(name) {
  last += 1;
  return `${name}-${last}`;
}

/** What is wrong, and the way out. */
export function problem(error) {
  return h("div", { class: "message bad", role: "alert" }, h("p", {}, error.message ?? String(error)));
}

/** Something that is not there yet, and what makes it. */
export function missing(text, command) {
  return h("div", { class: "message" }, h("p", {}, text), command && h("p", {}, "Next: ", h("code", {}, command)));
}

/** A name with its figure and what is to be said of it. */
export function figures(list) {
  return h("dl", { class: "figures" }, list.filter(Boolean).map(([name, value, note]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value, note && h("span", { class: "note" }, note)))));
}

/** A line that is read out when it changes. */
export function announcer() {
  return h("p", { role: "status", class: "note" });
}
