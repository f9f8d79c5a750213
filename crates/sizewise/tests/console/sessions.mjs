// Who gets in, what do they see, and what can a page from elsewhere do with their session?
import http from "node:http";
import { axe, check, findings, launch, open, shot, shown } from "./browser.mjs";
import { command, decide, serve } from "./server.mjs";

function key(project, role, ...words) {
  const told = command(project, "keys", "create", `the ${role}`, "--role", role, ...words);
  return told.match(/\bsw_[A-Za-z0-9_-]+/)[0];
}

async function enter(page, url, secret) {
  await page.goto(`${url}/console/`);
  await page.locator("input[name=key]").waitFor();
  await page.keyboard.type(secret);
  await page.keyboard.press("Enter");
  await page.locator("#top nav").first().waitFor();
  await shown(page);
}

export async function sessions(browser, project) {
  const keys = Object.fromEntries(["operator", "caller", "reviewer", "monitor"].map((role) => [role, key(project, role)]));
  const other = key(project, "caller", "--tasks", "none");
  const { url, stop } = await serve(project, "--allow-uncertified");
  try {
    await decide(url, "support", "zzz never heard of", { authorization: `Bearer ${keys.operator}` });
    await entering(browser, url, keys);
    await roles(browser, url, keys, other);
    await elsewhere(browser, url, keys);
    await revoked(browser, url, project);
  } finally {
    await stop();
  }
}

async function entering(browser, url, keys) {
  const { context, page } = await open(browser, url);
  await page.goto(`${url}/console/`);
  await page.locator("input[name=key]").waitFor();
  await axe(page, "login");
  await shot(page, "login");
  check((await page.evaluate(() => document.activeElement.name)) === "key", "the field of the key has the focus");
  for (const [wrong, told] of [["sw_nobody_nothing", "unknown or revoked"], [keys.monitor, "reads the metrics"]]) {
    await page.locator("input[name=key]").fill(wrong);
    await page.keyboard.press("Enter");
    await page.getByText(told).waitFor();
  }
  await page.locator("input[name=key]").fill("");
  await enter(page, url, keys.operator);
  const [cookie] = await context.cookies();
  check(cookie.httpOnly && cookie.sameSite === "Strict" && !cookie.secure, `the cookie is ${JSON.stringify(cookie)}`);
  check(!cookie.value.includes("sw_") && cookie.value.length === 64, "the cookie holds no key");
  check((await page.evaluate(() => document.cookie)) === "", "no script reads the cookie");
  const stored = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
  check(!stored.includes("sw_"), "the key is stored nowhere");
  await page.getByRole("button", { name: "Leave" }).click();
  await page.locator("input[name=key]").waitFor();
  await context.addCookies([cookie]);
  const reply = await context.request.get(`${url}/console/api/home`);
  check(reply.status() === 401, "a session that was left has ended");
  await context.close();
}

async function roles(browser, url, keys, other) {
  const everybody = ["Task", "Errors", "Try it", "Releases", "Monitor"];
  for (const [secret, links, hidden] of [
    [keys.operator, ["Home", "Discover", "Audit", "Admin"], []],
    [keys.caller, ["Home"], ["Discover", "Audit", "Admin", "Label"]],
    [keys.reviewer, ["Label"], ["Home", "Discover", "Audit", "Admin", ...everybody]],
  ]) {
    const { context, page } = await open(browser, url);
    await enter(page, url, secret);
    for (const name of links) check((await page.getByRole("link", { name, exact: true }).count()) === 1, `${name} is there`);
    for (const name of hidden) check((await page.locator("#top").getByRole("link", { name, exact: true }).count()) === 0, `${name} is not there`);
    await axe(page, `as ${secret === keys.caller ? "caller" : "another"}`);
    if (secret === keys.reviewer) {
      check((await page.locator("h1").textContent()) === "Label support", "a reviewer comes to the queue");
      await page.keyboard.press("1");
      await page.keyboard.press("Enter");
      await page.getByText("Saved:").waitFor();
      await shot(page, "reviewer");
    }
    if (secret === keys.caller) {
      await page.goto(`${url}/console/#/errors/support`);
      await page.getByText("shown to operators").first().waitFor();
      const told = await (await context.request.get(`${url}/console/api/tasks/support/evaluation`)).json();
      check(told.evaluation.questions.every((question) => question.mistakes.length === 0), "a caller reads no rows");
    }
    await context.close();
  }
  const { context, page } = await open(browser, url);
  await enter(page, url, other);
  check((await page.getByText("support").count()) === 0, "what is not theirs is not there");
  const reply = await context.request.get(`${url}/console/api/tasks/support`);
  check(reply.status() === 404, "and its view is not found");
  await context.close();
}

/** A page from another origin of the same machine, with the session's cookie in the browser. */
async function elsewhere(browser, url, keys) {
  const evil = http.createServer((request, reply) => {
    reply.setHeader("content-type", "text/html");
    reply.end("<!doctype html><title>elsewhere</title>");
  });
  await new Promise((ready) => evil.listen(0, "127.0.0.1", ready));
  const own = await launch();
  const context = await own.newContext();
  const page = await context.newPage();
  await enter(page, url, keys.operator);
  await page.goto(`http://127.0.0.1:${evil.address().port}/`);
  const outcome = await page.evaluate(async (target) => {
    const ask = (path, options) => fetch(target + path, { credentials: "include", ...options }).then((reply) => reply.text()).catch(() => "refused");
    return [
      await ask("/console/api/keys", { method: "POST", headers: { "content-type": "application/json" }, body: '{"name":"evil","rights":{"role":"operator"}}' }),
      await ask("/console/api/keys", { method: "POST", mode: "no-cors", headers: { "content-type": "text/plain" }, body: '{"name":"evil","rights":{"role":"operator"}}' }),
      await ask("/console/api/admin", {}),
    ];
  }, url);
  check(outcome.every((told) => told === "refused" || told === ""), `a page from elsewhere was told ${outcome}`);
  await page.goto(`${url}/console/#/admin`);
  await shown(page);
  check((await page.getByText("evil").count()) === 0, "a page from elsewhere made no key");
  const framed = await page.goto(`${url}/console/`);
  check(framed.headers()["x-frame-options"] === "DENY" && framed.headers()["content-security-policy"].includes("frame-ancestors 'none'"), "the page stands in no frame");
  await own.close();
  evil.close();
}

async function revoked(browser, url, project) {
  const secret = key(project, "operator");
  const { context, page } = await open(browser, url);
  // Servers notice new keys within a second.
  for (let turn = 0; turn < 50; turn += 1) {
    const reply = await context.request.post(`${url}/console/api/login`, { data: { key: secret } });
    if (reply.ok()) break;
    await page.waitForTimeout(100);
  }
  await page.goto(`${url}/console/`);
  await shown(page);
  command(project, "keys", "revoke", secret.split("_")[1]);
  let status = 200;
  for (let turn = 0; turn < 50 && status === 200; turn += 1) {
    await page.waitForTimeout(100);
    status = (await context.request.get(`${url}/console/api/session`)).status();
  }
  check(status === 401, "a session ends when its key is revoked");
  await page.reload();
  await page.locator("input[name=key]").waitFor().catch(() => findings.push("whose key was revoked is not asked for one"));
  await context.close();
}
