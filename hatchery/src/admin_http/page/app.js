// The live page: asks once a second what the pool is doing, and changes what has changed. Whatever an application says
// is text here, and never anything else.
"use strict";

const said = (name) => document.querySelector(`meta[name="hatchery-${name}"]`).content;
const token = said("token"), csrf = said("csrf"), mayAct = said("actions") === "true";
const by = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const LEVELS = ["debug", "info", "warn", "error"];
const EVENTS = 300;
const SURE = 4000;

// ── making and changing elements ──

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function say(element, text, kind) {
  if (element.textContent !== text) element.textContent = text;
  if (kind !== undefined && element.className !== kind) element.className = kind;
}

/// Children of `parent`, one for each item, in this order: those of known keys stay the elements that they are.
function keyed(parent, items, key, build, change) {
  const known = parent.known ??= new Map();
  const seen = new Set();
  let at = parent.firstChild;
  for (const item of items) {
    const name = key(item);
    if (seen.has(name)) continue;
    seen.add(name);
    let entry = known.get(name);
    if (!entry) known.set(name, entry = { element: build(item), shown: undefined });
    const now = JSON.stringify(item);
    if (entry.shown !== now) {
      change(entry.element, item);
      entry.shown = now;
    }
    if (entry.element === at) at = at.nextSibling; else parent.insertBefore(entry.element, at);
  }
  for (const [name, entry] of known) {
    if (!seen.has(name)) {
      entry.element.remove();
      known.delete(name);
    }
  }
}

// ── words ──

function bytes(count) {
  if (count === null || count === undefined) return "–";
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 1024]]) {
    if (count >= size) return `${(count / size).toFixed(count >= 100 * size ? 0 : 1)} ${unit}`;
  }
  return `${count} B`;
}

