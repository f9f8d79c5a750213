// Which page is shown, to whom, and how does one get to the others?
import { act, look } from "./api.js";
import { h, problem } from "./dom.js";
import { listen, showKeys } from "./keyboard.js";
import { login } from "./login.js";
import { followTheme, switchTheme } from "./theme.js";
import { admin } from "./admin.js";
import { audit } from "./audit.js";
import { discover } from "./discover.js";
import { errors } from "./errors.js";
import { home } from "./home.js";
import { label } from "./label.js";
import { monitor } from "./monitor.js";
import { releases } from "./releases.js";
import { task } from "./task.js";
import { tryIt } from "./try.js";

const EVERYBODY = ["caller", "operator"];
const PAGES = {
  home: { name: "Home", show: home, roles: EVERYBODY },
  task: { name: "Task", show: task, roles: EVERYBODY, ofTask: true },
  errors: { name: "Errors", show: errors, roles: EVERYBODY, ofTask: true },
  try: { name: "Try it", show: tryIt, roles: EVERYBODY, ofTask: true },
  label: { name: "Label", show: label, roles: ["reviewer", "operator"], ofTask: true },
  releases: { name: "Releases", show: releases, roles: EVERYBODY, ofTask: true },
  monitor: { name: "Monitor", show: monitor, roles: EVERYBODY, ofTask: true },
  discover: { name: "Discover", show: discover, roles: ["operator"] },
  audit: { name: "Audit", show: audit, roles: ["operator"] },
  admin: { name: "Admin", show: admin, roles: ["operator"] },
};

const top = document.getElementById("top");
const main = document.getElementById("main");
let session = null;
let current = null;
let leaving = new AbortController();

function place() {
  const [, page = "", ...rest] = location.hash.split("/");
  let name;
  try {
    name = decodeURIComponent(rest.join("/"));
  } catch {
    name = "";
  }
  const first = session.role === "reviewer" ? "label" : "home";
  const known = PAGES[page]?.roles.includes(session.role) ? page : first;
  // Pages of a task need one: the one that was looked at, or the first.
  const task = PAGES[known].ofTask ? name || current || session.tasks[0] : null;
  return { page: known, task };
}

function navigation({ page, task }) {
  const link = (to, name, here) => h("a", { href: to, "aria-current": here ? "page" : null }, name);
  const allowed = Object.entries(PAGES).filter(([, facts]) => facts.roles.includes(session.role));
  const wide = allowed.filter(([, facts]) => !facts.ofTask).map(([key, facts]) => link(`#/${key}`, facts.name, key === page));
  const whom = session.key ? `${session.role} · ${session.key}` : session.keys_needed ? session.role : "open server";
  const bar = h("div", { class: "bar" }, h("a", { class: "brand", href: "#/" }, "Sizewise"),
    ...(wide.length ? [h("nav", { "aria-label": "Pages" }, wide)] : []),
    h("div", { class: "end" }, h("span", {}, whom),
      h("button", { class: "plain", on: { click: switchTheme } }, "Dark or light"),
      h("button", { class: "plain", on: { click: showKeys } }, "Keys ", h("kbd", {}, "?")),
      session.key && h("button", { class: "plain", on: { click: leave } }, "Leave")));
  const bars = [bar];
  if (PAGES[page].ofTask && task) {
    const names = session.tasks.includes(task) ? session.tasks : [task, ...session.tasks];
    const select = h("select", { "aria-label": "Task", on: { change: () => { location.hash = `#/${page}/${encodeURIComponent(select.value)}`; } } },
      names.map((name) => h("option", { value: name, selected: name === task }, name)));
    const tabs = allowed.filter(([, facts]) => facts.ofTask).map(([key, facts]) => link(`#/${key}/${encodeURIComponent(task)}`, facts.name, key === page));
    bars.push(h("div", { class: "bar task" }, select, h("nav", { "aria-label": `Pages of ${task}` }, tabs)));
  }
  top.replaceChildren(...bars);
}

async function leave() {
  const left = await act("logout").catch(() => null);
  session = null;
  start(true, left?.elsewhere);
}

async function ask(elsewhere) {
  // How one may come in; a server that cannot say so takes keys.
  const ways = await look("login").catch(() => ({}));
  const [, why] = location.hash.match(/^#\/not-signed-in\/([a-z]+)$/) ?? [];
  // Whoever looks at the page again is told no old news.
  if (why) history.replaceState(null, "", location.pathname);
  top.replaceChildren();
  main.replaceChildren(login({ ...ways, elsewhere }, why, () => start()));
  main.removeAttribute("aria-busy");
  document.title = "Sizewise";
  (main.querySelector("[data-first]") ?? main.querySelector("input")).focus();
}

async function show(focus = true) {
  if (!session) return;
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { page, task } = place();
  if (task) current = task;
  navigation({ page, task });
  const { name, show: render, ofTask } = PAGES[page];
  document.title = [name, task, "Sizewise"].filter(Boolean).join(" · ");
  main.setAttribute("aria-busy", "true");
  let view;
  try {
    view = ofTask && !task
      ? [h("h1", { tabindex: "-1" }, name), h("p", {}, "No task is served that you may see.")]
      : await render({ task, session, signal, again: () => show(false) });
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    if (error.status === 401) return ask();
    view = [h("h1", { tabindex: "-1" }, name), problem(error)];
  }
  if (signal.aborted) return;
  // What had the focus is gone with the view that it belonged to: the heading stands for it.
  const held = main.contains(document.activeElement);
  main.replaceChildren(...[view].flat(Infinity).filter(Boolean));
  main.removeAttribute("aria-busy");
  const first = main.querySelector("[data-focus]") ?? (focus || held ? main.querySelector("h1") : null);
  first?.focus({ preventScroll: true });
  if (focus) scrollTo(0, 0);
  performance.mark(`shown:${page}`);
}

/** Begins, or begins again for somebody else. A page that was just opened leaves the focus where browsers put it: before the skip link. */
async function start(again = true, elsewhere) {
  try {
    session = await look("session");
  } catch (error) {
    if (error.status === 401) return ask(elsewhere);
    main.replaceChildren(h("h1", {}, "Sizewise"), problem(error));
    return;
  }
  show(again);
}

// What is folded away on a screen is shown on paper.
addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach((part) => { part.open = true; }));
addEventListener("hashchange", (event) => {
  // A link within a page, as the one that skips to the content, is no other page.
  if (location.hash.startsWith("#/") || location.hash === "") show();
  else event.preventDefault();
});
followTheme();
listen(() => current && encodeURIComponent(current));
start(false);
