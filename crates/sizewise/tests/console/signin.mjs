// Does whoever signs in at their identity provider get in, and nobody by somebody else's doing?
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import { axe, check, open, shot, shown } from "./browser.mjs";
import { startIssuer } from "./issuer.mjs";
import { serve } from "./server.mjs";

const BUTTON = { name: "Sign in with Example ID" };

function freePort() {
  return new Promise((found) => {
    const listener = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = listener.address();
      listener.close(() => found(port));
    });
  });
}

/** Writes who signs in and how into a project's settings. */
function settings(project, issuer, address) {
  const file = path.join(project, "sizewise.toml");
  const before = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
  const serving = `[serve]\naddress = "${address}"\n`;
  fs.writeFileSync(path.join(project, "secret"), issuer.secret);
  fs.writeFileSync(file, `${before.includes("[serve]") ? before.replace("[serve]\n", serving) : `${before}\n${serving}`}
[oidc]
issuer = "${issuer.url}"
audience = "programs"
[oidc.group.admins]
role = "operator"
[oidc.group.watchers]
role = "monitor"
[oidc.sign_in]
client = "console"
secret = "file:secret"
name = "Example ID"
scopes = ["groups"]
hours = 8
`);
}

async function signIn(page, url, choice = "yes") {
  await page.goto(`${url}/console/`);
  await page.getByRole("button", BUTTON).waitFor();
  // By keyboard: the button has the focus.
  await page.keyboard.press("Enter");
  await page.locator(`#${choice}`).click();
}

async function comesBackTo(page, words) {
  await page.getByRole("alert").getByText(words).waitFor();
  check((await page.evaluate(() => document.activeElement.textContent)) === BUTTON.name, `after "${words}" the button has the focus`);
  check((await page.evaluate(() => location.hash)) === "", `"${words}" is not told again to who looks again`);
  const cookies = await page.context().cookies();
  check(cookies.length === 0, `after "${words}" no cookie is left: ${JSON.stringify(cookies)}`);
}

export async function signingIn(browser, project) {
  const issuer = await startIssuer();
  const port = await freePort();
  const address = `http://127.0.0.1:${port}`;
  settings(project, issuer, address);
  const { url, stop } = await serve(project, "--allow-uncertified", "--bind", `127.0.0.1:${port}`);
  try {
    for (const [name, options] of [["wide", {}], ["narrow", { viewport: { width: 320, height: 700 } }], ["dark", { colorScheme: "dark" }]]) {
      const { context, page } = await open(browser, url, options, [issuer.url]);
      await page.goto(`${url}/console/`);
      await page.getByRole("button", BUTTON).waitFor();
      await axe(page, `login with an issuer, ${name}`);
      await shot(page, `sign-in-${name}`);
      await page.goto(`${url}/console/#/not-signed-in/stale`);
      await page.reload();
      await comesBackTo(page, "That sign-in cannot be used");
      await axe(page, `back from an issuer, ${name}`);
      const wider = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
      check(wider <= 0, `back from an issuer, ${name} is ${wider} pixels wider than its window`);
      await shot(page, `sign-in-again-${name}`);
      await context.close();
    }
    await inAndOut(browser, url, issuer);
    await notLetIn(browser, url, issuer);
    await bySomebodyElse(browser, url, issuer);
  } finally {
    await stop();
    await issuer.stop();
  }
}

async function inAndOut(browser, url, issuer) {
  const { context, page } = await open(browser, url, {}, [issuer.url]);
  const ways = [];
  page.on("request", (request) => request.url().includes("/signed-in?") && ways.push(request.url()));
  await signIn(page, url);
  await page.locator("#top nav").first().waitFor();
  await shown(page);
  check((await page.locator("h1").textContent()) === "Home" && page.url() === `${url}/console/`, `who has signed in is at home: ${page.url()}`);
  check(await page.getByText(/operator · oidc-[0-9a-f]{16}/).isVisible(), "who has signed in is told as whom");
  check((await page.getByText("ada@desk.example").count()) === 0, "nobody's address is shown");
  const cookies = await context.cookies();
  check(cookies.length === 1 && cookies[0].name === "sizewise_session" && cookies[0].httpOnly && cookies[0].sameSite === "Strict", `the session's cookie is there alone: ${JSON.stringify(cookies)}`);
  const left = cookies[0].expires - Date.now() / 1000;
  check(left > 7.9 * 3600 && left <= 8 * 3600, `the session lasts as long as was said: ${left}`);
  check((await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage, cookie: document.cookie }))).includes("eyJ") === false, "the token is nowhere in the page");
  await page.goto(`${url}/console/#/admin`);
  await shown(page);
  check((await page.locator("h1").textContent()) === "Admin", "the group's role holds");
  // The same way back once more: it opens nothing, and ends nothing.
  const before = issuer.exchanged;
  const again = await context.request.get(ways[0], { maxRedirects: 0 });
  check(again.status() === 303 && again.headers().location === "/console/#/not-signed-in/stale", `a way back is used once: ${again.status()} ${again.headers().location}`);
  check(issuer.exchanged === before, "the issuer is not asked for what was used");
  check((await context.request.get(`${url}/console/api/home`)).status() === 200, "who is in stays in");
  await page.getByRole("button", { name: "Leave" }).click();
  await page.getByRole("button", BUTTON).waitFor();
  check((await context.request.get(`${url}/console/api/home`)).status() === 401, "who has left is out");
  await page.getByText("Example ID still knows you in this browser").waitFor();
  await axe(page, "left, and known at the issuer");
  await shot(page, "sign-in-left");
  await page.getByRole("link", { name: "Leave there too" }).click();
  await page.getByRole("heading", { name: "You have left Example ID" }).waitFor();
  check(issuer.ended === "?realm=desk&client_id=console", `the issuer is told which program it was, and nothing else: ${issuer.ended}`);
  await context.close();
}

