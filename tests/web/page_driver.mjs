// Chromium for tests in another language: one JSON command a line on stdin, one JSON answer a line on stdout.
//
//   {"call": "open", "args": [url, {options of browser.newContext}, script that runs first]}  -> number of the page
//   {"page": 1, "call": "click", "args": ["#filter"]}      any method of playwright's Page
//   {"page": 1, "call": "waitFor", "args": ["1 + 1"]}      waits until an expression is true; its value
//   {"page": 1, "call": "errors"}                          what went wrong on the page, in words
//   {"page": 1, "call": "close"}

import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Longer than any test has to wait on a slow machine. */
const PATIENCE_MS = 60_000;

const browser = await chromium.launch({ executablePath: process.argv[2], args: FLAGS });
const pages = [];

async function open(url, options = {}, script = "") {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(error.stack ?? String(error)));
  page.on("console", (message) => {
    // A refused request is an answer like any other; the page has to cope with it.
    const isRequest = /^Failed to load resource|^WebSocket connection to/.test(message.text());
    if (message.type() === "error" && !isRequest) page.errors.push(message.text());
  });
  await page.addInitScript(script);
  await page.goto(url);
  return pages.push(page) - 1;
}

/** As page.waitForFunction, which makes a function of the text in the page: its Content-Security-Policy forbids. */
async function waitFor(page, expression) {
  let last = null;
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await setTimeout(40)) {
    try {
      if ((last = await page.evaluate(expression))) return last;
    } catch (error) {
      last = error;
    }
  }
  throw new Error(`never came true: ${expression}\nlast: ${last}\npage: ${page.errors.join("\n")}`);
}

async function answer({ page: number, call, args = [] }) {
  if (call === "open") return open(...args);
  const page = pages[number];
  if (call === "errors") return page.errors;
  if (call === "close") return page.context().close();
  return call === "waitFor" ? waitFor(page, ...args) : page[call](...args);
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply;
  try {
    reply = { result: (await answer(JSON.parse(line))) ?? null };
  } catch (error) {
    reply = { error: String(error.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
await browser.close();
