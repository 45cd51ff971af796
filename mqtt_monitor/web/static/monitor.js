"use strict";
import { Chart } from "./charts.js";
import { byId, bytes, clock, draw, duration, inOrder, keyed, make, moment, ms, number, rate, setAttribute, setText, several } from "./dom.js";

// ---------------------------------------------------------------- the fleet, kept up to date by the stream
// The server decides how much is kept and what is highlighted. The page decides only how much it shows and how often it asks.
const MAX_REQUESTS = Number(document.body.dataset.maxRequests), MAX_EVENTS = Number(document.body.dataset.maxEvents);
const QUIET_S = 15, RETRY_S = [1, 2, 4, 8];
const PAGE = 25, SHOWN_ALERTS = 8, SHOWN_REQUESTS = 10, SHOWN_EVENTS = 12, SHOWN_LINES = 6;
const HISTORY_EVERY_MS = 15_000, HOUR_S = 3600, STEP_S = 30;

let fleet = null;
const shown = { deployment: null, request: null, detail: null, alerts: SHOWN_ALERTS, events: SHOWN_EVENTS, page: 0 };

const requestKey = (request) => `${request.client} ${request.request} ${request.request ? "" : request.at_s}`;

function takeAll(document) {
  fleet = {
    ...document,
    devices: new Map(document.devices.map((device) => [device.name, device])),
    deployments: new Map(document.deployments.map((item) => [item.deployment, item])),
    requests: new Map(document.requests.map((request) => [requestKey(request), request])),
  };
}

function takeChange(change) {
  const { devices, deployments, requests, events } = fleet;
  for (const name of change.gone_devices) devices.delete(name);
  for (const name of change.gone_deployments) deployments.delete(name);
  for (const device of change.devices) devices.set(device.name, device);
  for (const item of change.deployments) deployments.set(item.deployment, item);
  for (const request of change.requests) requests.set(requestKey(request), request);
  for (const key of requests.keys()) {
    if (requests.size <= MAX_REQUESTS) break;
    requests.delete(key);
  }
  events.push(...change.events);
  events.splice(0, events.length - MAX_EVENTS);
  fleet = { ...fleet, ...change, alerts: change.alerts ?? fleet.alerts, devices, deployments, requests, events };
}

// ---------------------------------------------------------------- the connection to the server
let source = null, watchdog = 0, retries = 0, lostAt = null;

function connect() {
  source = new EventSource("/api/stream");
  source.addEventListener("fleet", (event) => arrived(() => takeAll(JSON.parse(event.data)), true));
  source.addEventListener("change", (event) => arrived(() => takeChange(JSON.parse(event.data)), false));
  source.addEventListener("error", lose);
  watch();
}

function watch() {
  clearTimeout(watchdog);
  watchdog = setTimeout(lose, QUIET_S * 1000);
}

function arrived(take, whole) {
  if (!whole && !fleet) return;
  take();
  watch();
  if (whole) {
    if (lostAt) announce("Connected again.");
    lostAt = null;
    retries = 0;
    refreshHistory();
  }
  schedule();
}

function lose() {
  source.close();
  clearTimeout(watchdog);
  lostAt ??= Date.now() / 1000;
  schedule();
  const wait_s = RETRY_S[Math.min(retries++, RETRY_S.length - 1)];
  setTimeout(async () => {
    // An EventSource does not tell the reason of an error. This request does: if the session has ended, the login page opens.
    const answer = await fetch("/api/history?figure=").catch(() => null);
    if (answer?.status === 401) location.assign("/login");
    else if (answer?.ok) connect();
    else lose();
  }, wait_s * 1000);
}

let frame = 0;
function schedule() {
  // The browser gives a hidden page no frames. The page is then drawn when it becomes visible.
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    showConnection();
    if (fleet) showFleet();
  });
}

// ---------------------------------------------------------------- words
const perSecond = (value) => (value == null ? "–" : `${rate(value)}/s`);
const inMs = (value) => (value == null ? "–" : `${ms(value)} ms`);

function announce(text) {
  setText(byId("announce"), text);
}