async function notLetIn(browser, url, issuer) {
  const { context, page } = await open(browser, url, {}, [issuer.url]);
  await signIn(page, url, "no");
  await comesBackTo(page, "You were not let in there");
  for (const [twist, words] of [
    [{ nonce: "another" }, "does not fit this server"], [{ aud: "programs" }, "does not fit this server"], [{ iss: "http://elsewhere.example" }, "does not fit this server"],
    [{ exp: Math.floor(Date.now() / 1000) - 120 }, "does not fit this server"], [{ groups: ["guests"] }, "nothing here is open to you"], [{ groups: ["watchers"] }, "nothing here is open to you"],
  ]) {
    issuer.twist = twist;
    await signIn(page, url);
    await comesBackTo(page, words);
  }
  issuer.twist = {};
  issuer.broken = 500;
  await signIn(page, url);
  await comesBackTo(page, "Your identity provider could not be asked");
  issuer.broken = 0;
  await signIn(page, url);
  await page.locator("#top nav").first().waitFor();
  await context.close();
}

/** What another person, or a page from elsewhere, can do to somebody's browser. */
async function bySomebodyElse(browser, url, issuer) {
  const theirs = await open(browser, url, {}, [issuer.url]);
  await theirs.page.goto(`${url}/console/`);
  await theirs.page.getByRole("button", BUTTON).click();
  const link = await theirs.page.locator("#yes").getAttribute("href");
  const mine = await open(browser, url, {}, [issuer.url]);
  // Their way back, with their code, in my browser: before I began anything, and after.
  await mine.page.goto(link);
  await comesBackTo(mine.page, "That sign-in cannot be used");
  await mine.page.getByRole("button", BUTTON).click();
  await mine.page.locator("#yes").waitFor();
  await mine.page.goto(link);
  await comesBackTo(mine.page, "That sign-in cannot be used");
  const evil = http.createServer((request, reply) => reply.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>elsewhere</title>"));
  await new Promise((ready) => evil.listen(0, "127.0.0.1", ready));
  const other = await browser.newContext();
  const page = await other.newPage();
  await page.goto(`http://localhost:${evil.address().port}/`);
  await page.evaluate((target) => fetch(`${target}/console/api/sign-in`, { method: "POST", mode: "no-cors", credentials: "include", body: "{}" }).catch(() => null), url);
  check((await other.cookies()).length === 0, "a page from elsewhere begins nothing");
  for (const headers of [{}, { "sec-fetch-site": "cross-site" }, { origin: "https://evil.example" }]) {
    const reply = await other.request.post(`${url}/console/api/sign-in`, { data: {}, headers });
    check(reply.status() === 403 && !reply.headers()["set-cookie"], `who is no page of this server begins nothing: ${reply.status()}`);
  }
  const reply = await other.request.get(`${url}/console/api/signed-in?next=https://evil.example&redirect_uri=https://evil.example&state=x&code=y`, { maxRedirects: 0 });
  check(reply.headers().location === "/console/#/not-signed-in/stale", `nothing in a request says where to go: ${reply.headers().location}`);
  // Under another name of the same server the cookie would not come back: it is said where to go.
  const named = url.replace("127.0.0.1", "localhost");
  const aside = await open(browser, named, {}, [url]);
  await aside.page.goto(`${named}/console/`);
  await aside.page.getByRole("button", BUTTON).click();
  await aside.page.getByText(`signing in works under ${url}/console/`).waitFor();
  for (const context of [theirs.context, mine.context, other, aside.context]) await context.close();
  evil.close();
}
