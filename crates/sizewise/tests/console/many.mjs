// Does the first view come at once where a task has very many records?
import { check, open } from "./browser.mjs";
import { serve } from "./server.mjs";

const MOST_MS = Number(process.env.SIZEWISE_FIRST_VIEW_MS ?? 1000);
const ROUNDS = 5;

export async function manyRecords(browser, project, records) {
  const figures = {};
  for (const place of ["home", "task/support", "monitor/support"]) {
    const took = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      // A server that nobody has asked yet, and a browser that has seen nothing.
      const { url, stop } = await serve(project, "--allow-uncertified");
      const { context, page } = await open(browser, url);
      await page.goto(`${url}/console/#/${place}`);
      const name = `shown:${place.split("/")[0]}`;
      await page.waitForFunction((mark) => performance.getEntriesByName(mark).length > 0, name, { polling: 20 });
      took.push(await page.evaluate((mark) => performance.getEntriesByName(mark)[0].startTime, name));
      await context.close();
      await stop();
    }
    took.sort((a, b) => a - b);
    figures[place] = took.map(Math.round);
    const median = took[(ROUNDS - 1) / 2];
    check(median <= MOST_MS, `the first view of ${place} took ${median.toFixed(0)} ms with ${records} records, median of ${ROUNDS}`);
  }
  return figures;
}
