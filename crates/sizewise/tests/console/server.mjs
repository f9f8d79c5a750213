// How is a server of our own started, asked and stopped?
import { execFileSync, spawn } from "node:child_process";

export const BINARY = process.env.SIZEWISE_BIN;

/** Runs a command of the program and returns what it prints. */
export function command(project, ...words) {
  return execFileSync(BINARY, ["--project", project, ...words], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** A server, on a free port unless words say where. */
export async function serve(project, ...words) {
  const child = spawn(BINARY, ["--project", project, "serve", ...(words.includes("--bind") ? [] : ["--bind", "127.0.0.1:0"]), ...words], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const url = await new Promise((ready, failed) => {
    const patience = setTimeout(() => failed(new Error(`the server did not become ready; it said:\n${said}`)), 120_000);
    const read = (chunk) => {
      said += chunk;
      const found = said.match(/http:\/\/127\.0\.0\.1:\d+/);
      if (found) {
        clearTimeout(patience);
        ready(found[0]);
      }
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", () => failed(new Error(`the server ended; it said:\n${said}`)));
  });
  const stop = () => new Promise((ended) => {
    child.removeAllListeners("exit");
    child.on("exit", ended);
    child.kill("SIGTERM");
  });
  return { url, stop };
}

/** Asks a task something, as a program would. */
export async function decide(url, task, input, headers = {}) {
  const reply = await fetch(`${url}/v1/tasks/${task}/decide`, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify({ input }) });
  return reply.json();
}
