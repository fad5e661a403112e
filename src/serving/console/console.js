"use strict";
// Asks /statusz once a second while the page is visible, and draws what it says. Sends predictions
// from the form. Every text goes through textContent: nothing that a client or a model wrote is markup.
(() => {
  const SECOND = 1000;
  const POLL = SECOND;
  const PATIENCE = 5 * SECOND;
  const RETRY_MAX = 10 * SECOND;
  const HISTORY = 300 * SECOND;
  const RECENT = 60 * SECOND;
  const SVG = "http://www.w3.org/2000/svg";

  const byId = (id) => document.getElementById(id);
  const put = (id, text) => {
    const node = typeof id === "string" ? byId(id) : id;
    if (node.textContent !== text) node.textContent = text;
  };
  const make = (tag, text, className) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };
  const draw = (tag, attributes, text) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // Numbers for people.
  const short = (value) => {
    if (value === 0) return "0";
    if (value < 1) return value.toPrecision(2);
    return value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
  };
  const time = (seconds) => {
    if (seconds === null || seconds === undefined) return "–";
    if (seconds < 1e-3) return `${short(seconds * 1e6)} µs`;
    if (seconds < 1) return `${short(seconds * 1e3)} ms`;
    if (seconds < 10) return `${seconds.toFixed(1)} s`;
    const whole = Math.floor(seconds);
    const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    const first = parts.findIndex(([unit]) => whole >= unit);
    const texts = [];
    let rest = whole;
    for (const [unit, name] of parts.slice(first, first + 2)) {
      const count = Math.floor(rest / unit);
      rest -= count * unit;
      if (count > 0 || texts.length === 0) texts.push(`${count} ${name}`);
    }
    return texts.join(" ");
  };
  const size = (bytes) => {
    if (bytes === null || bytes === undefined) return "–";
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
    return `${unit === 0 ? bytes : short(bytes)} ${units[unit]}`;
  };
  const plain = (value) => (value === null || value === undefined ? "–" : String(value));

  // What was polled: the newest last. A server that has restarted begins anew.
  let polled = [];

  const sum = (predictions) => {
    const { refusals, panicked, ...ended } = predictions;
    return Object.values(ended).reduce((total, count) => total + count, 0);
  };
  const remember = (status, now) => {
    const last = polled[polled.length - 1];
    if (last && status.uptime_seconds < last.status.uptime_seconds) polled = [];
    polled.push({ now, status });
    while (polled.length > 2 && now - polled[0].now > HISTORY) polled.shift();
  };
  // Counts a second between two polls, of one count of a status.
  const rates = (count) => polled.slice(1).map((point, index) => {
    const before = polled[index];
    const seconds = Math.max((point.now - before.now) / SECOND, 1e-3);
    return { now: point.now, rate: Math.max(0, count(point.status) - count(before.status)) / seconds };
  });

  // Charts.
  const WIDTH = 480, HEIGHT = 150, LEFT = 46, BOTTOM = 22, TOP = 8;
  const roof = (value) => {
    const step = 10 ** Math.floor(Math.log10(Math.max(value, 1e-3)));
    return [1, 2, 5, 10].map((factor) => factor * step).find((limit) => limit >= value);
  };
  const frame = (svg, most) => {
    svg.replaceChildren();
    for (const part of [0, 0.5, 1]) {
      const y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - part);
      svg.append(draw("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y, y2: y }));
      svg.append(draw("text", { class: "tick end", x: LEFT - 6, y: y + 4 }, short(most * part)));
    }
  };
  const lines = (id, series) => {
    const svg = byId(id);
    const end = polled[polled.length - 1].now;
    const most = roof(Math.max(...series.flatMap((one) => one.points.map((point) => point.rate)), 1));
    const x = (now) => WIDTH - (WIDTH - LEFT) * (end - now) / HISTORY;
    const y = (rate) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - rate / most);
    frame(svg, most);
    svg.append(draw("text", { class: "tick", x: LEFT, y: HEIGHT - 4 }, "5 min ago"));
    svg.append(draw("text", { class: "tick end", x: WIDTH, y: HEIGHT - 4 }, "now"));
    const legend = byId(`${id}-legend`);
    const items = [];
    for (const { name, look, points } of series) {
      const path = points.map((point, index) => `${index ? "L" : "M"}${x(point.now).toFixed(1)} ${y(point.rate).toFixed(1)}`);
      svg.append(draw("path", { class: `c${look}`, d: path.join("") }));
      const rate = points.length ? points[points.length - 1].rate : 0;
      const item = make("li");
      const mark = draw("svg", { viewBox: "0 0 18 14", "aria-hidden": "true" });
      mark.append(draw("path", { class: `c${look}`, d: "M0 7L18 7" }));
      item.append(mark, `${name}: ${short(rate)}/s`);
      items.push(item);
    }
    legend.replaceChildren(...items);
    svg.setAttribute("aria-label", items.length ? items.map((item) => item.textContent).join(", ") : "none");
  };

  // A histogram of the last minute: counts by bucket, from counts up to each bound.
  const lately = (counts) => {
    const end = polled[polled.length - 1];
    const start = polled.find((point) => end.now - point.now <= RECENT);
    const [after, before] = [counts(end.status), counts(start.status)];
    if (!after) return [];
    const since = after.map((count, index) => count - (before ? before[index] : 0));
    return since.map((count, index) => count - (index ? since[index - 1] : 0));
  };
  const quantile = (buckets, bounds, share) => {
    const total = buckets.reduce((all, count) => all + count, 0);
    let below = 0;
    for (const [index, count] of buckets.entries()) {
      below += count;
      if (total > 0 && below >= share * total) {
        return index < bounds.length ? `up to ${time(bounds[index])}` : `over ${time(bounds[bounds.length - 1])}`;
      }
    }
    return "–";
  };
  const summary = (buckets, bounds) => {
    const total = buckets.reduce((all, count) => all + count, 0);
    if (total === 0) return "none";
    return `${total.toLocaleString("en")}; half ${quantile(buckets, bounds, 0.5)}, 99 % ${quantile(buckets, bounds, 0.99)}`;
  };
  const bars = (id, buckets, bounds) => {
    const svg = byId(id);
    const text = summary(buckets, bounds);
    put(`${id}-caption`, text);
    svg.setAttribute("aria-label", text);
    frame(svg, roof(Math.max(...buckets, 1)));
    const most = roof(Math.max(...buckets, 1));
    const width = (WIDTH - LEFT) / Math.max(buckets.length, 1);
    for (const [index, count] of buckets.entries()) {
      const height = (HEIGHT - TOP - BOTTOM) * count / most;
      svg.append(draw("rect", { class: "bar", x: LEFT + index * width + 1, width: width - 2, y: HEIGHT - BOTTOM - height, height }));
    }
    for (const index of [1, 4, 7, 10, 13, 16]) {
      if (index >= bounds.length) continue;
      svg.append(draw("text", { class: "tick end", x: LEFT + (index + 1) * width, y: HEIGHT - 4 }, time(bounds[index]).replace(".0", "")));
    }
  };

  // Tables and lists.
  const fill = (id, rows, none) => {
    const body = byId(id).tBodies[0];
    if (rows.length === 0) {
      const cell = make("td", none);
      cell.colSpan = byId(id).tHead.rows[0].cells.length;
      const row = make("tr");
      row.append(cell);
      body.replaceChildren(row);
      return;
    }
    const columns = byId(id).tHead.rows[0].cells.length;
    body.replaceChildren(...rows.map((cells) => {
      const row = make("tr");
      row.append(...cells.slice(0, columns).map((cell) => (cell instanceof Node ? cell : make("td", plain(cell)))));
      return row;
    }));
  };
  const list = (id, pairs) => {
    byId(id).replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", name), make("dd", plain(value))]));
  };

  const showVerdicts = (verdicts) => {
    for (const [name, verdict] of Object.entries(verdicts)) {
      const card = byId(`verdict-${name}`);
      if (!card) continue;
      card.classList.toggle("passes", verdict.passes);
      card.classList.toggle("fails", !verdict.passes);
      put(card.querySelector(".word"), verdict.passes ? "✓ passes" : "✗ fails");
      put(card.querySelector(".since"), `for ${time(verdict.since_seconds)}`);
      put(card.querySelector(".reason"), verdict.passes ? "" : `${verdict.reason} [${verdict.check}]`);
    }
  };
  const showHead = (status) => {
    const { livez, readyz } = status.verdicts;
    const [stamp, text] = !livez.passes ? ["✗ Stalled", `Predictions have stopped completing: ${livez.reason}`]
      : !readyz.passes ? ["✗ Not ready", `A prediction made now would not work: ${readyz.reason}`]
      : status.degraded ? ["✓ Well", `Predictions complete, but ${status.degraded}`]
      : ["✓ Well", "Predictions complete, and one made now would work"];
    byId("head").className = livez.passes && readyz.passes ? "passed" : "failed";
    put("stamp", stamp);
    put("verdict", text);
    put("served", status.model ? `serving ${status.model.name}` : "no model yet");
    put("uptime", `up for ${time(status.uptime_seconds)}, ${status.phase}`);
    put("link", "This page asks /statusz once a second.");
  };
  const showLane = (lane) => {
    put("waiting", `${lane.queue_length} of ${lane.queue_capacity}`);
    put("running", `${lane.busy} of ${lane.workers}`);
    put("oldest", time(lane.queue_oldest_age_seconds));
    put("mean", lane.completed ? time(lane.service_time_seconds) : "–");
    fill("workers", lane.threads.map((worker) => {
      const state = worker.stuck ? "stuck" : worker.busy_seconds === null ? "idle" : "running";
      const cell = make("td", worker.substituted ? `${state}, substituted` : state, worker.stuck ? "failing" : "");
      return [worker.name, cell, time(worker.busy_seconds), worker.rows, worker.request_id];
    }), "no worker runs");
  };
  const showHistory = () => {
    lines("rates", [
      { name: "came", look: 0, points: rates((status) => sum(status.predictions)) },
      { name: "answered", look: 1, points: rates((status) => status.predictions.succeeded) },
      { name: "failed", look: 3, points: rates((status) => status.predictions.failed + status.predictions.lost + status.predictions.deadline_exceeded) },
    ]);
    const last = polled[polled.length - 1].status.predictions.refusals;
    const codes = Object.keys(last);
    const series = codes.map((code, look) => ({ name: code, look, points: rates((status) => status.predictions.refusals[code] || 0) }));
    lines("refused", series.filter((one) => one.points.some((point) => point.rate > 0)));
  };
  const showTimes = (status) => {
    const bounds = status.times.bounds_seconds;
    bars("waits", lately((one) => one.times.waiting), bounds);
    bars("services", lately((one) => one.times.service), bounds);
    const probes = ["main", "probe"].map((name) => `${name} listener: ${summary(lately((one) => one.times.probes[name]), bounds)}`);
    put("probes", `Probes answered, ${probes.join(". ")}`);
  };
  const showFacts = (status) => {
    const { model, trial, reload, limits, buffered, cgroup, connections } = status;
    list("model", model === null ? [["model", "none yet"]] : [
      ["name, version", `${model.name}, ${model.version}`],
      ["algorithm", model.algorithm],
      ["takes", `${model.feature_count} features: ${model.features.join(", ")}${model.feature_count > model.features.length ? ", …" : ""}`],
      ["gives", model.class_count ? `one of ${model.class_count} classes: ${model.classes.join(", ")}${model.class_count > model.classes.length ? ", …" : ""}` : "numbers"],
      ["generation", `${model.generation}, loaded ${time(reload.loaded_age_seconds)} ago`],
      ["golden rows", model.golden_rows],
      ["trial", `${trial.verdict}${trial.reason ? `: ${trial.reason}` : ""}${trial.began_age_seconds === null ? "" : `, ${time(trial.began_age_seconds)} ago`}`],
      ["last prediction", status.last_success_age_seconds === null ? "none yet" : `${time(status.last_success_age_seconds)} ago`],
      ...(reload.error ? [["reload failed", reload.error]] : []),
      ...model.notes.map((note) => ["note", note]),
    ]);
    list("limits", [
      ["held for clients", `${size(buffered.bytes)} of ${size(buffered.bytes_max)}`],
      ["memory", cgroup.memory_bytes === null ? "–" : `${size(cgroup.memory_bytes)}${cgroup.memory_bytes_max === null ? "" : ` of ${size(cgroup.memory_bytes_max)}`}`],
      ["connections", `${connections.main} of ${limits.connections}; on the probe listener ${connections.probe} of ${limits.probe_connections}`],
      ["a request", `at most ${size(limits.body_bytes)}, ${limits.rows.toLocaleString("en")} rows, ${time(limits.request_timeout_seconds)}`],
      ["waits at most", limits.wait_seconds === "auto" ? "as long as predictions take (auto)" : limits.wait_seconds === null ? "as long as its time limit" : time(limits.wait_seconds)],
      ["stuck after", time(limits.stall_timeout_seconds)],
    ]);
  };
  const showRecent = (recent) => {
    for (const kind of ["refusals", "failures"]) {
      fill(kind, recent[kind].map((one) => {
        const reason = make("td", one.reason, "wrap");
        return [time(one.age_seconds), one.status, one.code, reason, one.request_id, one.trace_id, one.client];
      }), "none");
    }
  };
  const show = (status) => {
    showHead(status);
    showVerdicts(status.verdicts);
    showLane(status.lanes.predict);
    showHistory();
    showTimes(status);
    showFacts(status);
    showRecent(status.recent);
    const form = byId("form");
    if (form && status.model && String(status.model.generation) !== form.dataset.generation) {
      put("timing", "The model was replaced: reload this page for its form.");
    }
  };

  // Polling.
  let failures = 0;
  let lastAnswer = null;
  let timer = null;
  const later = (wait) => { clearTimeout(timer); timer = setTimeout(poll, wait); };
  const unreachable = (text, wait) => {
    byId("head").className = "unknown";
    put("stamp", "? Unknown");
    put("verdict", text);
    const since = lastAnswer === null ? "" : `Last answer ${time((Date.now() - lastAnswer) / SECOND)} ago. `;
    put("link", `${since}Next try in ${time(wait / SECOND)}.`);
    document.querySelector("main").classList.add("stale");
    for (const card of document.querySelectorAll(".verdict")) {
      card.classList.remove("passes", "fails");
      put(card.querySelector(".word"), "? unknown");
      put(card.querySelector(".since"), "");
    }
  };
  const poll = async () => {
    if (document.hidden) return;
    try {
      const response = await fetch("/statusz", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!response.ok) {
        await response.text();
        throw new Error(`/statusz was answered ${response.status}`);
      }
      const status = await response.json();
      failures = 0;
      lastAnswer = Date.now();
      document.querySelector("main").classList.remove("stale");
      remember(status, performance.now());
      show(status);
      later(POLL);
    } catch (error) {
      failures += 1;
      const wait = Math.min(RETRY_MAX, POLL * 2 ** (failures - 1)) * (0.8 + 0.4 * Math.random());
      const silent = error.name === "TypeError" || error.name === "TimeoutError";
      const old = lastAnswer === null || Date.now() - lastAnswer > PATIENCE;
      if (silent) unreachable("The server does not answer", wait);
      else if (old) unreachable(`The server's state is not known: ${error.message}`, wait);
      // It answers, but many pages ask it: what is shown is a few seconds old.
      else put("link", `${error.message}. Next try in ${time(wait / SECOND)}.`);
      later(wait);
    }
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else later(0);
  });
  later(0);

  // The form.
  const form = byId("form");
  if (!form) return;
  const NUMBER = /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$/;
  // A value as JSON; a number exactly as it was typed.
  const value = (field) => {
    const text = field.value.trim();
    const isMissing = field.selectedOptions ? "missing" in field.selectedOptions[0].dataset : text === "";
    if (isMissing) return "null";
    if (field.dataset.type === "BOOL") return text;
    if (field.dataset.type === "BYTES") return JSON.stringify(field.value);
    return NUMBER.test(text) ? text : JSON.stringify(text);
  };
  const fields = () => [...form.querySelectorAll("[data-type]")];
  const record = () => {
    const row = byId("row");
    if (row) return row.value.trim();
    return `{${fields().map((field) => `${JSON.stringify(field.name)}: ${value(field)}`).join(", ")}}`;
  };
  const body = () => `{"instances": [${record()}]}`;
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const curl = () => `curl -s ${location.origin}/predict -d ${quoted(body())}`;
  const v2 = () => {
    const all = fields();
    if (all.length === 0) return "For a model of so many values, see /docs/api.";
    const tensor = (name, type, shape, data) => `{"name": ${JSON.stringify(name)}, "datatype": "${type}", "shape": [${shape}], "data": [${data}]}`;
    const inputs = "oneTensor" in form.dataset
      ? [tensor("input", form.dataset.number, `1, ${all.length}`, all.map(value).join(", "))]
      : all.map((field) => tensor(field.name, field.dataset.type, "1, 1", value(field)));
    const path = `/v2/models/${encodeURIComponent(form.dataset.model)}/infer`;
    return `curl -s ${location.origin}${path} -d ${quoted(`{"inputs": [${inputs.join(", ")}]}`)}`;
  };
  const python = () => `import json, urllib.request

body = json.loads(r"""${body().replaceAll('"""', '""\\u0022')}""")
request = urllib.request.Request(
    "${location.origin}/predict",
    data=json.dumps(body).encode(),
    headers={"Content-Type": "application/json"},
)
with urllib.request.urlopen(request) as response:
    print(json.load(response))`;
  const timings = (text) => (text || "").split(",").map((part) => {
    const found = /^\s*(\w+);dur=([0-9.]+)/.exec(part);
    return found ? `${found[1]} ${time(Number(found[2]) / 1e3)}` : "";
  }).filter((part) => part).join(", ");

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    put("timing", "…");
    put("curl", curl());
    put("v2", v2());
    put("python", python());
    const began = performance.now();
    try {
      const headers = { "Content-Type": "application/json" };
      const response = await fetch("/predict", { method: "POST", headers, body: body() });
      const text = await response.text();
      const took = (performance.now() - began) / SECOND;
      const told = timings(response.headers.get("Server-Timing"));
      put("timing", `${response.status} after ${time(took)}${told ? `, of which ${told}` : ""}; request ${plain(response.headers.get("X-Request-Id"))}`);
      put("answer", text.trim());
    } catch {
      put("timing", "The server does not answer.");
      put("answer", "");
    }
    byId("result").hidden = false;
  });
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.addEventListener("click", async () => {
      const source = byId(button.dataset.copies);
      const selection = getSelection();
      selection.selectAllChildren(source);
      try {
        await navigator.clipboard.writeText(source.textContent);
        put("timing", "Copied.");
      } catch {
        // Browsers offer the clipboard only over https and on this machine.
        put("timing", "Selected: copy it with the keyboard.");
      }
    });
  }
})();
