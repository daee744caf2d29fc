// Drives the page in a real browser. Called by tests/page.rs: node page.mjs SETTINGS.json
//
// SETTINGS: { base, chromium, modules, report, semantic, screenshots }. Each check is a named function; the first that fails ends the run
// with its name. Any console error, page error or request to another origin is a failure, too.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const settings = JSON.parse(readFileSync(process.argv[2], "utf8"));
const require = createRequire(settings.modules + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core"), "utf8");
const { base } = settings;

const QUOTED = "the quick brown fox jumps over the lazy dog";
const TEXT = `Nobody ever wrote these words before. Yet ${QUOTED}, as is well known. Café crème costs nothing here.`;

const browser = await chromium.launch({ executablePath: settings.chromium, args: ["--no-sandbox"] });
const faults = [];

async function open(hash = "", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.on("console", (m) => m.type() === "error" && faults.push(`console: ${m.text()}`));
  page.on("pageerror", (e) => faults.push(`page error: ${e}`));
  page.on("request", (r) => r.url().startsWith(base) || r.url().startsWith("blob:") || r.url().startsWith("data:") || faults.push(`fetched ${r.url()}`));
  await page.goto(`${base}/${hash}`);
  await page.waitForSelector("h1");
  return page;
}

async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] }));
  const serious = violations.filter((v) => ["serious", "critical"].includes(v.impact));
  assert.deepEqual(serious.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`), [], what);
}

const shown = (page) => page.locator("main").innerText();
const heading = (page, name) => page.getByRole("heading", { name });
const checks = {
  async "a pasted text shows spans; a click filters and opens a document"() {
    const page = await open();
    await page.getByLabel("Text", { exact: true }).fill(TEXT);
    await page.getByRole("button", { name: "Trace", exact: true }).click();
    const spans = page.locator(".hit[role=button]");
    await spans.first().waitFor();
    assert.match((await spans.allInnerTexts()).join("|"), /the quick brown fox jumps over the lazy dog/);
    assert.equal(await page.locator("p.text").first().innerText(), TEXT, "the shaded text is the text");
    const all = await page.locator("article.card").count();
    assert.ok(all >= 2);
    await spans.filter({ hasText: "quick brown fox" }).click();
    assert.equal(await page.locator(".hit[aria-pressed=true]").count(), 1);
    assert.match(await shown(page), /Documents with this span/);
    await page.getByRole("button", { name: "Show all" }).click();
    await page.getByRole("button", { name: /^Spans from dog/ }).click();
    assert.equal(await page.locator("article.card").count(), 1, "a document filters to itself");
    await page.getByRole("button", { name: /^Open dog/ }).first().click();
    const dialog = page.getByRole("dialog");
    await dialog.locator("mark").waitFor();
    assert.match(await dialog.locator("mark").innerText(), /the quick brown fox/);
    await accessible(page, "dialog");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    await accessible(page, "trace");
  },

  async "nothing found is an answer that tells the recall"() {
    const hash = `#trace?min=6&text=${encodeURIComponent("Xylophones zigzag quietly beneath violet umbrellas.")}`;
    const page = await open(hash);
    await page.getByText("Nothing found word for word").waitFor();
    assert.match(await shown(page), /recall is 1/);
    if (!settings.semantic) return;
    const meant = await open(`${hash}&meaning=1`);
    await meant.getByText("Nothing found word for word").waitFor();
    assert.match(await shown(meant), /Looked up by meaning: 1 sentence, none with a passage of cosine 0.45 or more. Every vector was compared/);
  },

  async "a link reproduces what is on the screen"() {
    const page = await open();
    await page.getByRole("link", { name: "Search" }).click();
    await page.getByLabel("Query").fill("the quick brown fox");
    await page.keyboard.press("Enter");
    await heading(page, /3 occurrences in 2 documents/).waitFor();
    const again = await open(new URL(page.url()).hash);
    await heading(again, /3 occurrences in 2 documents/).waitFor();
    assert.equal(await again.getByLabel("Query").inputValue(), "the quick brown fox");
    await accessible(again, "search");
    await page.goBack();
    assert.equal(await page.getByLabel("Query").inputValue(), "");
  },

  async "counts, boolean search and next tokens"() {
    const page = await open(`#search?kind=boolean&q=${encodeURIComponent('"quick brown" AND "lazy dog"')}`);
    await heading(page, /in 2 documents/).waitFor();
    await page.getByLabel("Kind").selectOption("next");
    await page.getByLabel("Query").fill("the quick brown");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByRole("rowheader", { name: "fox" }).waitFor();
    assert.match(await page.getByRole("row", { name: /fox/ }).innerText(), /3\s+100 %/);
    await accessible(page, "next tokens");
  },

  async "exports hold what is shown"() {
    const page = await open("#search?q=the+quick+brown+fox");
    await heading(page, /3 occurrences/).waitFor();
    const download = async (name) => {
      const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name, exact: true }).click()]);
      return readFileSync(await file.path(), "utf8");
    };
    assert.equal(JSON.parse(await download("JSON")).count, 3);
    const csv = (await download("CSV")).trim().split("\r\n");
    assert.equal(csv.length, 4);
    assert.match(csv[0], /"id","path","record"/);
    await page.getByRole("link", { name: "Index", exact: true }).click();
    await heading(page, "What is in this index?").waitFor();
    await page.getByText("Removed documents").waitFor();
    assert.equal(JSON.parse(await download("JSON")).name, "small");
    assert.match(await download("CSV"), /^"id","documents","tokens"/);
  },

  async "a contamination report is filtered, labelled and exported"() {
    const page = await open("#contamination");
    await page.locator("input[type=file]").setInputFiles(settings.report);
    await heading(page, /^2 of 2 findings/).waitFor();
    await accessible(page, "contamination");
    await page.getByRole("button", { name: /^Open sum in context/ }).click();
    await page.getByRole("dialog").locator("mark").waitFor();
    assert.match(await page.getByRole("dialog").locator("mark").innerText(), /nine trays of twelve rolls/);
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.getByRole("button", { name: /^Accept/ }).first().click();
    assert.equal(await page.locator("button.label[aria-pressed=true]").count(), 1);
    await page.getByLabel("Label").selectOption("accept");
    await heading(page, /^1 of 2 findings/).waitFor();
    const save = async (name) => {
      const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name, exact: true }).click()]);
      return [file.suggestedFilename(), readFileSync(await file.path(), "utf8")];
    };
    const [name, lines] = await save("JSON lines");
    assert.equal(name, "contamination.jsonl");
    const own = readFileSync(settings.report, "utf8").trim().split("\n").map((l) => JSON.parse(l));
    const [first, ...others] = lines.trim().split("\n").map((l) => JSON.parse(l));
    const { label, ...rest } = first;
    assert.equal(others.length, 0);
    assert.equal(label, "accept");
    assert.deepEqual(rest, own.find((o) => o.document_id === rest.document_id), "a line of the report with its label");
    // What a later run is given, see page.rs: one finding accepted, the other rejected.
    await page.getByLabel("Label").selectOption("all");
    await heading(page, /^2 of 2 findings/).waitFor();
    await page.getByRole("button", { name: /^Reject/ }).last().click();
    writeFileSync(settings.labels, (await save("JSON lines"))[1]);
    await page.getByLabel("Label").selectOption("accept");
    await heading(page, /^1 of 2 findings/).waitFor();
    const [, csv] = await save("CSV");
    assert.match(csv, /^"label","level","score"/);
    assert.match(csv, /\r\n"accept","dirty"/);
    await page.locator("input[type=file]").setInputFiles({ name: "x.jsonl", mimeType: "text/plain", buffer: Buffer.from('{"a":1}\nnot json\n') });
    await page.getByText("Line 2 is not JSON").waitFor();
  },

  async "one item is checked against every document"() {
    const page = await open("#contamination");
    await page.getByRole("button", { name: "One item, now" }).click();
    await page.getByRole("textbox", { name: "Eval item" }).fill("Ilse bakes nine trays of twelve rolls and drops one tray on the stairs; how many rolls reach the shop window?");
    await page.getByLabel("Protocols").selectOption("all");
    await page.getByRole("button", { name: "Check", exact: true }).click();
    await heading(page, "1 document with this item").waitFor();
    assert.match(await page.getByRole("row", { name: /^priorart/ }).innerText(), /dirty/);
    assert.equal(await page.getByRole("row").count(), 13, "twelve protocols and the head");
    await accessible(page, "check");
    const again = await open(new URL(page.url()).hash);
    await heading(again, "1 document with this item").waitFor();
    await again.getByRole("textbox", { name: "Eval item" }).fill("Which river did the surveyors fail to cross before the ice closed in around their boats?");
    await again.getByRole("button", { name: "Check", exact: true }).click();
    await again.getByText("Nothing found").waitFor();
    assert.match(await shown(again), /documents of small, generation 1, were read in full/);
    await again.getByRole("textbox", { name: "Eval item" }).fill('{"question": ');
    await again.getByRole("button", { name: "Check", exact: true }).click();
    await again.getByText(/The item is not JSON/).waitFor();
  },

  async "documents of short spans are fetched when they are chosen"() {
    const places = ["the harbour", "the northern valley", "an old mill", "the market square", "the river bank", "a railway yard"];
    const text = places.flatMap((place, i) => [0, 1, 2, 3, 4, 5].map((j) => `year ${1800 + 7 * i + j} the people of ${place}${j % 2 ? "" : " gladly"} qz`)).join(" ");
    const page = await open(`#trace?min=5&text=${encodeURIComponent(text)}`);
    const spans = page.locator(".hit[role=button]");
    await spans.first().waitFor();
    assert.equal(await spans.count(), 36);
    // 25 of the 36 come with their documents: all six words long but for "an old mill" and the like.
    const chosen = [];
    for (let i = 0; i < 36; i++) {
      await spans.nth(i).click();
      await page.locator("article.card").first().waitFor();
      chosen.push(await page.locator("article.card h3").first().innerText());
      await spans.nth(i).click();
    }
    assert.deepEqual(chosen, places.flatMap((_, i) => Array(6).fill(`chronicle-${i}`)));
  },

  async "a link opens a document"() {
    const page = await open("#search?q=the+quick+brown+fox");
    await page.getByRole("button", { name: /^Open fox/ }).first().click();
    await page.getByRole("dialog").locator("mark").waitFor();
    const link = new URL(page.url()).hash;
    assert.match(link, /open=/);
    const again = await open(link);
    await again.getByRole("dialog").locator("mark").waitFor();
    assert.equal(await again.getByRole("dialog").getByRole("heading").innerText(), "fox");
    assert.match(await again.getByRole("dialog").locator("mark").innerText(), /the quick brown fox/);
    await again.keyboard.press("Escape");
    await again.getByRole("dialog").waitFor({ state: "detached" });
    assert.doesNotMatch(again.url(), /open=/);
    await heading(again, /3 occurrences/).waitFor();
  },

  async "neighbours and novelty, or why not"() {
    const page = await open(`#neighbors?text=${encodeURIComponent("a fox leaps over a sleepy hound")}`);
    if (!settings.semantic) {
      await page.getByText("It was built without an encoder").waitFor();
      await page.getByRole("link", { name: "Novelty" }).click();
      await page.getByText("This index cannot say").waitFor();
      return;
    }
    await page.locator("article.card").first().waitFor();
    assert.match(await page.locator("article.card").first().innerText(), /fox/);
    assert.match(await shown(page), /misses nothing|recall/);
    const alignment = page.locator("article.card").first().locator("details");
    await alignment.locator("summary").click();
    const rows = await alignment.getByRole("row").allInnerTexts();
    assert.equal(rows.length, 8, "seven words and the head");
    assert.ok(rows.some((r) => /^fox\s+fox\s+0\.\d\d/.test(r)), rows.join("|"));
    assert.ok(rows.some((r) => /^leaps\s+jumps/.test(r)), rows.join("|"));
    assert.ok((await page.locator("article.card").first().locator(".met").count()) > 1);
    await accessible(page, "neighbours");
    const again = await open(`${new URL(page.url()).hash}&k=3&path=corpus`);
    await heading(again, /^3 nearest passages/).waitFor();
    if (settings.screenshots) await page.screenshot({ path: `${settings.screenshots}/neighbours.png`, fullPage: true });
    const long = "The water of the river was cold in the early morning, and the men who had to cross it waited on the bank until the sun stood high enough to warm them a little.";
    await page.goto(`${base}/#novelty?text=${encodeURIComponent(long)}`);
    await page.locator("svg.chart").first().waitFor({ timeout: 60000 });
    assert.match(await shown(page), /r = \d\.\d{3}: (less|at least as) attributable/);
    await accessible(page, "novelty");
    if (settings.screenshots) await page.screenshot({ path: `${settings.screenshots}/novelty.png`, fullPage: true });
  },

  async "every tab, dark and on a phone"() {
    for (const options of [{ colorScheme: "dark" }, { viewport: { width: 360, height: 740 } }]) {
      const page = await open("", options);
      for (const tab of ["Trace", "Search", "Neighbours", "Novelty", "Contamination", "Index"]) {
        await page.getByRole("link", { name: tab, exact: true }).click();
        await page.waitForFunction((t) => document.querySelector("nav a[aria-current]")?.textContent === t, tab);
        if (tab === "Index") await page.getByText("Removed documents").waitFor();
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.equal(wide, 0, `${tab} scrolls sideways by ${wide} px`);
        await accessible(page, `${tab} ${JSON.stringify(options)}`);
      }
      await page.goto(`${base}/#trace?text=${encodeURIComponent(TEXT)}`);
      await page.locator(".hit").first().waitFor();
      await accessible(page, `trace ${JSON.stringify(options)}`);
      await page.locator(".hit[role=button]").first().click();
      await accessible(page, `trace, filtered ${JSON.stringify(options)}`);
      if (settings.screenshots) await page.screenshot({ path: `${settings.screenshots}/trace-${options.colorScheme ?? "phone"}.png` });
    }
  },

  async "the keyboard alone is enough"() {
    const page = await open();
    const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.getAttribute("aria-label") || document.activeElement.tagName);
    const tabTo = async (want, limit = 40) => {
      for (let i = 0; i < limit; i++) {
        await page.keyboard.press("Tab");
        if (want.test(await focused())) return;
      }
      assert.fail(`Tab does not reach ${want}`);
    };
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "Skip to content");
    await page.keyboard.press("Enter");
    await tabTo(/^TEXTAREA$/);
    await page.keyboard.insertText(TEXT);
    await tabTo(/^Trace$/);
    await page.keyboard.press("Enter");
    await page.locator(".hit").first().waitFor();
    await tabTo(/the quick brown fox/);
    await page.keyboard.press("Space");
    assert.equal(await page.locator(".hit[aria-pressed=true]").count(), 1);
    await tabTo(/^Open$/);
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").locator("mark").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.equal(await focused(), "Open", "focus comes back");
    // The other views: reached, filled and sent without a mouse.
    await page.goto(base);
    await tabTo(/^Search$/);
    await page.keyboard.press("Enter");
    await heading(page, "How often, and where?").waitFor();
    await tabTo(/^INPUT$/);
    await page.keyboard.type("quick brown");
    await page.keyboard.press("Enter");
    await heading(page, /3 occurrences/).waitFor();
    await page.goto(`${base}/#contamination`);
    await tabTo(/^One item, now$/);
    await page.keyboard.press("Enter");
    await tabTo(/^TEXTAREA$/);
    await page.keyboard.insertText("How many rolls reach the shop window of the baker?");
    await tabTo(/^Check$/);
    await page.keyboard.press("Space");
    await page.getByText("Nothing found").waitFor();
  },

  async "the first paint is small"() {
    const context = await browser.newContext();
    const page = await context.newPage();
    const bodies = [];
    page.on("response", (r) => bodies.push(r.body()));
    await page.goto(base, { waitUntil: "networkidle" });
    await page.waitForSelector("h1");
    const bytes = (await Promise.all(bodies)).reduce((n, b) => n + b.length, 0);
    assert.ok(bytes > 1000 && bytes < 200_000, `${bytes} bytes`);
    console.log(`first paint: ${bytes} bytes`);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  const before = faults.length;
  try {
    await check();
    assert.deepEqual(faults.slice(before), []);
    console.log(`ok: ${name}`);
  } catch (e) {
    failed += 1;
    console.log(`FAILED: ${name}\n${e.message}`);
  }
  for (const c of browser.contexts()) await c.close();
}
await browser.close();
process.exit(failed ? 1 : 0);