function showConnection() {
  const state = lostAt ? "lost" : !fleet ? "waiting" : fleet.broker.connected ? "live" : "broker-away";
  const words = { lost: "⚠ not connected", waiting: "connecting", live: fleet?.recorded ? "▶ a recording" : "● live", "broker-away": "⚠ broker unreachable" };
  const pill = byId("connection");
  setText(pill, words[state]);
  setAttribute(pill, "data-state", state);
  const lost = byId("lost");
  lost.hidden = !lostAt;
  if (lostAt) {
    const as = fleet ? ` All values are from ${clock(fleet.at_s)}.` : "";
    setText(lost, `⚠ The connection to the monitor is lost.${as} Reconnecting.`);
  } else setText(lost, "");
  document.body.classList.toggle("stale", state !== "live");
}

function showFleet() {
  const devices = [...fleet.devices.values()], deployments = [...fleet.deployments.values()];
  const online = devices.filter((device) => device.state === "online").length;
  const total = deployments.reduce((sum, item) => sum + (item.requests_per_s ?? 0), 0);
  setText(byId("broker"), fleet.broker.url);
  const facts = [
    ["Boards online", `${online} of ${devices.length}`],
    ["Deployments live", `${deployments.filter((item) => item.state === "live").length} of ${deployments.length}`],
    ["Results per second", deployments.length ? rate(total) : "–"],
    ["Alerts", number(fleet.alerts.length)],
    ["As of", clock(fleet.at_s)],
  ];
  keyed(byId("facts"), facts, ([name]) => name,
    ([name]) => make("div", {}, make("dt", {}, name), make("dd")),
    (element, [, value]) => setText(element.lastChild, value));
  showAlerts();
  chooseDeployment();
  const chosen = fleet.deployments.get(shown.deployment);
  showPipeline(chosen);
  showRequests();
  showPlan(chosen);
  showBoards();
  showEvents();
  showDetail();
}

// ---------------------------------------------------------------- alerts
let announced = null;

// Returns a text that identifies an alert. The numbers in the alert's sentence change, but these fields do not.
const aboutOf = (alert) => [alert.kind, alert.device, alert.deployment, alert.stage].join(" ");

function showAlerts() {
  const { alerts } = fleet;
  const counted = new Map();
  keyed(byId("alerts"), alerts.slice(0, shown.alerts).map((alert) => {
    const about = aboutOf(alert);
    counted.set(about, (counted.get(about) ?? 0) + 1);
    return { ...alert, key: `${about} ${counted.get(about)}` };
  }), (alert) => alert.key,
  (alert) => make("li", {}, make("b", { class: alert.severity }, alert.severity === "critical" ? "✖ critical" : "▲ warning"), make("span")),
  (element, alert) => setText(element.lastChild, alert.text));
  const more = byId("more-alerts");
  more.hidden = alerts.length <= SHOWN_ALERTS;
  setText(more, shown.alerts > SHOWN_ALERTS ? "Show fewer" : `Show all ${number(alerts.length)}`);
  const none = byId("no-alerts");
  none.hidden = alerts.length > 0;
  setText(none, "No alerts.");
  const keys = new Set(alerts.map(aboutOf));
  if (announced) {
    const fresh = alerts.filter((alert) => !announced.has(aboutOf(alert)));
    if (fresh.length === 1) announce(`Alert: ${fresh[0].text}`);
    else if (fresh.length) announce(`${fresh.length} alerts, the first: ${fresh[0].text}`);
  }
  announced = keys;
}

byId("more-alerts").addEventListener("click", () => {
  shown.alerts = shown.alerts > SHOWN_ALERTS ? SHOWN_ALERTS : Infinity;
  schedule();
});

// ---------------------------------------------------------------- the pipeline
function chooseDeployment() {
  const names = [...fleet.deployments.keys()].sort();
  if (!names.includes(shown.deployment)) {
    shown.deployment = names[0] ?? null;
    shown.request = null;
    refreshHistory();
  }
  const select = byId("deployment");
  byId("choice").hidden = names.length < 2;
  if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  }
  if (shown.deployment !== null) select.value = shown.deployment;
}

byId("deployment").addEventListener("change", (event) => {
  shown.deployment = event.target.value;
  shown.request = null;
  refreshHistory();
  schedule();
});

function boardState(name) {
  return fleet.devices.get(name)?.state ?? "unknown";
}
const stateMark = (state) => ({ online: "●", offline: "✖", unknown: "?" })[state] ?? "?";

