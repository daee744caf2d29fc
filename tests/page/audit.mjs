// Reads the page of a novelty audit as a person would. Called by tests/audit/browser.rs: node audit.mjs SETTINGS.json
//
// SETTINGS: { page, chromium, modules, screenshots, most, least }: ids of the texts that must lead each list; screenshots: a directory or
// null. The page is opened as a file at the width of a desk and of a telephone; any error, and any request for another file, is a failure.

import assert from "node:assert/strict";
import { accessible, done, open, settings } from "./opened.mjs";

for (const [name, viewport] of [["desktop", { width: 1280, height: 900 }], ["phone", { width: 390, height: 844 }]]) {
  for (const colorScheme of ["light", "dark"]) {
    const where = `${name}, ${colorScheme}`;
    const page = await open(where, viewport, colorScheme);

    // What the search misses is told before what is novel.
    const headings = await page.locator("h2").allInnerTexts();
    assert.ok(headings.indexOf("Recall of the search") >= 0, headings.join());
    assert.ok(headings.indexOf("Recall of the search") < headings.indexOf("Groups"), headings.join());

    // Nothing but the tables is wider than the screen, and what is wider can be scrolled by keyboard.
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${where}: the page is ${wide} pixels too wide`);
    for (const region of await page.locator(".scroll").all()) {
      const stuck = await region.evaluate((e) => e.scrollWidth > e.clientWidth && e.tabIndex < 0);
      assert.ok(!stuck, `${where}: a wide table takes no focus`);
    }

    // Marks on an axis do not overlap, and no label leaves its chart.
    const crowded = await page.locator("svg.curves").evaluateAll((charts) =>
      charts.flatMap((chart) => {
        const frame = chart.getBoundingClientRect();
        const boxes = [...chart.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]);
        const out = boxes.filter(([, b]) => b.left < frame.left - 1 || b.right > frame.right + 1 || b.bottom > frame.bottom + 1).map(([t]) => `${t} leaves`);
        for (let i = 0; i < boxes.length; i++) {
          for (let j = i + 1; j < boxes.length; j++) {
            const [[s, a], [t, b]] = [boxes[i], boxes[j]];
            if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3) out.push(`${s} and ${t} overlap`);
          }
        }
        return out.map((o) => `${chart.getAttribute("aria-label")}: ${o}`);
      }),
    );
    assert.deepEqual(crowded, [], where);

    // The texts at both ends, with their ledgers: a copy is marked word for word and its source is shown.
    const under = (heading) => page.locator(`h2:text-is("${heading}") ~ article`).first();
    assert.match(await under("Most novel texts").locator("h3").innerText(), new RegExp(settings.most), where);
    const least = under("Least novel texts");
    assert.match(await least.locator("h3").innerText(), new RegExp(settings.least), where);
    assert.ok((await least.locator("mark.e3").count()) > 0 && (await least.locator("ol li").count()) > 0, where);

    await accessible(where, page);
    if (settings.screenshots) await page.screenshot({ path: `${settings.screenshots}/audit-${name}-${colorScheme}.png`, fullPage: true });
    await page.context().close();
  }
}
await done();
