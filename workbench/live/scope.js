// Shows what the scope sees, as it comes. Whatever came over the wire is put into the page as text.
const PHASES = {
  connecting: "connecting: the system has him, the stage has not yet accepted him",
  asking: "asking: the stage waits for his request",
  waiting: "waiting for the answer",
  "being answered": "being answered",
  failed: "failed",
};
const THREADS = { serving: "a thread serves", assumed: "so assumed, until the log names the thread" };
const [CALLS, FRAME, CALM, SAY] = [200, 66, 1000, 3000]; // connections; ms between two pictures, or words
const GONE = "The scope cannot be reached. Is it running?";
const [STEPS, APART] = [[1, 2, 5, 10, 20, 30, 60], 80]; // seconds and pixels from one mark to the next
const ROOMY = 0.06; // of the picture, for a number
const LEAST = 0.1; // per cent of the picture: what is shorter is a stroke, or nothing
const ENDINGS = new Set(["answered", "failed", "serving", "assumed"]);
const byId = (id) => document.getElementById(id);
const [stages, range, hold, dialog, problem] = ["stages", "span", "hold", "bytes", "problem"].map(byId);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const panes = new Map(); // by the stage's place
let ahead = 0; // seconds that the scope's clock is ahead of the page's
let held = null; // the moment that the picture is held at
let shown = null; // the connection whose bytes are shown
let painted = -Infinity;
let said = -Infinity;

const clock = () => performance.now() / 1000 + ahead;
const cssName = (phase) => (phase === "being answered" ? "answered" : phase);
const seconds = (time) => (time < 0.1 ? `${(time * 1000).toFixed(0)} ms` : `${time.toFixed(1)} s`);

function make(name, parent, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  parent?.append(made);
  return made;
}

function draw(name, parent, attributes = {}) {
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) drawn.setAttribute(key, value);
  parent?.append(drawn);
  return drawn;
}

/** A row with a name, a picture and words. */
function row(kind, parent) {
  const made = make(kind, make("li", parent), { className: "row" });
  const [name, picture, words] = [make("span", made), draw("svg", made), make("span", made)];
  picture.setAttribute("aria-hidden", "true");
  return { made, name, picture, words, bars: [] };
}

/** Draw one bar after the other into a row: [class, from, until], in seconds. */
function paintBars(line, found, from, span) {
  while (line.bars.length > found.length) line.bars.pop().remove();
  while (line.bars.length < found.length) line.bars.push(draw("rect", line.picture, { y: "15%", height: "70%" }));
  const place = (time) => Math.min(Math.max((100 * (time - from)) / span, -2), 102);
  found.forEach(([kind, start, end], at) => {
    const bar = line.bars[at];
    bar.setAttribute("class", `bar ${kind}`);
    bar.setAttribute("x", `${place(start).toFixed(2)}%`);
    const width = place(end) - place(start);
    const least = ENDINGS.has(kind) ? LEAST : 0; // an answer that takes no time is still a stroke
    bar.setAttribute("width", `${(width < LEAST ? least : width).toFixed(2)}%`);
  });
}

