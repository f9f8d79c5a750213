// Is every page whole: in light and dark, at twice the size, on a narrow screen, on paper, with and without live evidence?
import fs from "node:fs";
import { axe, check, go, open, shot, shown } from "./browser.mjs";
import { decide } from "./server.mjs";

const PAGES = ["home", "task/support", "errors/support", "try/support", "label/support", "releases/support", "monitor/support", "discover", "audit", "admin"];
const EVIDENCE = JSON.parse(fs.readFileSync(new URL("evidence.json", import.meta.url), "utf8"));
const HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> \"quoted\" & 'more' \u202Eabc";

export async function everyPage(browser, url) {
  for (const word of ["my tent is on fire", "gfx blorp", "the quick onyx goblin"]) await decide(url, "support", word);
  await decide(url, "support", HOSTILE);
  let violations = 0;
  for (const [theme, options] of [["light", { colorScheme: "light" }], ["dark", { colorScheme: "dark" }], ["narrow", { viewport: { width: 320, height: 700 } }], ["zoomed", { viewport: { width: 640, height: 450 }, deviceScaleFactor: 2 }]]) {
    const { context, page } = await open(browser, url, options);
    for (const place of PAGES) {
      await go(page, url, place);
      const name = `${place.replace("/", "-")}-${theme}`;
      violations += await axe(page, name);
      await unfold(page);
      violations += await axe(page, `${name}, unfolded`);
      const wider = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
      check(wider <= 0, `${name} is ${wider} pixels wider than its window`);
      const broken = await page.locator("main .message.bad[role=alert]").allTextContents();
      check(broken.length === 0, `${name} says that something is wrong: ${broken.join("; ")}`);
      check((await page.locator("h1").count()) === 1, `${name} has one heading of the first level`);
      check((await page.title()).endsWith("Sizewise"), `${name} has a title`);
      const charts = await page.locator("main svg.chart").count();
      const tables = await page.locator("main figure details table").count();
      check(charts === tables, `${name}: ${charts} charts and ${tables} tables behind them`);
      await page.$$eval("main details", (all) => all.forEach((one) => { one.open = false; }));
      await shot(page, name);
    }
    await context.close();
  }
  return { pages: PAGES.length, violations };
}

function unfold(page) {
  return page.$$eval("main details", (all) => all.forEach((one) => { one.open = true; }));
}

export async function liveEvidence(browser, url) {
  const { context, page } = await open(browser, url);
  await page.route("**/v1/tasks/*/evidence", (route) => route.fulfill({ json: EVIDENCE }));
  for (const [place, words] of [["home", ["in doubt", "1.0–8.3 %", "n 100", "broken", "no label yet since then"]], ["task/support", ["in doubt", "The ring"]], ["monitor/support", ["in doubt", "certified: 0.8300", "the interval reaches above the promise", "nothing is answered", "probes prove it", "of the requests; by chance up to 3.1 %", "0.9100 is proved under this mix", "19.0–28.0 %, n 1,204", "the gold rows prove none under this mix", "label what waits"]]]) {
    await go(page, url, place);
    await unfold(page);
    for (const word of words) await page.getByText(word).first().waitFor().catch(() => check(false, `${place} does not say ${word}`));
    await axe(page, `${place}, with evidence`);
    await shot(page, `${place.replace("/", "-")}-evidence`);
  }
  for (const [how, size, colorScheme] of [["narrow", { width: 320, height: 700 }, "light"], ["dark", { width: 1280, height: 900 }, "dark"]]) {
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme });
    await go(page, url, "monitor/support");
    await unfold(page);
    await axe(page, `monitor, with evidence, ${how}`);
    const wider = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
    check(wider <= 0, `monitor, with evidence, ${how} is ${wider} pixels wider than its window`);
    await shot(page, `monitor-support-evidence-${how}`);
  }
  await page.unroute("**/v1/tasks/*/evidence");
  await page.route("**/v1/tasks/*/evidence", (route) => route.fulfill({ status: 404, json: { error: { code: "unknown_route", message: "nothing" } } }));
  for (const place of ["home", "task/support"]) {
    await go(page, url, place);
    await page.getByText("no evidence yet").first().waitFor().catch(() => check(false, `${place} does not say that there is no evidence`));
  }
  await context.close();
}

export async function onPaper(browser, url) {
  const { context, page } = await open(browser, url, { colorScheme: "dark" });
  await go(page, url, "task/support");
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  await page.emulateMedia({ media: "print" });
  check(await page.locator("main details table").first().isVisible(), "a table behind a chart is on paper");
  check(!(await page.locator("#top").isVisible()), "the navigation is not on paper");
  check((await page.evaluate(() => getComputedStyle(document.body).backgroundColor)) === "rgb(255, 255, 255)", "paper is white");
  await shot(page, "task-support-print");
  await context.close();
}

export async function strings(browser, url) {
  const { context, page } = await open(browser, url);
  await go(page, url, "monitor/support");
  const kept = await page.getByText("<img src=x onerror=alert(1)>").count();
  check(kept > 0, "a text that looks like markup is shown as it is");
  check((await page.locator("main img, main script").count()) === 0, "no text became an element");
  await go(page, url, "nothing/here");
  await shown(page);
  check((await page.locator("h1").textContent()) === "Home", "a page that is none leads home");
  await context.close();
}