function showPipeline(item) {
  const facts = byId("deployment-facts");
  if (!item) {
    setText(facts, "No deployments yet. Deploy a bundle with `edge-partition deploy BUILD`.");
    byId("pipeline").replaceChildren();
    return;
  }
  const state = { live: "● live", broken: "✖ broken: a stage has no board that serves it", unreadable: `✖ unreadable: ${item.problem}` }[item.state];
  setText(facts, `${item.deployment}: ${item.model}, ${state}, ${rate(item.requests_per_s)} results/s, generation ${item.generation ?? "unknown"}, wire ${item.wire}, quantization ${item.quantization}`);
  const parts = [];
  item.stages.forEach((stage, index) => {
    parts.push({ key: `in${index}`, from: index - 1, stage });
    parts.push({ key: `stage${index}`, stage, index });
  });
  const last = item.stages.at(-1);
  if (last) parts.push({ key: "out", from: last.index, stage: last, end: true });
  keyed(byId("pipeline"), parts, (part) => `${item.deployment} ${part.key}`,
    (part) => (part.from === undefined ? makeStage(item.deployment, part.index) : makeBoundary()),
    (element, part) => (part.from === undefined ? updateStage(element, part.stage) : updateBoundary(element, part)));
}

function makeStage(deployment, index) {
  return make("li", { class: "stage" },
    make("button", { type: "button", class: "link", onclick: () => openDetail({ deployment, index }) }, `Stage ${index}`),
    make("span", { class: "pace" }), make("ul", { class: "on", "aria-label": "Boards" }),
    make("dl", {}, ...["Inference", "Waiting", "Results", "Errors"].map((name) => make("div", {}, make("dt", {}, name), make("dd")))));
}

function updateStage(element, stage) {
  const [, mark, boards, figures] = element.children;
  setText(mark, stage.is_bottleneck ? "◆ bottleneck" : "");
  element.classList.toggle("bottleneck", stage.is_bottleneck);
  element.classList.toggle("down", !stage.can_serve);
  keyed(boards, stage.devices, (name) => name,
    (name) => make("li", {}, make("span"), make("button", { type: "button", class: "link", onclick: () => openDetail({ device: name }) }, name), make("small")),
    (row, name) => {
      const state = boardState(name);
      setAttribute(row, "data-state", state);
      setText(row.firstChild, `${stateMark(state)} `);
      setText(row.lastChild, ` ${state}`);
    });
  const texts = [inMs(stage.invoke_ms), inMs(stage.queue_ms), perSecond(stage.requests_per_s), perSecond(stage.errors_per_s)];
  texts.forEach((text, index) => setText(figures.children[index].lastChild, text));
  setAttribute(element, "data-rate", stage.requests_per_s);
}

function makeBoundary() {
  return make("li", { class: "boundary" }, make("small"), make("span", { class: "flow", "aria-hidden": "true" }), make("b"), make("small"));
}

function updateBoundary(element, part) {
  const boundary = part.end ? part.stage.output : part.stage.input;
  const from = part.from < 0 ? "client" : `stage ${part.from}`;
  const to = part.end ? "client" : `stage ${part.stage.index}`;
  // The rate at which the stage after the boundary receives. After the last stage, the rate at which this stage sends.
  const per = boundary.bytes_per_s;
  setText(element.children[0], `${from} to ${to}`);
  element.children[1].classList.toggle("flowing", per > 0);
  setText(element.children[2], per === null ? "– B/s" : `${bytes(per)}/s`);
  const wrong = [boundary.lost ? `${number(boundary.lost)} lost` : "", boundary.repeated ? `${number(boundary.repeated)} repeated` : ""].filter(Boolean);
  setText(element.children[3], [`${bytes(boundary.request_bytes)} each`, ...wrong].join(", "));
  setAttribute(element, "data-bytes-per-s", per);
}

// ---------------------------------------------------------------- requests
// Returns the parts of a request's time, in drawing order. If the client measured a latency, the parts add up to it.
function partsOf(request) {
  const parts = request.stages.flatMap((stage) => [
    { name: `Stage ${stage.stage} waiting`, where: stage.device, kind: "queue", ms: stage.queue_ms },
    { name: `Stage ${stage.stage} inference`, where: stage.device, kind: "invoke", ms: stage.invoke_ms },
  ]);
  if (request.latency_ms !== null) {
    parts.push({ name: "Client, network and broker", where: several(request.stages.length + 1, "hop"), kind: "wire", ms: Math.max(0, request.latency_ms - request.stages_ms) });
  }
  return parts;
}
const totalOf = (request) => request.latency_ms ?? request.stages_ms;

function bar(parts, longest) {
  return make("span", { class: "stack", "aria-hidden": "true" }, ...parts.map((part) => {
    const piece = make("i", { class: part.kind });
    piece.style.width = `${longest > 0 ? (100 * part.ms) / longest : 0}%`;
    return piece;
  }));
}

