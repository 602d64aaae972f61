// A browser that a test drives: a line of JSON each way.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { chromium } = createRequire(`${process.env.PACKAGES}/`)("playwright-core");
const PATIENCE = 30_000;
const context = await chromium.launchPersistentContext(process.env.PROFILE, {
  executablePath: process.env.CHROMIUM,
  headless: true,
  viewport: { width: 1280, height: 800 },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const page = context.pages()[0] ?? await context.newPage();
page.setDefaultTimeout(PATIENCE);
const problems = [], asked = new Set();
page.on("console", (message) => {
  if (["error", "warning"].includes(message.type())) problems.push(`${message.type()}: ${message.text()}`);
});
page.on("pageerror", (error) => problems.push(`exception: ${error}`));
page.on("dialog", (dialog) => {
  problems.push(`dialog: ${dialog.message()}`);
  dialog.dismiss();
});
context.on("request", (request) => {
  const { protocol, origin } = new URL(request.url());
  if (protocol !== "data:") asked.add(origin);
});

const orders = {
  open: (url) => page.goto(url),
  // Until it is true. The page's own policy lets nobody evaluate texts from within.
  until: async (script) => {
    const by = Date.now() + PATIENCE;
    while (!await page.evaluate(script)) {
      if (Date.now() > by) throw new Error(`in vain until ${script}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  },
  tell: (script) => page.evaluate(script),
  click: (selector) => page.click(selector),
  press: (key) => page.keyboard.press(key),
  type: (text) => page.keyboard.type(text),
  look: (scheme) => page.emulateMedia({ colorScheme: scheme }),
  shoot: (path) => page.screenshot({ path }),
  problems: () => problems.splice(0),
  asked: () => [...asked],
};
for await (const line of createInterface({ input: process.stdin })) {
  const [order, argument] = JSON.parse(line);
  let answer;
  try {
    const value = await orders[order](argument);
    answer = { value: ["tell", "problems", "asked"].includes(order) ? value ?? null : null };
  } catch (error) {
    answer = { error: `${error.message}\n${await page.evaluate("document.body.innerText").catch(() => "")}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await context.close();