function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds % 86400 / 3600)} h`;
}

const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });

function exitWords(exit) {
  if (exit === null || exit === undefined) return "";
  const [[kind, value]] = typeof exit === "object" ? Object.entries(exit) : [[String(exit), ""]];
  return kind === "Signal" ? `killed by signal ${value}` : `${kind.toLowerCase()} ${value}`;
}

// ── charts ──

function chart(svg, values, samples, label) {
  const shown = values.map((value) => value ?? 0);
  const key = `${label} ${shown.join()}`;
  if (svg.shown === key) return;
  svg.shown = key;
  const top = Math.max(...shown, 1e-9), first = samples - shown.length;
  const points = shown.map((value, index) =>
    `${((first + index) * 100 / (samples - 1)).toFixed(1)},${(29 - 27 * value / top).toFixed(1)}`);
  svg.firstChild.setAttribute("points", points.join(" "));
  svg.setAttribute("aria-label", label);
}

function newChart(width, height, kind) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("class", kind);
  if (width) svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  svg.append(document.createElementNS(SVG, "polyline"));
  return svg;
}

const last = (values) => values.length ? values[values.length - 1] : null;

// ── what is known ──

let status = null, history = { samples: 60, step_s: 5, apps: [] }, series = new Map();
let showIdle = false, opened = null, sessions = [], lines = [], fetching = false;

const isIdle = (app) => !app.workers.length && !app.waiting && !app.failure && !app.preloaders.length
  && (app.state === "idle" || app.state === "running");

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(`api/${path}`, { ...options, headers, cache: "no-store" });
  const read = await answer.json();
  if (!read.ok) throw new Error(read.error ?? `status ${answer.status}`);
  return read;
}

// ── actions ──

function tell(text, kind) {
  const done = by("done");
  done.hidden = false;
  say(done, text, kind);
}

async function act(words, what) {
  tell(`${what} …`, "");
  try {
    const headers = { "Content-Type": "application/json", "X-Hatchery-CSRF": csrf };
    await ask("do", { method: "POST", headers, body: JSON.stringify(words) });
    tell(`${what}: done`, "up");
  } catch (error) {
    tell(`${what}: ${error.message}`, "error");
  }
}

/// A button that does it at once, or asks whether it is meant.
function button(label, what, words, sure) {
  const element = make("button", { type: "button" }, label);
  let until = 0;
  element.addEventListener("click", (event) => {
    event.stopPropagation();
    if (sure && Date.now() > until) {
      until = Date.now() + SURE;
      say(element, "Sure?", "sure");
      setTimeout(() => say(element, label, ""), SURE);
      return;
    }
    until = 0;
    say(element, label, "");
    act(words(), what);
  });
  return element;
}

// ── the whole pool ──

const wholeCharts = [
  ["Requests/s", "requests_per_s", "", (values) => values.reduce((sum, value) => sum + (value ?? 0), 0),
    (value) => (value ?? 0).toFixed(1)],
  ["Slowest app's latency (95 %)", "p95_s", "", (values) => Math.max(0, ...values.map((value) => value ?? 0)), time],
  ["Waiting", "waiting", "wait", (values) => values.reduce((sum, value) => sum + (value ?? 0), 0), (value) => `${value ?? 0}`],
].map(([title, key, kind, fold, words]) => {
  const svg = newChart(null, 56, kind), value = make("b", {}, "–");
  by("charts").append(make("figure", {}, make("figcaption", {}, make("span", {}, title), value), svg));
  return { title, key, fold, words, svg, value };
});

function showWhole() {
  const { samples, apps } = history;
  for (const { title, key, fold, words, svg, value } of wholeCharts) {
    const length = Math.max(1, ...apps.map((app) => app[key].length));
    const values = Array.from({ length }, (_, index) =>
      fold(apps.map((app) => app[key][index - (length - app[key].length)])));
    chart(svg, values, samples, `${title}: now ${words(last(values))}, at most ${words(Math.max(...values))}`);
    say(value, words(last(values)));
  }
}

function showFigures() {
  const figures = [["workers", `${status.count} of ${status.max}`], ["busy", status.active], ["waiting", status.waiting],
    ["applications", status.apps.length], ["up for", time(status.uptime_s)]];
  keyed(by("figures"), figures, ([name]) => name,
    ([name]) => make("div", {}, make("dt", {}, name), make("dd")),
    (element, [, value]) => say(element.lastChild, `${value}`));
}

// ── the table of applications ──

function newRow(app) {
  const open = make("button", { type: "button", tabIndex: -1 }), root = make("span", { className: "root" });
  const row = make("tr", { className: "new" }, make("th", { scope: "row" }, open, root),
    ...["", "", "n", "", "", "n", "n"].map((kind) => make("td", { className: kind })));
  const cells = [...row.cells];
  row.parts = { open, root, state: make("span"), workers: cells[2], waiting: cells[3], rate: make("span"),
    latency: make("span"), rates: newChart(90, 24, ""), latencies: newChart(90, 24, ""), memory: cells[6], served: cells[7] };
  cells[1].append(row.parts.state, make("span", { className: "root" }));
  cells[4].append(row.parts.rates, row.parts.rate);
  cells[5].append(row.parts.latencies, row.parts.latency);
  row.addEventListener("click", () => openApp(app.root));
  open.addEventListener("focus", () => rove(open));
  return row;
}

function workerWords(workers) {
  const counts = new Map();
  for (const { state } of workers) counts.set(state, (counts.get(state) ?? 0) + 1);
  return counts;
}

function changeRow(row, { app, open }) {
  const { parts } = row;
  say(parts.open, app.name);
  parts.open.setAttribute("aria-expanded", open);
  row.classList.toggle("open", open);
  say(parts.root, app.tenant ? `${app.root} · ${app.tenant}` : app.root);
  say(parts.state, app.failure && app.state !== "disabled" ? `${app.state}, failed start` : app.state,
    `state ${app.failure ? "failed" : app.state}`);
  const why = app.restart?.state === "rolling" ? "restarting"
    : app.restart?.state === "failed" ? "restart failed" : app.limit && app.waiting ? app.limit : "";
  say(parts.state.nextSibling, why);
  keyed(parts.workers, [...workerWords(app.workers)], ([state]) => state, () => make("span"),
    (element, [state, count]) => say(element, `${count} ${state} `, `state ${state}`));
  say(parts.waiting, app.waiting ? `${app.waiting} (oldest ${time(app.oldest_wait_s)})` : "0");
  say(parts.memory, bytes(app.memory_bytes));
  say(parts.served, `${app.served}`);
}

function showApps() {
  const wanted = by("filter").value.trim().toLowerCase();
  const fits = (app) => !wanted || [app.name, app.root, app.state, app.tenant ?? ""].some((text) =>
    text.toLowerCase().includes(wanted));
  const idle = status.apps.filter(isIdle).length;
  const shown = status.apps.filter((app) => fits(app) && (showIdle || wanted || app.root === opened || !isIdle(app)));
  keyed(by("rows"), shown.map((app) => ({ app: rounded(app), open: app.root === opened })), ({ app }) => app.root,
    ({ app }) => newRow(app), changeRow);
  by("none").hidden = shown.length > 0;
  const toggle = by("idle");
  toggle.hidden = idle === 0;
  say(toggle, `${showIdle ? "hide" : "show"} idle (${idle})`);
  toggle.setAttribute("aria-pressed", showIdle);
  // One of them can be reached by Tab, the others from there by arrows.
  const buttons = [...by("rows").querySelectorAll("button")];
  if (buttons.length && !buttons.some((button) => button.tabIndex === 0)) buttons[0].tabIndex = 0;
}

/// What a row shows of an app: what it doesn't show may change without it.
function rounded(app) {
  const { name, root, tenant, state, limit, restart, waiting, oldest_wait_s, served, memory_bytes, failure, workers } = app;
  return { name, root, tenant, state, limit, restart: restart && { state: restart.state }, waiting,
    oldest_wait_s: oldest_wait_s && Math.floor(oldest_wait_s), served, memory_bytes, failure: Boolean(failure),
    workers: workers.map(({ state }) => ({ state })) };
}

function showSeries() {
  for (const row of by("rows").children) {
    const own = series.get(row.parts.open.textContent), { parts } = row;
    const rates = own?.requests_per_s ?? [], latencies = own?.p95_s ?? [];
    const rate = (last(rates) ?? 0).toFixed(1), latency = time(last(latencies));
    chart(parts.rates, rates, history.samples, `requests per second: now ${rate}`);
    chart(parts.latencies, latencies, history.samples, `latency of 95 %: now ${latency}`);
    say(parts.rate, rate);
    say(parts.latency, latency);
  }
}

function rove(button) {
  for (const other of by("rows").querySelectorAll("button[tabindex='0']")) other.tabIndex = -1;
  button.tabIndex = 0;
}

by("rows").addEventListener("keydown", (event) => {
  const row = event.target.closest("tr");
  const next = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling,
    Home: by("rows").firstElementChild, End: by("rows").lastElementChild }[event.key];
  if (next) {
    event.preventDefault();
    next.parts.open.focus();
  }
});

// ── one application ──

let detail = null;

function openApp(root) {
  if (opened === root) return closeApp();
  opened = root;
  sessions = [];
  lines = [];
  detail = null;
  by("detail").replaceChildren();
  refresh();
  showStatus();
  by("detail").querySelector("h2")?.focus();
}

function closeApp() {
  const root = opened;
  opened = detail = null;
  by("detail").hidden = true;
  by("detail").replaceChildren();
  showStatus();
  const row = [...by("rows").children].find((row) => row.parts.root.textContent.startsWith(root));
  row?.parts.open.focus();
}

function list(title, columns, empty) {
  const body = make("tbody"), none = make("p", { className: "soft" }, empty);
  const heads = columns.map((column) => make("th", { scope: "col" }, column));
  const table = make("table", { "aria-label": title }, make("thead", {}, make("tr", {}, ...heads)), body);
  const part = make("div", {}, make("h3", {}, title), make("div", { className: "scroll" }, table), none);
  return { part, body, show(items, key, build, change) {
    none.hidden = items.length > 0;
    table.hidden = items.length === 0;
    keyed(body, items, key, build, change);
  } };
}

function newDetail(app) {
  const title = make("h2", { id: "detail-title", tabIndex: -1 }, app.name);
  const close = make("button", { type: "button" }, "Close (Esc)");
  close.addEventListener("click", closeApp);
  const buttons = make("span", { className: "tools" });
  const root = app.root;
  if (mayAct) {
    buttons.append(
      button("Restart", `restart of ${app.name}`, () => ({ do: "restart", root, mode: "graceful" })),
      button("Restart now", `restart of ${app.name}`, () => ({ do: "restart", root, mode: "kill" }), true),
      button("Stop", `stop of ${app.name}`, () => ({ do: "stop", root }), true),
      button("Start", `start of ${app.name}`, () => ({ do: "start", root })),
      button("Disable", `disabling ${app.name}`, () => ({ do: "disable", root, why: "by hand, on the live page" }), true),
      button("Enable", `enabling ${app.name}`, () => ({ do: "enable", root })));
  }
  const state = make("p"), failure = make("div");
  const act = mayAct ? ["Act"] : [];
  const sessionList = list("Sessions, the oldest first", ["Session", "Doing", "Age", "Worker", "Process", "Client", ...act],
    "No session is open.");
  const workers = list("Workers",
    ["Worker", "Process", "State", "Sessions", "Served", "Memory", "Age", "Generation", ...act], "No worker runs.");
  const output = make("pre", { tabIndex: 0, "aria-label": "The last lines of its output" });
  by("detail").replaceChildren(make("div", { className: "head" }, title, buttons, close), state, failure,
    sessionList.part, workers.part, make("h3", {}, "The last lines of its output"), output);
  return { root, title, state, failure, sessionList, workers, output };
}

function cells(count, actions) {
  return make("tr", {}, ...Array.from({ length: count }, () => make("td")), ...actions.map((one) => make("td", {}, one)));
}

function showDetail() {
  const app = status.apps.find((app) => app.root === opened);
  by("detail").hidden = !app;
  if (!app) {
    if (opened !== null) opened = detail = null;
    return;
  }
  if (detail?.root !== app.root) detail = newDetail(app);
  say(detail.title, app.name);
  const words = [app.root, app.state, app.tenant && `tenant ${app.tenant}`, `generation ${app.generation}`,
    `${app.waiting} waiting`, app.limit && `kept from growing by ${app.limit}`,
    app.disabled && `disabled: ${app.disabled.why}`, app.restart && `restart ${app.restart.state}`];
  say(detail.state, words.filter(Boolean).join(" · "));
  showFailure(detail.failure, app.failure);
  detail.workers.show(app.workers.map(({ open, doing, idle_s, ...worker }) => ({ ...worker, uptime_s: Math.floor(worker.uptime_s) })),
    (worker) => worker.id,
    (worker) => cells(8, mayAct ? [button("Retire", `retiring worker ${worker.id}`, () => ({ do: "retire", worker: worker.id }))] : []),
    (row, worker) => {
      const texts = [worker.id, worker.pid || "–", worker.state, worker.sessions, worker.served, bytes(worker.memory_bytes),
        time(worker.uptime_s), worker.generation];
      texts.forEach((text, index) => say(row.cells[index], `${text}`));
      row.cells[2].className = `state ${worker.state}`;
    });
  detail.sessionList.show(sessionsOf(app).map((session) => ({ ...session, age_s: Math.floor(session.age_s) })), (session) => session.id,
    (session) => cells(6, mayAct ? [button("End", `end of session ${session.id}`, () => ({ do: "end", session: session.id }), true)] : []),
    (row, session) => {
      const doing = (session.doing ?? "not said") + (session.abandoned ? " (its client has left)" : "");
      const texts = [session.id, doing, time(session.age_s), session.worker, session.pid, session.client_pid ?? "–"];
      texts.forEach((text, index) => say(row.cells[index], `${text}`));
      row.cells[1].className = "doing";
    });
  say(detail.output, lines.length ? lines.map((line) => `${clock(line.at)} ${line.pid} ${line.stream}: ${line.line}`).join("\n")
    : "Nothing yet.");
}

/// From the list of sessions, and at once from the status, which knows less of them.
function sessionsOf(app) {
  const known = sessions.filter((session) => session.root === app.root);
  const ids = new Set(known.map((session) => session.id));
  const further = app.workers.flatMap((worker) => (worker.open ?? []).filter((session) => !ids.has(session.id)).map((session) =>
    ({ ...session, worker: worker.id, pid: worker.pid, client_pid: null, abandoned: false })));
  const open = new Set(app.workers.flatMap((worker) => (worker.open ?? []).map((session) => session.id)));
  return [...known.filter((session) => session.abandoned || open.has(session.id)), ...further].sort((a, b) => b.age_s - a.age_s);
}

function showFailure(parent, failure) {
  keyed(parent, failure ? [failure] : [], (failure) => failure.at,
    () => make("div", {}, make("h3", { className: "error" }), make("p"), make("pre", { tabIndex: 0 })),
    (element, failure) => {
      const [title, remedy, report] = element.children;
      say(title, `Failed start at ${clock(failure.at)}: ${failure.problem}`);
      say(remedy, failure.remedy);
      say(report, failure.report);
    });
}

// ── failures, tenants, records ──

function showFailures() {
  const failed = status.apps.filter((app) => app.failure).map(({ name, root, failure }) => ({ name, root, failure }));
  by("attention").hidden = failed.length === 0;
  keyed(by("failures"), failed, ({ root }) => root,
    () => make("details", {}, make("summary", { className: "error" }), make("p"), make("pre", { tabIndex: 0 })),
    (element, { name, failure }) => {
      const [title, remedy, report] = element.children;
      say(title, `${clock(failure.at)} ${name}: ${failure.problem}`);
      say(remedy, failure.remedy);
      say(report, failure.report);
    });
}

function showTenants() {
  by("tenants").hidden = status.tenants.length === 0;
  keyed(by("tenant-rows"), status.tenants, (tenant) => tenant.name,
    () => make("tr", {}, make("th", { scope: "row" }), ...Array.from({ length: 6 }, () => make("td", { className: "n" }))),
    (row, tenant) => {
      const of = (value, limit) => limit ? `${value} of ${limit}` : `${value}`;
      const texts = [tenant.name, tenant.apps, of(tenant.count, tenant.max), tenant.active, tenant.waiting,
        of(bytes(tenant.memory_bytes), tenant.max_memory && bytes(tenant.max_memory)), tenant.served];
      texts.forEach((text, index) => say(row.cells[index], `${text}`));
    });
}

function showRecords() {
  by("records").hidden = status.post_mortems.length === 0;
  keyed(by("record-list"), status.post_mortems.slice(0, 50), (record) => `${record.root} ${record.worker} ${record.at}`,
    () => make("details", {}, make("summary"), make("p"), make("p", { className: "doing" }), make("pre", { tabIndex: 0 })),
    (element, record) => {
      const [title, facts, doing, output] = element.children;
      say(title, `${clock(record.at)} ${record.app}, worker ${record.worker}, process ${record.pid}: ${record.why}`);
      const words = [exitWords(record.exit), record.out_of_memory && "out of memory", `age ${time(record.age_s)}`,
        `${record.served} sessions served`, record.memory_bytes && bytes(record.memory_bytes), record.state && `state ${record.state}`,
        record.kernel_stack && `in the kernel: ${record.kernel_stack}`];
      say(facts, words.filter(Boolean).join(" · "));
      say(doing, record.sessions.map((session) => `${session.doing ?? "a session"}, for ${time(session.age_s)}`).join("; "));
      say(output, record.output || "It printed nothing.");
    });
}

// ── asking ──

function showStatus() {
  if (!status) return;
  showFigures();
  showApps();
  showDetail();
  showFailures();
  showTenants();
  showRecords();
  showSeries();
}

function link(text, kind) {
  say(by("link"), text, `state ${kind}`);
}

async function more() {
  const app = status?.apps.find((app) => app.root === opened);
  if (!app) return;
  const word = encodeURIComponent(app.name);
  const [some, printed] = await Promise.allSettled([ask(`sessions?app=${word}`), ask(`logs?app=${word}&n=100`)]);
  if (opened !== app.root) return;
  sessions = some.value?.sessions ?? [];
  lines = printed.value?.lines ?? [];
}

async function refresh() {
  if (fetching) return;
  fetching = true;
  const begun = performance.now();
  try {
    status = await ask("status");
    await more();
    showStatus();
    link("live", "up");
  } catch (error) {
    link(`not live: ${error.message}`, "down");
  }
  fetching = false;
  return performance.now() - begun;
}

// Slow answers, and a page that nobody sees, are asked for less often.
async function poll() {
  const took = await refresh() ?? 0;
  setTimeout(poll, Math.max(1000, took * 3) * (document.hidden ? 10 : 1));
}

async function pollHistory() {
  try {
    history = await ask("history");
    series = new Map(history.apps.map((app) => [app.name, app]));
    showWhole();
    if (status) showSeries();
  } catch (error) {
    console.debug("no history", error.message);
  }
  setTimeout(pollHistory, history.step_s * 1000 * (document.hidden ? 6 : 1));
}

// ── events ──

function fitsEvent(item) {
  const wanted = by("event-filter").value.trim().toLowerCase();
  return item.level >= Number(by("event-level").value) && (!wanted || item.textContent.toLowerCase().includes(wanted));
}

function addEvent(event) {
  const events = by("events");
  const atEnd = events.scrollTop + events.clientHeight >= events.scrollHeight - 30;
  const words = [event.app, event.worker !== null && event.worker !== undefined && `worker ${event.worker}`, event.reason];
  const item = make("li", { className: event.level }, make("span", {}, clock(event.at)), make("span", {}, event.level),
    make("span", {}, event.event), make("span", {}, `${words.filter(Boolean).join(", ")}${words.some(Boolean) ? ": " : ""}${event.text}`));
  item.level = LEVELS.indexOf(event.level);
  item.hidden = !fitsEvent(item);
  events.append(item);
  while (events.childElementCount > EVENTS) events.firstElementChild.remove();
  if (atEnd) events.scrollTop = events.scrollHeight;
}

async function follow(pause = 1000, first = true) {
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(`api/events/stream?n=${first ? 100 : 0}`, { headers, cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    first = false;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      pause = 1000;
      const whole = (rest + piece.value).split("\n");
      rest = whole.pop();
      for (const line of whole) if (line) addEvent(JSON.parse(line));
    }
  } catch (error) {
    console.debug("events", error.message);
  }
  setTimeout(() => follow(Math.min(pause * 2, 30000), first), pause);
}

// ── the keyboard, and the beginning ──

document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    by("filter").focus();
  } else if (event.key === "Escape") {
    if (typing && event.target.value && event.target.type === "search") {
      event.target.value = "";
      event.target.dispatchEvent(new Event("input", { bubbles: true }));
    } else if (opened !== null) {
      closeApp();
    }
  }
});

by("filter").addEventListener("input", showStatus);
by("idle").addEventListener("click", () => {
  showIdle = !showIdle;
  showStatus();
});
for (const id of ["event-filter", "event-level"]) {
  by(id).addEventListener("input", () => {
    for (const item of by("events").children) item.hidden = !fitsEvent(item);
  });
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
if (mayAct) {
  by("whole").hidden = false;
  by("whole").append(button("Replace all workers", "replacing all workers", () => ({ do: "clear" }), true));
}
poll();
pollHistory();
follow();