function showRequests() {
  const all = [...fleet.requests.values()].filter((request) => request.deployment === shown.deployment).reverse();
  byId("no-requests").hidden = all.length > 0;
  byId("requests-box").hidden = !all.length;
  const follow = byId("follow");
  follow.hidden = !all.length;
  setAttribute(follow, "aria-pressed", shown.request === null);
  if (!all.length) return;
  const recent = all.slice(0, SHOWN_REQUESTS);
  const chosen = fleet.requests.get(shown.request) ?? recent[0];
  const longest = Math.max(...recent.map(totalOf));
  keyed(byId("requests"), recent, requestKey,
    (request) => make("li", {}, make("button", { type: "button", onclick: () => { shown.request = requestKey(request); schedule(); } })),
    (element, request) => {
      const button = element.firstChild;
      const text = `${clock(request.at_s)} ${request.error ? `✖ ${request.error}` : `${request.latency_ms === null ? "≥ " : ""}${ms(totalOf(request))} ms`}`;
      const key = `${text} ${longest}`;
      if (button.dataset.shown !== key) {
        button.dataset.shown = key;
        button.replaceChildren(make("span", {}, text), bar(partsOf(request), longest));
      }
      setAttribute(button, "aria-pressed", request === chosen);
    });
  showWaterfall(chosen);
}

byId("follow").addEventListener("click", () => {
  const newest = [...fleet.requests.values()].findLast((request) => request.deployment === shown.deployment);
  shown.request = shown.request === null && newest ? requestKey(newest) : null;
  schedule();
});

let drawn = null;
function showWaterfall(request) {
  if (drawn === request) return;
  drawn = request;
  const table = byId("waterfall"), parts = partsOf(request), total = totalOf(request);
  const who = request.client ? ` of ${request.client}` : "";
  setText(byId("waterfall-title"), `Request ${request.request.slice(0, 16) || "without an id"}${who} at ${clock(request.at_s)}${request.error ? `: ${request.error}` : ""}`);
  let before = 0;
  table.tBodies[0].replaceChildren(...parts.map((part) => {
    const piece = make("i", { class: part.kind });
    piece.style.marginLeft = `${total > 0 ? (100 * before) / total : 0}%`;
    piece.style.width = `${total > 0 ? (100 * part.ms) / total : 0}%`;
    before += part.ms;
    return make("tr", { "data-kind": part.kind, "data-ms": part.ms }, make("th", { scope: "row", class: "left" }, part.name, make("small", {}, part.where)),
      make("td", {}, ms(part.ms)), make("td", { class: "bar" }, make("span", { class: "stack", "aria-hidden": "true" }, piece)));
  }));
  const name = request.latency_ms === null ? "On boards" : "Latency";
  table.tFoot.replaceChildren(make("tr", { "data-total-ms": total }, make("th", { scope: "row", class: "left" }, name), make("td", {}, ms(total)), make("td")));
  const note = request.reason ? `${request.reason} ` : "";
  setText(byId("waterfall-note"), note + (request.latency_ms === null
    ? "The client reported no latency, so the time in the network is unknown."
    : "The time that no board reports is time in the client, the network and the broker."));
}

// ---------------------------------------------------------------- plan and measurement
// The sign and the CSS class of each level that the server reports.
const LEVELS = { above: ["▲ ", "bad"], below: ["▼ ", "good"] };
function showDifference(cell, { difference, level }) {
  const [sign, style] = LEVELS[level] ?? ["", ""];
  setText(cell, difference === null ? "–" : `${sign}${difference >= 0 ? "+" : "−"}${number(100 * Math.abs(difference))} %`);
  cell.className = style;
}

function showPlan(item) {
  const headings = ["Stage", "Planned ms", "Measured ms", "Difference", "Planned memory", "Measured memory", "Difference"];
  keyed(byId("plan").tBodies[0], item?.stages ?? [], (stage) => `${item.deployment} ${stage.index}`,
    (stage) => make("tr", {}, make("th", { scope: "row", class: "left" }, `Stage ${stage.index}`, make("small", {}, stage.devices.join(", "))),
      ...headings.slice(1).map((name) => make("td", { "data-label": name }))),
    (row, stage) => {
      const cells = row.children;
      setText(cells[1], ms(stage.predicted_ms));
      setText(cells[2], ms(stage.time_plan.measured));
      showDifference(cells[3], stage.time_plan);
      setText(cells[4], stage.predicted_ram_bytes ? bytes(stage.predicted_ram_bytes) : "–");
      setText(cells[5], bytes(stage.rss_bytes) + (stage.shares_memory ? ", several stages" : ""));
      showDifference(cells[6], stage.memory_plan);
    });
}

