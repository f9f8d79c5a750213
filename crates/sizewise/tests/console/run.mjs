// Does the console do in a real browser what it is for? See README.md beside this file.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { acts } from "./acts.mjs";
import { count, findings, launch } from "./browser.mjs";
import { byKeyboard } from "./keyboard.mjs";
import { manyRecords } from "./many.mjs";
import { people } from "./people.mjs";
import { everyPage, liveEvidence, onPaper, strings } from "./pages.mjs";
import { serve } from "./server.mjs";
import { sessions } from "./sessions.mjs";
import { signingIn } from "./signin.mjs";

const project = process.env.SIZEWISE_PROJECT;
const records = Number(process.env.SIZEWISE_RECORDS ?? 1_000_000);
const browser = await launch();
const aside = fs.mkdtempSync(path.join(os.tmpdir(), "sizewise-console-"));
/** One part alone, by words of its name. */
const only = process.env.SIZEWISE_PART;
const part = async (name, work) => {
  if (only && !name.includes(only)) return;
  const [before, begun] = [findings.length, Date.now()];
  let told;
  try {
    told = await work();
  } catch (error) {
    findings.push(`${name}: ${error.stack}`);
  }
  console.log(`${findings.length === before ? "ok  " : "FAIL"} ${name} (${((Date.now() - begun) / 1000).toFixed(0)} s)${told ? ` ${JSON.stringify(told)}` : ""}`);
};

try {
  const { url, stop } = await serve(project, "--allow-uncertified");
  try {
    await part("every page, light, dark, narrow, zoomed", () => everyPage(browser, url));
    await part("live evidence", () => liveEvidence(browser, url));
    await part("on paper", () => onPaper(browser, url));
    await part("strings are data", () => strings(browser, url));
    await part("by keyboard", () => byKeyboard(browser, url, project));
    await part("acts", () => acts(browser, url, project));
  } finally {
    await stop();
  }
  // Keys belong to a project, and once there is one it cannot be unmade: they are tried on a copy.
  const copy = path.join(aside, "project");
  fs.cpSync(project, copy, { recursive: true });
  await part("sessions and roles", () => sessions(browser, copy));
  const third = path.join(aside, "signing-in");
  fs.cpSync(project, third, { recursive: true });
  await part("signing in at an issuer", () => signingIn(browser, third));
  await part("two people and a third", () => people(browser, copy));
  if (process.env.SIZEWISE_FILL && records > 0) {
    execFileSync(process.env.SIZEWISE_FILL, [path.join(project, ".sizewise"), "support", String(records)], { stdio: "inherit" });
    await part(`first view with ${records} records (ms, ${5} rounds)`, () => manyRecords(browser, project, records));
  }
} finally {
  await browser.close();
  fs.rmSync(aside, { recursive: true, force: true });
}
findings.forEach((one) => console.log(`  ${one}`));
console.log(`${count()} checks, ${findings.length} findings`);
process.exit(findings.length ? 1 : 0);
