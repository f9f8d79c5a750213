// How is a browser driven, and how is what it must never do noticed?
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.env.SIZEWISE_CONSOLE_ENVIRONMENT, "/"));
const { chromium } = require("playwright-core");
const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
/** Where screenshots are put, for whoever looks at them. */
const SHOTS = process.env.SIZEWISE_SCREENSHOTS;

export const findings = [];
let checked = 0;

/** Notes whether something is as it must be. */
export function check(holds, what) {
  checked += 1;
  if (!holds) findings.push(what);
}

export function count() {
  return checked;
}

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
}

/** A page that notes requests elsewhere than to `url` and `others`, violations of its policy, dialogs and errors. */
export async function open(browser, url, options = {}, others = []) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on("request", (request) => check([url, ...others].some((own) => request.url().startsWith(`${own}/`)), `a request left the origin: ${request.url()}`));
  page.on("pageerror", (error) => findings.push(`an error in the page: ${error.message}`));
  page.on("dialog", (dialog) => {
    findings.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`)));
  page.on("console", (message) => {
    // A browser says every 4xx aloud; those are looked at where they are expected.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) findings.push(`the page says: ${message.text()}`);
  });
  return { context, page };
}

/** Goes to a page of the console and waits until it is shown. */
export async function go(page, url, place) {
  await page.goto(`${url}/console/#/${place}`);
  await page.reload();
  await shown(page);
}

export async function shown(page) {
  await page.waitForFunction(() => {
    const main = document.getElementById("main");
    return main.querySelector("h1") && !main.hasAttribute("aria-busy") && !main.textContent.includes("come by themselves") && !main.textContent.includes("comes by itself") && !main.textContent.includes("…\n");
  });
}

/** What axe-core finds wrong with the page as it is now. */
export async function axe(page, where) {
  // Run beside the page, not in it: the page's own policy lets nothing in.
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id, worldName: "axe" });
  const run = async (expression) => {
    const told = await session.send("Runtime.evaluate", { expression, contextId: executionContextId, awaitPromise: true, returnByValue: true });
    if (told.exceptionDetails) throw new Error(told.exceptionDetails.exception?.description ?? told.exceptionDetails.text);
    return told.result.value;
  };
  await run(`${AXE}; true`);
  const violations = await run(`axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }).then((told) =>
    told.violations.map((one) => one.id + ": " + one.help + " — " + one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + " " + (node.any[0]?.message ?? "")).join(" | ")))`);
  await session.detach();
  checked += 1;
  violations.forEach((one) => findings.push(`${where}: ${one}`));
  return violations.length;
}

export async function shot(page, name) {
  if (!SHOTS) return;
  fs.mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: path.join(SHOTS, `${name}.png`), fullPage: true });
}