// ---------------------------------------------------------------- boards
// The tensor bytes per second that each board receives and sends, over its stages in all deployments, by the board's name.
let traffic = new Map();
function countTraffic() {
  traffic = new Map();
  for (const { stages } of fleet.deployments.values()) {
    for (const stage of stages) {
      for (const { device, in_bytes_per_s: into, out_bytes_per_s: out } of stage.boards) {
        if (into === null) continue;
        const sums = traffic.get(device) ?? { into: 0, out: 0 };
        traffic.set(device, { into: sums.into + into, out: sums.out + out });
      }
    }
  }
}

function linkWords(device) {
  const sums = traffic.get(device.name), link = device.fresh ? device.load?.link : null;
  const words = sums ? [`${bytes(sums.into)}/s in, ${bytes(sums.out)}/s out`] : [];
  if (link?.speed_mbit_s) words.push(`${number(link.speed_mbit_s)} Mbit/s`);
  if (link?.signal_dbm) words.push(`${number(link.signal_dbm)} dBm`);
  return words.join(", ") || "–";
}

const ORDERS = {
  link: (device) => { const sums = traffic.get(device.name); return sums ? sums.into + sums.out : null; },
  cpu: (device) => (device.fresh ? device.load?.cpu_percent : null),
  temperature: (device) => (device.fresh ? device.load?.temperature_c : null),
  memory: (device) => (device.fresh ? device.limit_share ?? device.load?.rss_bytes : null),
  waiting: (device) => (device.fresh ? device.load?.queue_length : null),
};

function chosenBoards() {
  const word = byId("boards-search").value.trim().toLowerCase();
  const filter = byId("boards-filter").value, order = ORDERS[byId("boards-sort").value];
  const alerted = filter === "alerts" ? new Set(fleet.alerts.map((alert) => alert.device)) : null;
  const boards = [...fleet.devices.values()].filter((device) => device.name.toLowerCase().includes(word)
    && (filter === "all" || (alerted ? alerted.has(device.name) : device.state === filter)));
  boards.sort((one, other) => inOrder(one.name, other.name));
  if (order) boards.sort((one, other) => (order(other) ?? -1) - (order(one) ?? -1));
  return boards;
}

function showBoards() {
  countTraffic();
  const boards = chosenBoards();
  const pages = Math.max(1, Math.ceil(boards.length / PAGE));
  // A quick second click may arrive before the button is drawn disabled.
  shown.page = Math.max(0, Math.min(shown.page, pages - 1));
  const first = shown.page * PAGE;
  keyed(byId("boards").tBodies[0], boards.slice(first, first + PAGE), (device) => device.name, makeBoard, updateBoard);
  setText(byId("boards-page"), boards.length ? `${first + 1} to ${Math.min(first + PAGE, boards.length)} of ${boards.length}` : "No boards");
  byId("boards-previous").disabled = shown.page === 0;
  byId("boards-next").disabled = shown.page === pages - 1;
}

function makeBoard(device) {
  const open = make("button", { type: "button", class: "link", onclick: () => openDetail({ device: device.name }) }, device.name);
  const meter = make("span", { class: "meter", "aria-hidden": "true" }, make("i"));
  return make("tr", { "data-board": device.name }, make("th", { scope: "row", class: "left" }, open), make("td", { class: "left", "data-label": "State" }),
    make("td", { "data-label": "CPU" }), make("td", { "data-label": "Temperature" }),
    make("td", { class: "left", "data-label": "Memory" }, meter, make("span")), make("td", { "data-label": "Waiting" }), make("td", { class: "left", "data-label": "Link" }), make("td", { class: "left serves", "data-label": "Serves" }));
}

