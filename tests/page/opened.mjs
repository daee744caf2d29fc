// A page opened as a file in chromium, for the scripts that read reports: node SCRIPT SETTINGS.json with { page, chromium, modules, … }.
// Any error of the page, and any request for another file, is a fault.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

export const settings = JSON.parse(readFileSync(process.argv[2], "utf8"));
const require = createRequire(settings.modules + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core"), "utf8");
const url = pathToFileURL(settings.page).href;
const faults = [];
const browser = await chromium.launch({ executablePath: settings.chromium, args: ["--no-sandbox"] });

/** The page in a window of its own; `where` names it in messages. */
export async function open(where, viewport, colorScheme) {
  // The page forbids scripts that are not its own; axe is one.
  const context = await browser.newContext({ viewport, colorScheme, bypassCSP: true });
  const page = await context.newPage();
  page.on("console", (m) => m.type() === "error" && faults.push(`${where}: console: ${m.text()}`));
  page.on("pageerror", (e) => faults.push(`${where}: page error: ${e}`));
  page.on("request", (r) => r.url() === url || faults.push(`${where}: fetched ${r.url()}`));
  await page.goto(url);
  return page;
}

/** No violation that axe knows of. */
export async function accessible(where, page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] }));
  assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`), [], where);
}

/** No fault on any page that was opened. */
export async function done() {
  assert.deepEqual(faults, []);
  await browser.close();
  console.log("passed");
}
