// Does what is done in the console happen in the store?
import { axe, check, go, open, shot, shown } from "./browser.mjs";
import { command, decide } from "./server.mjs";

export async function acts(browser, url, project) {
  const { context, page } = await open(browser, url);
  await releases(page, url, project);
  await trial(page, url, project);
  await audit(page, url, project);
  await context.close();
}

async function releases(page, url, project) {
  const show = () => JSON.parse(command(project, "show", "support", "-o", "json"));
  const before = show();
  await go(page, url, "releases/support");
  const button = page.getByRole("button", { name: /^Put in force|^Roll back to/ });
  check((await button.count()) === before.releases.length - 1, "every other release can be put in force");
  await button.first().focus();
  await page.keyboard.press("Enter");
  await page.locator("dialog[open]").waitFor();
  await axe(page, "releases, asked");
  check((await page.evaluate(() => document.activeElement.textContent)) === "Leave it", "the way back has the focus");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Enter");
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.getByRole("button", { name: /^Roll back to/ }).waitFor();
  const after = show();
  check(after.in_force !== before.in_force, "the release in force was switched");
  await shot(page, "releases-switched");
  await page.getByRole("button", { name: /^Roll back to/ }).first().click();
  await page.getByRole("button", { name: "Do it" }).click();
  await page.waitForFunction((wanted) => document.querySelector("tbody tr .state.good")?.closest("tr").textContent.includes(wanted), before.in_force.slice(0, 12));
  check(show().in_force === before.in_force, "and back");
}

async function trial(page, url, project) {
  const show = () => JSON.parse(command(project, "trial", "show", "support", "-o", "json"));
  await go(page, url, "releases/support");
  await page.getByRole("button", { name: "Begin the trial" }).focus();
  await page.keyboard.press("Enter");
  await page.locator("dialog[open]").waitFor();
  await axe(page, "trial, asked");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByText("on trial as a shadow").waitFor();
  const begun = show();
  check(begun.under_way && begun.trial.mode === "shadow" && begun.trial.share === 0.1, "a shadow of a tenth was begun");
  command(project, "trial", "begin", "support", begun.trial.release, "--shadow");
  // The server finds out by itself, counts, and writes down what it counted.
  for (let asked = 0; !show().comparison && asked < 2000; asked += 1) await decide(url, "support", `the invoice ${asked} is wrong`);
  await go(page, url, "releases/support");
  await page.getByText("Both answered: alike").waitFor();
  await axe(page, "trial, compared");
  await shot(page, "trial");
  await page.getByRole("button", { name: "End the trial" }).click();
  await page.locator("dialog").getByRole("button", { name: "End the trial" }).click();
  await page.getByText("was tried as a shadow").waitFor();
  check(show().trial.ended_because === "ended in the console", "and ended");
}

async function audit(page, url, project) {
  const told = await decide(url, "support", "qqq somebody's own words qqq");
  await go(page, url, "audit");
  await page.getByRole("button", { name: "Verify" }).click();
  await page.getByText("Every entry is whole.").waitFor();
  const head = command(project, "audit", "head").trim();
  await page.locator("input[name=head]").fill(head);
  await page.keyboard.press("Enter");
  await page.getByText("Every entry is the one that was written.").waitFor();
  await page.locator("input[name=head]").fill(`${head.split(":")[0]}:${"0".repeat(64)}`);
  await page.keyboard.press("Enter");
  await page.getByText("This is not the log that was written").waitFor();
  await page.locator("input[name=words]").fill("rolled back");
  await page.keyboard.press("Enter");
  await page.getByText("server.started").first().waitFor({ state: "detached" }).catch(() => check(false, "a search leaves the rest out"));
  check((await page.getByText("reason: rolled back").count()) >= 2, "a search finds what was done here");
  await page.locator("select[name=by]").selectOption("decision");
  await page.locator("input[name=whose]").fill(told.id);
  await page.keyboard.press("Enter");
  await page.locator("dialog[open]").waitFor();
  await page.getByRole("button", { name: "Erase", exact: true }).click();
  await page.getByText("Erased: 1 records").waitFor();
  await go(page, url, "monitor/support");
  check((await page.getByText(told.id).count()) === 0, "what was erased is not shown");
  await shown(page);
}