function updateBoard(row, device) {
  const [, state, cpu, heat, memory, waiting, link, serves] = row.children;
  const load = device.fresh ? device.load : null;
  setText(state, `${stateMark(device.state)} ${device.state}`);
  setAttribute(row, "data-state", device.state);
  setText(cpu, load?.cpu_percent == null ? "–" : `${number(load.cpu_percent)} %`);
  setText(heat, load?.temperature_c == null ? "–" : `${load.throttled ? "▲ " : ""}${number(load.temperature_c)} °C${load.throttled ? ", throttled" : ""}`);
  heat.classList.toggle("bad", Boolean(load?.throttled));
  const { limit_share: share, near_limit: full } = device;
  const [meter, text] = memory.children;
  meter.hidden = share === null;
  meter.firstChild.style.width = `${Math.min(100, 100 * (share ?? 0))}%`;
  meter.classList.toggle("full", full);
  const used = bytes(load?.rss_bytes);
  setText(text, share === null ? used : `${full ? "▲ " : ""}${used} of ${bytes(device.profile.ram_limit_bytes)}`);
  setText(waiting, number(load?.queue_length));
  setText(link, linkWords(device));
  setText(serves, device.serves.map((item) => `${item.deployment}[${item.stage}]`).join(", ") || "–");
}

byId("boards-form").addEventListener("submit", (event) => event.preventDefault());
for (const [id, kind] of [["boards-search", "input"], ["boards-filter", "change"], ["boards-sort", "change"]]) {
  byId(id).addEventListener(kind, () => { shown.page = 0; schedule(); });
}
byId("boards-previous").addEventListener("click", () => { shown.page--; schedule(); });
byId("boards-next").addEventListener("click", () => { shown.page++; schedule(); });

// ---------------------------------------------------------------- events
const GOOD = new Set(["online", "broker-back"]);
const CHANGE = new Set(["restarted", "deployed", "redeployed", "undeployed"]);
const MARKS = { good: "●", change: "◆", bad: "✖" };
const weight = (event) => (GOOD.has(event.kind) ? "good" : CHANGE.has(event.kind) ? "change" : "bad");

let lined = "", timelineWidth = 0;
// The width is observed and not read, because reading a size between changes makes the browser lay out the page twice.
new ResizeObserver(([entry]) => { timelineWidth = Math.floor(entry.contentRect.width); schedule(); }).observe(byId("timeline"));

function showEvents() {
  const { events } = fleet;
  byId("no-events").hidden = events.length > 0;
  keyed(byId("events"), events.slice(-shown.events).reverse(), (event) => event.number,
    (event) => make("li", { "data-kind": event.kind }, make("time", { datetime: new Date(event.at_s * 1000).toISOString() }, moment(event.at_s, fleet.at_s)),
      make("b", { class: weight(event) }, `${MARKS[weight(event)]} ${event.kind}`), make("span", {}, event.text)), () => {});
  byId("more-events").hidden = events.length <= shown.events;
  const line = byId("timeline"), width = timelineWidth;
  const state = `${width} ${Math.floor(fleet.at_s / 10)} ${events.at(-1)?.number}`;
  line.hidden = !events.length;
  if (state === lined || width < 100) return;
  lined = state;
  const x = (time) => 8 + (1 - (fleet.at_s - time) / HOUR_S) * (width - 16);
  const marks = events.filter((event) => fleet.at_s - event.at_s < HOUR_S)
    .map((event) => draw("text", { class: weight(event), x: x(event.at_s), y: 20, "text-anchor": "middle" }, MARKS[weight(event)]));
  const times = [60, 45, 30, 15, 0].map((minutes) => draw("text", { class: "axis", x: x(fleet.at_s - minutes * 60), y: 42,
    "text-anchor": minutes === 60 ? "start" : minutes === 0 ? "end" : "middle" }, clock(fleet.at_s - minutes * 60, false)));
  line.replaceChildren(draw("svg", { viewBox: `0 0 ${width} 46`, height: 46 }, draw("line", { x1: 8, x2: width - 8, y1: 27, y2: 27 }), ...marks, ...times));
}

byId("more-events").addEventListener("click", () => { shown.events += 50; schedule(); });

// ---------------------------------------------------------------- history
const short = (value) => (value >= 1e6 ? `${number(value / 1e6)}M` : value >= 1e4 ? `${number(value / 1e3)}k` : number(value, value < 10 && value % 1 ? 1 : 0));
const mebi = (value) => number(value / 2 ** 20);
const stageCharts = (what) => ({ requests_per_s: new Chart(`${what} per second`, perSecond, short), invoke_ms: new Chart("Inference, ms", inMs, short), queue_ms: new Chart("Waiting, ms", inMs, short) });
const STAGE_CHARTS = stageCharts("Results");
byId("charts").append(...Object.values(STAGE_CHARTS).map((chart) => chart.element));

