// How does the page ask the server?

/** What the server said no to. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function ask(method, path, body, signal) {
  let reply;
  try {
    reply = await fetch(path, {
      method,
      signal,
      credentials: "same-origin",
      cache: "no-store",
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "unreachable", "The server does not answer. It may have stopped; see its terminal.");
  }
  const told = await reply.json().catch(() => null);
  if (reply.ok) return told;
  const error = told?.error ?? {};
  throw new Refused(reply.status, error.code, error.message ?? `The server answered with status ${reply.status}.`);
}

const part = encodeURIComponent;

/** Looks at something of the console. */
export function look(path, signal) {
  return ask("GET", `/console/api/${path}`, undefined, signal);
}

/** Does something in the console. */
export function act(path, body) {
  return ask("POST", `/console/api/${path}`, body ?? {});
}

/** A path below a task. */
export function ofTask(name, rest) {
  return `tasks/${part(name)}${rest ? `/${rest}` : ""}`;
}

/** The live evidence of a task, as every program may read it. */
export function evidenceOf(name, signal) {
  return ask("GET", `/v1/tasks/${part(name)}/evidence`, undefined, signal);
}

/** The queue of a task. */
export function queueOf(name) {
  return `queue/${part(name)}`;
}
