// Can everything be done without a pointer?
import { check, go, open, shot, shown } from "./browser.mjs";
import { command, decide } from "./server.mjs";

async function focused(page) {
  return page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.getAttribute("name") || document.activeElement.tagName);
}

async function until(page, holds, what) {
  for (let step = 0; step < 60; step += 1) {
    if (await page.evaluate(holds)) return true;
    await page.keyboard.press("Tab");
  }
  check(false, `the keyboard does not come to ${what}`);
  return false;
}

export async function byKeyboard(browser, url, project) {
  const { context, page } = await open(browser, url);
  await go(page, url, "home");
  await page.keyboard.press("Tab");
  check((await focused(page)) === "Skip to the content", `the first stop is the skip link, not ${await focused(page)}`);
  check(await page.locator(".skip").isVisible(), "the skip link is seen when it has the focus");
  await page.keyboard.press("Enter");
  check((await page.evaluate(() => document.activeElement.id)) === "main", "the skip link leads to the content");
  const outline = await page.evaluate(() => {
    document.querySelector("#top a").focus();
    return getComputedStyle(document.activeElement).outlineStyle;
  });
  check(outline !== "none", "what has the focus is seen");
  for (const [letter, heading] of [["t", "support"], ["e", "Errors of support"], ["y", "Try support"], ["r", "Releases of support"], ["m", "Monitor support"], ["d", "Discover"], ["a", "Audit"], ["n", "Admin"], ["h", "Home"]]) {
    await page.evaluate(() => document.activeElement.blur());
    if (letter === "t") await page.locator("tbody a").first().focus().then(() => page.keyboard.press("Enter"));
    else await page.keyboard.press("g").then(() => page.keyboard.press(letter));
    await page.locator("h1", { hasText: heading }).waitFor();
    await shown(page);
    check((await page.evaluate(() => document.activeElement.tagName)) === "H1", `the focus is on the heading of ${heading}`);
  }
  await page.keyboard.press("?");
  check(await page.locator("dialog[open]").isVisible(), "? shows the keys");
  await shot(page, "keys");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Shift+T");
  check((await page.evaluate(() => document.documentElement.dataset.theme)) === "dark", "T switches to dark");
  await page.reload();
  await shown(page);
  check((await page.evaluate(() => document.documentElement.dataset.theme)) === "dark", "and it stays dark");
  await threshold(page, url);
  await trying(page, url);
  await labelling(page, url, project);
  await context.close();
}

async function threshold(page, url) {
  await go(page, url, "task/support");
  await page.locator("input[type=range]").first().focus();
  const before = await page.locator("main .controls .figures").first().textContent();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  const after = await page.locator("main .controls .figures").first().textContent();
  check(before !== after, "arrow keys move the threshold and its figures");
  const box = await page.locator("svg.chart").first().boundingBox();
  await page.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, box.y + box.height / 2, { steps: 4 });
  await page.mouse.up();
  check((await page.locator("main .controls .figures").first().textContent()) !== after, "dragging moves the threshold, too");
}

async function trying(page, url) {
  await go(page, url, "try/support");
  if (!(await until(page, () => document.activeElement.tagName === "TEXTAREA", "the field of Try it"))) return;
  await page.keyboard.type("I was charged twice for the same tent, please give one payment back");
  await page.keyboard.press("Control+Enter");
  await page.locator("main h2", { hasText: "Training rows most like it" }).waitFor();
  check((await page.locator("main .steps li").count()) >= 2, "the path through the tiers is shown");
  check((await page.locator("main tbody tr").count()) >= 5, "the nearest rows are shown");
  await shot(page, "try-decided");
}

async function labelling(page, url, project) {
  for (let turn = 0; turn < 12; turn += 1) await decide(url, "support", `zzz unheard of ${turn}`);
  await go(page, url, "label/support");
  // A decision may wait with more than one question about the same text.
  const text = async () => (await page.locator("main form code").textContent()) + (await page.locator("main form legend").textContent());
  const goesOn = async (from) => {
    for (let look = 0; look < 40 && (await text()) === from; look += 1) await page.waitForTimeout(50);
    return (await text()) !== from;
  };
  // Some questions go to two people, or show the model's guess only after the answer: these are put off.
  const plain = async () => {
    for (let put = 0; put < 12 && !(await page.getByText("Its guess is shown once you have chosen.").count()); put += 1) {
      const hidden = await text();
      await page.keyboard.press("s");
      await goesOn(hidden);
    }
    return text();
  };
  const first = await plain();
  await page.keyboard.press("2");
  await page.getByText("The model would say").waitFor();
  check((await page.locator("input:checked").getAttribute("value")) === "billing", "a digit chooses a label");
  await shot(page, "label-chosen");
  const logged = () => JSON.parse(command(project, "audit", "list", "-o", "json")).entries.filter((entry) => entry.action.startsWith("queue."));
  const before = logged().length;
  await page.keyboard.press("Enter");
  await page.getByText("Saved: team is billing.").waitFor();
  check(await goesOn(first), "Enter saves and goes on");
  const dropped = await plain();
  await page.keyboard.press("x");
  await page.getByText("Dropped without an answer.").waitFor();
  check(await goesOn(dropped), "x drops and goes on");
  const second = await text();
  await page.keyboard.press("s");
  await page.getByText("Put off.").waitFor();
  check(await goesOn(second), "s puts off");
  const entries = logged();
  const latest = entries.slice(before);
  check(latest.length === 2 && latest[0].actor === "console", `the audit log names the console: ${JSON.stringify(latest)}`);
  check(latest[0]?.action === "queue.answered" && latest[0]?.personal?.answer === "billing", "the answer is gold in the store");
}