async function ask(parameters) {
  const query = new URLSearchParams(Object.entries(parameters).flatMap(([key, value]) => [value].flat().map((item) => [key, item])));
  const answer = await fetch(`/api/history?${query}`).catch(() => null);
  return answer?.ok ? answer.json() : null;
}

async function fetchStages(charts, deployment, stages) {
  await Promise.all(Object.entries(charts).map(async ([figure, chart]) => {
    // The chart of results shows the last stage; the charts of times show the slowest stages.
    const wanted = figure === "requests_per_s" ? stages.slice(-1) : [...stages].sort((a, b) => (b.invoke_ms ?? 0) - (a.invoke_ms ?? 0)).slice(0, SHOWN_LINES).sort((a, b) => a.index - b.index);
    const found = await ask({ deployment, figure, step_s: STEP_S, stage: wanted.map((stage) => stage.index) });
    if (found) chart.update(found.series.map((points, index) => ({ name: figure === "requests_per_s" && stages.length > 1 ? "results" : `stage ${wanted[index].index}`, points })), found.at_s);
  }));
}

async function refreshHistory() {
  if (!fleet || document.hidden) return;
  const item = fleet.deployments.get(shown.deployment);
  byId("history-card").hidden = !item;
  if (item) await fetchStages(STAGE_CHARTS, item.deployment, item.stages);
  if (shown.detail) await shown.detail.refresh();
}
setInterval(refreshHistory, HISTORY_EVERY_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) { refreshHistory(); schedule(); } });

// ---------------------------------------------------------------- the details of a board or a stage
const dialog = byId("detail");

function openDetail(of) {
  const charts = of.device ? {
    cpu_percent: new Chart("CPU, % of one core", (value) => `${number(value)} %`, short), temperature_c: new Chart("Temperature, °C", (value) => `${number(value)} °C`, short),
    rss_bytes: new Chart("The agent's memory, MiB", bytes, mebi), queue_length: new Chart("Waiting requests", (value) => number(value, 1), short),
  } : { ...stageCharts("Requests"), errors_per_s: new Chart("Errors per second", perSecond, short) };
  byId("detail-charts").replaceChildren(...Object.values(charts).map((chart) => chart.element));
  const refreshCharts = of.device
    ? () => Promise.all(Object.entries(charts).map(async ([figure, chart]) => {
      const found = await ask({ device: of.device, figure, step_s: STEP_S });
      if (found) chart.update(found.series.map((points) => ({ name: of.device, points })), found.at_s);
    }))
    : () => fetchStages(charts, of.deployment, [{ index: of.index }]);
  const detail = { ...of, layers: null, generation: null };
  detail.refresh = async () => {
    await refreshCharts();
    if (!of.device) await fetchLayers(detail);
  };
  shown.detail = detail;
  byId("detail-body").replaceChildren();
  showDetail();
  if (!dialog.open) dialog.showModal();
  detail.refresh();
}