/** Write into each spell of a thread whom it serves, where there is room. */
function paintNumbers(line, spells, from, span, now) {
  const roomy = spells
    .map(([number, start, end]) => [number, Math.max(start, from), Math.min(end ?? now, now)])
    .filter(([, start, end]) => (end - start) / span > ROOMY);
  line.numbers ??= [];
  while (line.numbers.length > roomy.length) line.numbers.pop().remove();
  while (line.numbers.length < roomy.length) line.numbers.push(draw("text", null, { y: "76%" }));
  line.picture.append(...line.numbers); // on top
  roomy.forEach(([number, start, end], at) => {
    line.numbers[at].setAttribute("x", `${((50 * (start + end - 2 * from)) / span).toFixed(2)}%`);
    setText(line.numbers[at], String(number));
  });
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// What comes

let source;

function listen() {
  source = new EventSource("events");
  source.onmessage = ({ data }) => {
    const news = JSON.parse(data);
    ahead = news.now - performance.now() / 1000;
    if (news.all) {
      panes.clear();
      stages.replaceChildren();
    }
    news.things.sort((a, b) => (b.kind === "stage") - (a.kind === "stage")).forEach(take);
    painted = -Infinity;
  };
  source.onopen = () => (problem.textContent = "");
  source.onerror = () => (problem.textContent = GONE);
}

/** A browser has few connections to spare: a page that nobody sees needs none. */
document.onvisibilitychange = () => {
  source.close();
  if (!document.hidden) listen();
};

function take(thing) {
  if (thing.kind === "stage") takeStage(thing);
  const pane = panes.get(thing.stage);
  if (thing.kind === "log") pane.log.textContent = thing.lines.join("\n");
  if (thing.kind === "lane") pane.lanes.set(thing.lane, thing);
  if (thing.kind === "call") {
    pane.calls.set(thing.number, thing);
    if (pane.calls.size > CALLS) pane.calls.delete(pane.calls.keys().next().value);
    if (shown?.pane === pane && shown.number === thing.number) showBytes(pane, thing.number);
  }
}

function takeStage(thing) {
  const pane = panes.get(thing.stage) ?? newPane(thing.stage);
  if (pane.run !== thing.run) {
    for (const line of [...pane.rows.values(), ...pane.laneRows.values()]) line.made.parentNode.remove();
    [pane.calls, pane.lanes, pane.rows, pane.laneRows].forEach((known) => known.clear());
  }
  Object.assign(pane, { run: thing.run, name: thing.name, running: thing.running, pool: thing.pool });
  pane.title.textContent = `${thing.name} ${thing.title}`;
  pane.section.setAttribute("aria-label", `${thing.name} ${thing.title}`);
  pane.place.textContent = pane.place.href = thing.url;
  pane.ended.hidden = thing.running;
  const [state, words, again] = pane.ended.children;
  state.textContent = thing.running ? "" : thing.state;
  words.textContent = thing.running ? "" : thing.why;
  again.disabled = false;
}

function newPane(stage) {
  const section = byId("pane").content.firstElementChild.cloneNode(true);
  const find = (selector) => section.querySelector(selector);
  const pane = {
    stage, section, title: find("h2"), place: find("a"), counts: find(".counts"), ended: find(".ended"),
    laneList: find(".lanes"), callList: find(".calls"), none: find(".none"), axis: find(".axis svg"),
    log: find("details pre"), calls: new Map(), lanes: new Map(), rows: new Map(), laneRows: new Map(),
  };
  find(".ended button").onclick = ({ target }) => {
    target.disabled = true;
    post(`start/${stage}`);
  };
  pane.callList.onclick = ({ target }) => {
    const number = target.closest("button")?.dataset.number;
    if (number) showBytes(pane, Number(number));
  };
  pane.callList.onkeydown = (event) => moveFocus(pane, event);
  panes.set(stage, pane);
  stages.append(section);
  return pane;
}

// What is shown

/** The moment at the right edge: now, or when the last thing happened if nobody is there. */
function edge() {
  if (held !== null) return held;
  const calls = [...panes.values()].flatMap((pane) => [...pane.calls.values()]);
  if (calls.some((call) => call.ended === null)) return clock();
  return Math.min(clock(), Math.max(1, ...calls.map((call) => call.ended)) + 1);
}

function paint() {
  requestAnimationFrame(paint);
  const time = performance.now();
  if (time - painted < (calm.matches ? CALM : FRAME)) return;
  painted = time;
  const now = edge();
  for (const pane of panes.values()) paintPane(pane, now, Number(range.value));
  if (time - said < SAY) return;
  said = time;
  setText(byId("summary"), [...panes.values()].map((pane) => `${pane.name}: ${pane.counts.textContent}`).join(" "));
}

function paintPane(pane, now, width) {
  const from = now - width;
  paintAxis(pane, from, width);
  const seen = [...pane.calls.values()]
    .filter((call) => call.phases[0][1] <= now && (call.ended === null || call.ended > from))
    .sort((a, b) => a.number - b.number);
  const followed = pane.callList.scrollTop + pane.callList.clientHeight > pane.callList.scrollHeight - 30;
  clearRows(pane, new Set(seen.map((call) => call.number)));
  for (const call of seen) paintCall(pane, call, from, width, now);
  const stops = callButtons(pane);
  if (stops.length && !stops.some((button) => button.tabIndex === 0)) stops.at(-1).tabIndex = 0;
  if (followed) pane.callList.scrollTop = pane.callList.scrollHeight;
  pane.none.hidden = seen.length > 0;
  for (const [at, lane] of [...pane.lanes].sort((a, b) => a[0] - b[0])) paintLane(pane, at, lane, from, width, now);
  setText(pane.counts, counts(pane, now));
}

function paintAxis(pane, from, width) {
  const pixels = pane.axis.clientWidth / width;
  const step = STEPS.find((seconds) => seconds * pixels >= APART) ?? width;
  const ticks = [];
  for (let tick = Math.max(0, Math.ceil(from / step) * step); tick <= from + width; tick += step) ticks.push(tick);
  pane.section.style.setProperty("--step", `${step * pixels}px`);
  pane.section.style.setProperty("--shift", `${(Math.ceil(from / step) * step - from) * pixels}px`);
  const labels = pane.axis.children;
  while (labels.length > ticks.length) labels[0].remove();
  while (labels.length < ticks.length) draw("text", pane.axis, { y: "80%" });
  ticks.forEach((tick, at) => {
    labels[at].setAttribute("x", `${((100 * (tick - from)) / width).toFixed(2)}%`);
    setText(labels[at], `${tick} s`);
  });
}

/** Take away the rows of those who are out of the picture, but never the one in focus. */
function clearRows(pane, seen) {
  for (const [number, line] of pane.rows) {
    if (seen.has(number) || line.made === document.activeElement) continue;
    line.made.parentNode.remove();
    pane.rows.delete(number);
  }
}

function paintCall(pane, call, from, width, now) {
  const line = pane.rows.get(call.number) ?? newRow(pane, call.number);
  const ends = [...call.phases.slice(1).map(([, start]) => start), call.ended ?? Infinity];
  const bars = call.phases.map(([phase, start], at) => [cssName(phase), start, Math.min(ends[at], now)]);
  const last = (bar) => bar[0] === "answered"; // on top, as it may be no more than a stroke
  paintBars(line, bars.filter(([, start]) => start <= now).sort((a, b) => last(a) - last(b)), from, width);
  if (held === null || !line.label.textContent) setText(line.label, asked(call));
  setText(line.words, outcome(call, now));
}

const callButtons = (pane) => [...pane.callList.querySelectorAll("button")];

function newRow(pane, number) {
  const line = row("button", pane.callList);
  const later = callButtons(pane).find((button) => Number(button.dataset.number) > number);
  if (later) later.parentNode.before(line.made.parentNode);
  line.made.type = "button";
  line.made.dataset.number = number;
  line.made.tabIndex = -1;
  make("b", line.name, { textContent: number });
  line.label = make("span", line.name);
  pane.rows.set(number, line);
  return line;
}

/** What a visitor asks for, without what goes without saying. */
const asked = (call) => call?.asked.replace(/^GET (?=.)/, "") || "(says nothing)";

/** What to say of a connection: what it goes through and for how long, or how it came out. */
function outcome(call, now) {
  const began = call.phases[0][1];
  if (call.ended === null || call.ended > now) {
    const [phase, since] = call.phases.findLast(([, start]) => start <= now);
    return `${phase} ${seconds(now - since)}`;
  }
  const took = seconds(call.ended - began);
  const failed = call.phases.some(([phase]) => phase === "failed");
  if (failed) return `failed: ${call.ending.replace(" by the stage", "")}`;
  if (call.ending === "left" || call.ending === "reset") return `left after ${took}`;
  return call.status ? `${call.status} after ${took}` : `closed after ${took}`;
}

function paintLane(pane, at, lane, from, width, now) {
  if (!pane.laneRows.has(at)) pane.laneRows.set(at, row("div", pane.laneList));
  const line = pane.laneRows.get(at);
  const rest = pane.pool ? "free" : "has ended";
  const spells = lane.spells.filter(([, start]) => start <= now);
  const bars = spells.map(([, start, end, known]) => [known ? "serving" : "assumed", start, Math.min(end ?? now, now)]);
  const seen = bars.filter(([, , end]) => end >= from);
  paintBars(line, seen, from, width);
  paintNumbers(line, spells.filter(([, , end]) => (end ?? now) >= from), from, width, now);
  line.made.parentNode.hidden = !pane.pool && !seen.length; // such a thread is no more
  setText(line.name, lane.name);
  const [number, , end, known] = spells.at(-1) ?? [];
  const busy = number !== undefined && (end === null || end > now);
  setText(line.words, busy ? `${number}${known ? "" : "?"} ${asked(pane.calls.get(number))}` : rest);
}

/** How many go through what, in words. */
function counts(pane, now) {
  const number = new Map();
  for (const call of pane.calls.values()) {
    if (call.phases[0][1] > now || (call.ended !== null && call.ended <= now)) continue;
    const [phase] = call.phases.findLast(([, start]) => start <= now);
    number.set(phase, (number.get(phase) ?? 0) + 1);
  }
  const crowd = Object.keys(PHASES).filter((phase) => number.has(phase)).map((phase) => `${number.get(phase)} ${phase}`);
  const busy = [...pane.lanes.values()].filter(({ spells }) => spells.length && spells.at(-1)[2] === null).length;
  const threads = `${busy}${pane.pool ? ` of ${pane.lanes.size}` : ""} threads at work`;
  return `${crowd.join(", ") || "nobody is there"}; ${pane.running ? threads : "the stage has ended"}.`;
}

// What is asked

async function post(path) {
  try {
    const answer = await fetch(path, { method: "POST" });
    problem.textContent = answer.ok ? "" : await answer.text();
  } catch {
    problem.textContent = GONE;
  }
}

byId("visitors").onsubmit = (event) => {
  event.preventDefault();
  const kind = event.submitter.value;
  const time = byId("seconds");
  if (!time.reportValidity()) return;
  post(kind === "dismiss" ? kind : `visit/${kind}?seconds=${time.valueAsNumber}`);
};
byId("view").onsubmit = (event) => event.preventDefault();
hold.onclick = () => {
  held = held === null ? edge() : null;
  hold.setAttribute("aria-pressed", String(held !== null));
};

function moveFocus(pane, event) {
  const rows = callButtons(pane);
  const at = rows.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  rows[Math.min(Math.max(to, 0), rows.length - 1)].focus();
}

/** Only one row of a list is a stop of the Tab key: the one that had the focus last. */
document.addEventListener("focusin", ({ target }) => {
  if (!target.dataset.number) return;
  for (const other of target.closest("ol").querySelectorAll("button")) other.tabIndex = other === target ? 0 : -1;
});

async function showBytes(pane, number) {
  const call = pane.calls.get(number);
  shown = { pane, number };
  byId("bytes-title").textContent = `${pane.name}, connection ${number}`;
  const log = call.name === null ? "not in the log" : `connection ${call.name} in the log`;
  const bytes = `${call.sent.toLocaleString("en")} bytes sent, ${call.received.toLocaleString("en")} received`;
  byId("bytes-facts").textContent = `${outcome(call, clock())}; ${log}; ${bytes} in all. The last exchange:`;
  if (!dialog.open) dialog.showModal();
  const answer = await fetch(`calls/${pane.stage}/${number}`);
  const segments = answer.ok ? (await answer.json()).segments : [["wrong", await answer.text()]];
  const spans = segments.map(([kind, text]) => make("span", null, { className: kind, textContent: text }));
  byId("bytes-text").replaceChildren(...spans);
}
dialog.onclose = () => (shown = null);

for (const [kind, words] of [...Object.entries(PHASES), ...Object.entries(THREADS)]) {
  const item = make("li", byId("legend"));
  const sample = draw("svg", item, { "aria-hidden": "true" });
  draw("rect", sample, { class: `bar ${cssName(kind)}`, x: "4%", y: "12%", width: "92%", height: "76%" });
  make("span", item, { textContent: words });
}
listen();
paint();
