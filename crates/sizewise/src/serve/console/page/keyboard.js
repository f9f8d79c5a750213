// Which keys lead where? A `g` and a letter go to a page; they do nothing while somebody writes, and can be switched off.
import { h } from "./dom.js";
import { switchTheme } from "./theme.js";

const OFF = "sizewise-keys-off";
const PLACES = [
  ["h", "Home", () => "#/home"], ["t", "Task", (task) => task && `#/task/${task}`], ["e", "Errors", (task) => task && `#/errors/${task}`],
  ["y", "Try it", (task) => task && `#/try/${task}`], ["l", "Label", (task) => `#/label${task ? `/${task}` : ""}`],
  ["r", "Releases", (task) => task && `#/releases/${task}`], ["m", "Monitor", (task) => task && `#/monitor/${task}`],
  ["d", "Discover", () => "#/discover"], ["a", "Audit", () => "#/audit"], ["n", "Admin", () => "#/admin"],
];

function isOff() {
  try {
    return localStorage.getItem(OFF) === "1";
  } catch {
    return false;
  }
}

function writes(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

/** Listens for keys; `current` says which task is looked at. */
export function listen(current) {
  let waiting = 0;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isOff() || writes(event.target) || document.querySelector("dialog[open]")) return;
    const key = event.key;
    if (key === "?") {
      showKeys();
    } else if (key === "g") {
      waiting = Date.now();
    } else if (key === "T") {
      switchTheme();
    } else if (Date.now() - waiting < 1500) {
      waiting = 0;
      const place = PLACES.find(([letter]) => letter === key)?.[2](current());
      if (!place) return;
      location.hash = place;
    } else {
      return;
    }
    event.preventDefault();
  });
}

/** A list of all keys. */
export function showKeys() {
  const title = h("h2", { id: "keys-title" }, "Keys");
  const row = (keys, what) => h("tr", {}, h("th", { scope: "row" }, keys.map((key) => [h("kbd", {}, key), " "])), h("td", {}, what));
  const off = h("input", { type: "checkbox", checked: isOff(), on: { change: () => {
    try {
      localStorage.setItem(OFF, off.checked ? "1" : "0");
    } catch {
      off.checked = false;
    }
  } } });
  const dialog = h("dialog", { "aria-labelledby": "keys-title", on: { close: () => dialog.remove() } }, title,
    h("table", {}, h("caption", {}, "From anywhere but a field"), h("tbody", {}, PLACES.map(([letter, name]) => row(["g", letter], name)),
      row(["T"], "dark or light"), row(["?"], "these keys"))),
    h("table", {}, h("caption", {}, "On the page Label"), h("tbody", {}, row(["1", "…", "9", "0"], "choose a label"), row(["Enter"], "save, and go on"),
      row(["x"], "cannot say"), row(["s"], "later"))),
    h("p", {}, h("label", {}, off, " Switch the keys off in this browser")),
    h("button", { class: "main", on: { click: () => dialog.close() } }, "Close"));
  dialog.setAttribute("id", "keys");
  document.body.append(dialog);
  dialog.showModal();
}