// The layers never change within a generation.
async function fetchLayers(detail) {
  const generation = fleet.deployments.get(detail.deployment)?.generation ?? null;
  if (detail.layers && detail.generation === generation) return;
  const answer = await fetch(`/api/layers?${new URLSearchParams({ deployment: detail.deployment, stage: detail.index })}`).catch(() => null);
  if (!answer?.ok) return;
  Object.assign(detail, { layers: await answer.json(), generation });
  schedule();
}
byId("detail-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => { shown.detail = null; byId("detail-charts").replaceChildren(); });

function showDetail() {
  const of = shown.detail;
  if (!of) return;
  const facts = of.device ? boardFacts(of.device) : stageFacts(of);
  setText(byId("detail-title"), of.device ? `Board ${of.device}` : `${of.deployment}, stage ${of.index}`);
  keyed(byId("detail-body"), facts.filter(Boolean), ([name]) => name,
    ([name]) => make("section", {}, make("h3", {}, name), make("dl"), make("ul")),
    (element, [, pairs, list]) => {
      keyed(element.children[1], pairs, ([label]) => label,
        ([label]) => make("div", {}, make("dt", {}, label), make("dd")), (pair, [, text]) => setText(pair.lastChild, text));
      element.children[2].hidden = !list?.length;
      keyed(element.children[2], list ?? [], (text) => text, (text) => make("li", {}, text), () => {});
    });
}

function boardFacts(name) {
  const device = fleet.devices.get(name);
  if (!device) return [["Removed", [["State", "this board is no longer in the fleet"]]]];
  const { profile, load } = device;
  const when = load ? moment(load.at_s, fleet.at_s) : "never";
  return [
    ["Now", [
      ["State", device.state + (device.since_s ? ` since ${moment(device.since_s, fleet.at_s)}` : "")],
      ["Last statistics", when],
      ["CPU", load?.cpu_percent == null ? "–" : `${number(load.cpu_percent)} % of one core`],
      ["Temperature", load?.temperature_c == null ? "not reported" : `${number(load.temperature_c, 1)} °C`],
      ["Throttled", load?.throttled == null ? "not reported" : load.throttled ? "yes, by heat or low voltage" : "no"],
      ["Agent's memory", `${bytes(load?.rss_bytes)} of ${profile?.ram_limit_bytes ? bytes(profile.ram_limit_bytes) : "no limit"}`],
      ["Free memory", bytes(load?.free_memory_bytes ?? profile?.free_memory_bytes)],
      ["Waiting requests", number(load?.queue_length)],
      ["Agent up for", duration(load?.uptime_s)],
      ["Clock offset", device.clock_offset_s === null ? "unknown" : `${device.clock_offset_s >= 0 ? "+" : "−"}${number(Math.abs(device.clock_offset_s), 2)} s`],
      ["Restarts seen", number(device.restarts)],
      ["Statistics missed", number(device.missed_stats)],
    ]],
    load?.link && ["Link to the broker, traffic of all programs", [
      ["Interface", load.link.interface],
      ["Speed", load.link.speed_mbit_s ? `${number(load.link.speed_mbit_s)} Mbit/s` : "not reported"],
      ["Wi-Fi signal", load.link.signal_dbm ? `${number(load.link.signal_dbm)} dBm` : "not reported"],
      ["In", load.link.in_bytes_per_s === null ? "–" : `${bytes(load.link.in_bytes_per_s)}/s`],
      ["Out", load.link.out_bytes_per_s === null ? "–" : `${bytes(load.link.out_bytes_per_s)}/s`],
    ]],
    profile && ["Hardware", [
      ["Processor", profile.cpu_model ?? "not reported"], ["Machine", profile.machine ?? "not reported"],
      ["Cores", number(profile.cores)], ["Threads used", number(profile.threads)],
      ["Memory", bytes(profile.total_memory_bytes)], ["Free storage", bytes(profile.free_storage_bytes)],
      ["Runtime", profile.runtime ?? "not reported"], ["Agent", profile.agent ?? "not reported"], ["System", profile.system ?? "not reported"],
    ]],
    ["Serves", [], device.serves.length ? device.serves.map((item) => `${item.deployment}, stage ${item.stage}, generation ${item.generation ?? "unknown"}`) : ["nothing"]],
    device.refusals.length && ["Refused", [], device.refusals.map((item) => `${moment(item.at_s, fleet.at_s)}: ${item.deployment}, generation ${item.generation ?? "unknown"}: ${item.reason} (${item.code})`)],
  ];
}

function stageFacts({ deployment, index, layers }) {
  const item = fleet.deployments.get(deployment), stage = item?.stages[index];
  if (!stage) return [["Removed", [["State", "this stage is no longer deployed"]]]];
  return [
    ["Now", [
      ["Planned", `${ms(stage.predicted_ms)} ms`], ["Inference", inMs(stage.invoke_ms)], ["Last minute", inMs(stage.invoke_minute_ms)],
      ["Waiting", inMs(stage.queue_ms)], ["Results", perSecond(stage.requests_per_s)], ["Errors", perSecond(stage.errors_per_s)], ["File", bytes(stage.size_bytes)],
    ]],
    ["Boards", [], stage.boards.map((board) => {
      const errors = Object.entries(board.errors_total);
      const counts = errors.map(([code, count]) => `${number(count)} ${code}`).join(", ");
      return `${board.device}: ${board.state}, ${number(board.requests_total)} requests, slowest ${inMs(board.invoke_max_ms)}, longest wait ${inMs(board.queue_max_ms)}${counts ? `, errors: ${counts}` : ""}`;
    })],
    ["Receives", [["Per request", bytes(stage.input.request_bytes)]], stage.input.tensors],
    ["Sends", [["Per request", bytes(stage.output.request_bytes)]], stage.output.tensors],
    layers?.layers.length && ["Layers", [], layers.more ? [...layers.layers, `and ${number(layers.more)} more`] : layers.layers],
  ];
}

connect();
