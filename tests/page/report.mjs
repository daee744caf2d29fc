// Uses the page of a decontamination report as a person would. Called by tests/decontaminate/browser.rs: node report.mjs SETTINGS.json
//
// SETTINGS: { page, chromium, modules }. The page is opened as a file; any error, and any request for another one, is a failure.

import assert from "node:assert/strict";
import { accessible, done, open, settings } from "./opened.mjs";

for (const colorScheme of ["light", "dark"]) {
  const page = await open(colorScheme, { width: 1280, height: 900 }, colorScheme);
  const cases = page.locator("article:visible");
  const scores = async () => (await page.locator("article:visible .score").allInnerTexts()).map(Number);
  const counts = async () => (await page.locator("#above").innerText()).match(/^(\d+) of (\d+) findings/).slice(1).map(Number);
  const names = await page.locator("#protocol option").allInnerTexts();
  assert.ok(names.length > 1);

  // The threshold begins at the minimum, and the keyboard moves it: bars and cases follow.
  const all = await cases.count();
  assert.equal(await page.locator("#threshold").inputValue(), "0");
  assert.equal(...(await counts()));
  await page.locator("#threshold").focus();
  for (let i = 0; i < 45; i++) await page.keyboard.press("ArrowRight");
  assert.equal(await page.locator("#threshold").inputValue(), "0.9");
  assert.ok((await scores()).every((s) => s >= 0.9) && (await cases.count()) < all);
  assert.ok((await counts())[0] < (await counts())[1]);
  await page.keyboard.press("Home");
  assert.equal(await cases.count(), all);

  // Every protocol that found something has its cases, by its own verdicts, the gravest first; none is a bar at zero.
  for (const name of names) {
    await page.locator("#protocol").selectOption(name);
    const levels = await page.locator("article:visible .level").allInnerTexts();
    const grave = (await scores()).map((s, i) => (levels[i] === "dirty" ? 2 : 1) + s / 2);
    assert.ok(levels.every((l) => l === "dirty" || l === "suspect"), name);
    assert.ok(grave.every((g, i) => i === 0 || g <= grave[i - 1] + 1e-6), `${name} is in order`);
    if (settings.found.includes(name)) assert.ok(levels.length > 0, name);
  }
  await page.locator("#protocol").selectOption(names[0]);
  const benchmark = await page.locator("#benchmark option").nth(1).innerText();
  await page.locator("#benchmark").selectOption(benchmark);
  assert.ok(await cases.evaluateAll((of, b) => of.length > 0 && of.every((a) => a.dataset.benchmark === b), benchmark));
  await page.locator("#benchmark").selectOption("");

  await accessible(colorScheme, page);
}
await done();
