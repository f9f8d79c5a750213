// Do two people answer without each other, does a third one decide, and are both choices around a suggestion kept?
import fs from "node:fs";
import path from "node:path";
import { axe, check, go, open, shot, shown } from "./browser.mjs";
import { command, decide, serve } from "./server.mjs";

function key(project, role) {
  return command(project, "keys", "create", `a ${role}`, "--role", role).match(/\bsw_[A-Za-z0-9_-]+/)[0];
}

function settings(project, text) {
  const file = path.join(project, "tasks/support/task.toml");
  fs.writeFileSync(file, `${fs.readFileSync(file, "utf8").replace(/\n\[people\][^[]*/, "")}\n[people]\n${text}\n`);
}

async function enter(browser, url, secret) {
  const { context, page } = await open(browser, url);
  await page.goto(`${url}/console/`);
  await page.locator("input[name=key]").fill(secret);
  await page.keyboard.press("Enter");
  await page.locator("#top nav").first().waitFor();
  await go(page, url, "label/support");
  return { context, page };
}

async function choose(page, digit, told) {
  await page.locator("main form input").first().focus();
  await page.keyboard.press(digit);
  await page.keyboard.press("Enter");
  await page.getByText(told).first().waitFor();
}

export async function people(browser, project) {
  const operator = key(project, "operator");
  const reviewers = [key(project, "reviewer"), key(project, "reviewer")];
  const queue = () => JSON.parse(command(project, "queue", "list", "support", "-o", "json", "--by", "nobody"));
  for (const item of queue().items) command(project, "queue", "skip", item.decision, "--question", item.question);
  settings(project, "double_share = 1.0");
  const { url, stop } = await serve(project, "--allow-uncertified");
  const agreement = () => JSON.parse(command(project, "queue", "agreement", "support", "-o", "json"));
  try {
    await decide(url, "support", "zzz a question that two people look at", { authorization: `Bearer ${operator}` });
    const asked = queue().items;
    check(asked.length > 0, "something waits");
    check(asked.every((item) => item.suggestion === undefined), "nobody is told what the model would say of what two answer");
    await double(browser, url, { reviewers, operator, agreement });
    settings(project, "suggestion_share = 1.0");
    await decide(url, "support", "qqq a question with a guess behind it", { authorization: `Bearer ${operator}` });
    await suggested(browser, url, { reviewer: reviewers[0], agreement });
  } finally {
    await stop();
  }
}

async function double(browser, url, { reviewers, operator, agreement }) {
  const [first, second] = [await enter(browser, url, reviewers[0]), await enter(browser, url, reviewers[1])];
  // A decision may have left several questions open.
  const asked = async (page) => {
    if ((await page.locator("main form").count()) === 0) return "";
    return (await page.locator("main form code").first().textContent()) + (await page.locator("main form legend").textContent());
  };
  const question = await asked(first.page);
  await choose(first.page, "1", "It waits for a second person.");
  await go(second.page, url, "label/support");
  check((await asked(second.page)) === question, "the second sees what the first has begun");
  check(!(await second.page.locator("main").textContent()).includes("differ"), "and nothing of what the first one said");
  await choose(second.page, "2", "Another person differs: it waits for a third one.");
  await axe(second.page, "label, disputed");
  await go(first.page, url, "label/support");
  check((await asked(first.page)) !== question, "one of the two does not decide");
  const third = await enter(browser, url, operator);
  await third.page.getByText("Two people differ").first().waitFor();
  await axe(third.page, "label, deciding");
  await shot(third.page, "label-deciding");
  await choose(third.page, "1", "It is gold now.");
  await third.page.getByText("Agreement of people").click();
  await third.page.getByText("Cohen's kappa").waitFor();
  await axe(third.page, "label, agreement");
  await shot(third.page, "label-agreement");
  const found = agreement();
  check(found.questions[0]?.alike.of >= 1 && found.questions[0].pairs.length >= 1, `agreement is counted: ${JSON.stringify(found.questions)}`);
  for (const one of [first, second, third]) await one.context.close();
}

async function suggested(browser, url, { reviewer, agreement }) {
  const { context, page } = await enter(browser, url, reviewer);
  await page.getByText("Answered without the model's guess.").first().waitFor();
  await choose(page, "2", "You chose");
  check((await page.locator("main form input:checked").count()) === 1, "the first choice is kept and shown");
  await axe(page, "label, suggestion");
  await shot(page, "label-suggestion");
  await page.keyboard.press("1");
  await page.keyboard.press("Enter");
  await page.getByText(/It is gold now|It waits for a second/).first().waitFor();
  check(agreement().suggestions.shown >= 1, "the suggestion is counted");
  await shown(page);
  await context.close();
}
