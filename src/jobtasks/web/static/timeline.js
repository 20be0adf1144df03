// When what ran where: a row per slot of a node, drawn on a canvas; the server gathers what is too much.

const GUTTER = 150;
const AXIS = 26;
const ROW_HIGHEST = 20;
const ROW_LOWEST = 4;
const ROWS_HEIGHT = 560;
const COLUMN_PIXELS = 3;
const SETTLE_MS = 120;
const BEHIND_MS = 150;
const SHORTEST_MS = 10;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 6048e5];

class TimeLine extends HTMLElement {
  connectedCallback() {
    if (!this.canvas) this.#build();
    this.resizing = new ResizeObserver(() => this.#draw());
    this.resizing.observe(this);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", () => this.#draw());
    this.load();
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
    this.resizing.disconnect();
  }

  /** There is news: a window that ends now moves on. */
  refresh() {
    if (!document.hidden) this.load();
  }

  #build() {
    const tools = made("div", { className: "tools" });
    for (const [text, label, act] of [
      ["+", "Zoom in", () => this.#zoom(0.5)],
      ["−", "Zoom out", () => this.#zoom(2)],
      ["←", "Earlier", () => this.#move(-0.3)],
      ["→", "Later", () => this.#move(0.3)],
      ["All", "All: show the whole job", () => this.#show(null)],
    ]) {
      const button = made("button", { type: "button", textContent: text, title: label });
      button.setAttribute("aria-label", label);
      button.addEventListener("click", act);
      tools.append(button);
    }
    this.said = made("span", { className: "hint" });
    this.said.setAttribute("role", "status");
    const legend = made("span", { className: "legend" });
    for (const state of ["complete", "running", "failed", "stopped"]) legend.append(made("i", { className: state, textContent: state }));
    tools.append(this.said, legend);
    this.canvas = made("canvas", { tabIndex: 0 });
    this.canvas.setAttribute("role", "img");
    this.tip = made("div", { className: "tip", hidden: true });
    const frame = made("div", { className: "frame" });
    frame.append(this.canvas, this.tip);
    this.append(tools, frame, made("p", {
      className: "hint",
      textContent: `Drag to move; Ctrl and wheel, double click, or + and − to zoom${this.isFixed ? "." : "; a click on a bar opens its task."}`,
    }));
    this.canvas.addEventListener("pointerdown", (event) => this.#press(event));
    this.canvas.addEventListener("pointermove", (event) => this.#hover(event));
    this.canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.canvas.addEventListener("dblclick", (event) => this.#zoom(0.5, this.#timeAt(event.offsetX)));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.#zoom(event.deltaY < 0 ? 0.8 : 1.25, this.#timeAt(event.offsetX));
    }, { passive: false });
  }

  // -- what is shown -------------------------------------------------------------------------------

  /** Of a page without a server the data stand in the page: there is no more to be had. */
  get isFixed() {
    return this.hasAttribute("fixed");
  }

  async load() {
    clearTimeout(this.timer);
    if (this.isFixed) {
      this.#take(JSON.parse(document.getElementById(this.getAttribute("fixed")).textContent));
      return;
    }
    const run = (this.run = {});
    const parameters = new URLSearchParams({ columns: Math.min(1000, Math.max(50, Math.floor(this.#inner() / COLUMN_PIXELS))) });
    if (this.span) {
      parameters.set("from", new Date(this.span[0]).toISOString());
      parameters.set("until", new Date(this.span[1]).toISOString());
    }
    const answer = await fetch(`${this.getAttribute("src")}?${parameters}`, { headers: { "X-Jobtasks-Part": "1" }, cache: "no-store" }).catch(() => null);
    if (run !== this.run || !answer?.ok) return;
    this.#take(await answer.json());
    if (this.data.is_behind) this.timer = setTimeout(() => this.load(), BEHIND_MS);
  }

  #take(data) {
    this.data = data;
    this.canvas.hidden = !this.data.rows.length;
    if (this.canvas.hidden) {
      this.said.textContent = "Nothing of this job has run yet.";
      this.dataset.ready = "yes";
      return;
    }
    this.window = this.isFixed && this.span ? this.span : [Date.parse(data.from), Date.parse(data.until)];
    performance.mark("jobtasks-update");
    this.#draw();
    performance.measure("jobtasks-update", "jobtasks-update");
    this.#describe();
    this.dataset.shows = this.data.bars ? "bars" : "cells";
    this.dataset.ready = this.data.is_behind ? "no" : "yes";
  }

  #show(span) {
    if (span) {
      const length = Math.max(SHORTEST_MS, span[1] - span[0]);
      span = [span[0], span[0] + length];
    }
    this.span = span;
    if (span) this.window = span;
    this.#draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), SETTLE_MS);
  }

  #zoom(by, around) {
    if (!this.window) return;
    const [from, until] = this.window;
    const middle = around ?? (from + until) / 2;
    this.#show([middle - (middle - from) * by, middle + (until - middle) * by]);
  }

  #move(share) {
    if (!this.window) return;
    const by = (this.window[1] - this.window[0]) * share;
    this.#show([this.window[0] + by, this.window[1] + by]);
  }

  #key(event) {
    const acts = {
      "+": () => this.#zoom(0.5), "=": () => this.#zoom(0.5), "-": () => this.#zoom(2),
      ArrowLeft: () => this.#move(-0.2), ArrowRight: () => this.#move(0.2), 0: () => this.#show(null),
    };
    const act = acts[event.key];
    if (!act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    act();
  }

  #press(event) {
    const start = event.clientX;
    const window_ = this.window && [...this.window];
    if (!window_) return;
    this.canvas.setPointerCapture(event.pointerId);
    const perPixel = (window_[1] - window_[0]) / this.#inner();
    let moved = 0;
    const move = (next) => {
      moved = next.clientX - start;
      if (Math.abs(moved) > 3) this.#show([window_[0] - moved * perPixel, window_[1] - moved * perPixel]);
    };
    const stop = (next) => {
      this.canvas.removeEventListener("pointermove", move);
      if (Math.abs(moved) <= 3) this.#open(next);
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", stop, { once: true });
  }

  #open(event) {
    const bar = this.#barAt(event);
    if (bar && !this.isFixed) location.href = `/tasks/${encodeURIComponent(bar.job_task_uuid)}?attempt=${bar.number}`;
  }

  // -- where things are ----------------------------------------------------------------------------

  #inner() {
    return Math.max(100, this.clientWidth - GUTTER - 8);
  }

  #rowHeight() {
    const rows = Math.max(1, this.data?.rows.length ?? 1);
    return Math.max(ROW_LOWEST, Math.min(ROW_HIGHEST, Math.floor(ROWS_HEIGHT / rows)));
  }

  #x(time) {
    return GUTTER + ((time - this.window[0]) / (this.window[1] - this.window[0])) * this.#inner();
  }

  #timeAt(x) {
    return this.window[0] + ((x - GUTTER) / this.#inner()) * (this.window[1] - this.window[0]);
  }

  #endOf(bar) {
    return bar.until ? Date.parse(bar.until) : Date.parse(this.data.now);
  }

  #barAt(event) {
    if (!this.data?.bars) return null;
    const row = Math.floor((event.offsetY - AXIS) / this.#rowHeight());
    return this.data.bars.find((bar) => {
      const left = this.#x(Date.parse(bar.from));
      return bar.row === row && event.offsetX >= left - 2 && event.offsetX <= Math.max(left + 3, this.#x(this.#endOf(bar)));
    });
  }

  // -- drawing -------------------------------------------------------------------------------------

  #draw() {
    if (!this.data || !this.window || !this.clientWidth) return;
    const height = AXIS + this.#rowHeight() * Math.max(1, this.data.rows.length) + 4;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = this.clientWidth * ratio;
    this.canvas.height = height * ratio;
    this.canvas.style.width = `${this.clientWidth}px`;
    this.canvas.style.height = `${height}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(this);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colours = {
      complete: colour("done"), running: colour("running"), failed: colour("failed"), stopped: colour("cancelled"),
      line: colour("line"), soft: colour("soft"), rest: colour("rest"), sheet: colour("sheet"),
    };
    pen.fillStyle = this.colours.sheet;
    pen.fillRect(0, 0, this.clientWidth, height);
    this.#drawAxis(pen, height);
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, AXIS, this.#inner(), height);
    pen.clip();
    if (this.data.bars) this.#drawBars(pen);
    else if (this.data.cells) this.#drawCells(pen);
    pen.restore();
    this.#drawNames(pen);
  }

  #drawAxis(pen, height) {
    const [from, until] = this.window;
    const step = STEPS.find((each) => (each / (until - from)) * this.#inner() > 95) ?? STEPS.at(-1) * Math.ceil((until - from) / STEPS.at(-1) / 10);
    const offset = new Date(from).getTimezoneOffset() * 60000;
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "left";
    for (let time = Math.ceil((from - offset) / step) * step + offset; time < until; time += step) {
      const x = Math.round(this.#x(time)) + 0.5;
      pen.strokeStyle = this.colours.line;
      pen.beginPath();
      pen.moveTo(x, AXIS - 6);
      pen.lineTo(x, height);
      pen.stroke();
      pen.fillStyle = this.colours.soft;
      pen.fillText(clock(time, step), x + 3, AXIS - 9);
    }
  }

  #drawNames(pen) {
    const height = this.#rowHeight();
    const every = Math.max(1, Math.ceil(12 / height));
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = this.colours.soft;
    pen.textBaseline = "middle";
    this.data.rows.forEach((row, place) => {
      if (place % every) return;
      const name = row.slot === null ? row.hostname : `${row.hostname} · ${row.slot}`;
      pen.fillText(fitting(pen, name, GUTTER - 12), 4, AXIS + height * place + height / 2);
    });
    pen.textBaseline = "alphabetic";
  }

  #drawBars(pen) {
    const height = this.#rowHeight();
    const gap = height > 8 ? 2 : 0;
    for (const bar of this.data.bars) {
      const left = this.#x(Date.parse(bar.from));
      const width = Math.max(1.5, this.#x(this.#endOf(bar)) - left - (height > 8 ? 0.7 : 0));
      const top = AXIS + height * bar.row + gap / 2;
      pen.fillStyle = this.colours[bar.state] ?? this.colours.running;
      pen.fillRect(left, top, width, height - gap);
      if (bar.state === "failed" && width > 4 && height > 8) {
        pen.fillStyle = this.colours.sheet;
        pen.fillRect(left + width - 3, top + 2, 1.2, height - gap - 4);
      }
      if (width > 34 && height >= 14) {
        pen.fillStyle = this.colours.sheet;
        pen.font = "10px system-ui, sans-serif";
        pen.fillText(fitting(pen, String(bar.qsequence), width - 8), left + 4, top + height - gap - 5);
      }
    }
  }

  #drawCells(pen) {
    const height = this.#rowHeight();
    const start = Date.parse(this.data.from);
    const step = this.data.column_seconds * 1000;
    for (const cell of this.data.cells) {
      const left = this.#x(start + cell.column * step);
      const width = Math.max(1, this.#x(start + (cell.column + 1) * step) - left + 0.4);
      const top = AXIS + height * cell.row;
      const full = Math.max(1, height - (height > 8 ? 2 : 0));
      pen.globalAlpha = 0.15 + 0.85 * Math.min(1, cell.busy);
      pen.fillStyle = this.colours.complete;
      pen.fillRect(left, top, width, full);
      pen.globalAlpha = 1;
      if (cell.failed) {
        pen.fillStyle = this.colours.failed;
        const share = Math.max(0.25, cell.failed / Math.max(1, cell.ended));
        pen.fillRect(left, top + full * (1 - share), width, full * share);
      }
    }
  }

  // -- words ---------------------------------------------------------------------------------------

  #describe() {
    const { rows, bars, cells, attempts_read: read, is_behind: behind } = this.data;
    const failed = (bars ?? []).filter((bar) => bar.state === "failed").length + (cells ?? []).reduce((sum, cell) => sum + cell.failed, 0);
    const number = bars ? bars.length : (cells ?? []).reduce((sum, cell) => sum + cell.ended, 0);
    const parts = [`${number.toLocaleString()} attempts`, `${failed.toLocaleString()} failed`, `${rows.length} rows`];
    const text = `${parts.join(", ")}, ${lasting((this.window[1] - this.window[0]) / 1000)}${behind ? ` – reading, ${read.toLocaleString()} so far` : ""}`;
    if (this.said.textContent !== text) this.said.textContent = text;
    this.canvas.setAttribute("aria-label", `Timeline: ${text}`);
  }

  #hover(event) {
    const bar = this.#barAt(event);
    const words = bar ? this.#ofBar(bar) : this.#ofCell(event);
    this.canvas.classList.toggle("over-bar", Boolean(bar));
    this.tip.hidden = !words;
    if (!words) return;
    this.tip.textContent = words;
    this.tip.style.left = `${Math.min(event.offsetX + 14, this.clientWidth - 300)}px`;
    this.tip.style.top = `${event.offsetY + 16}px`;
  }

  #ofBar(bar) {
    const row = this.data.rows[bar.row];
    const seconds = (this.#endOf(bar) - Date.parse(bar.from)) / 1000;
    const end = bar.cause && bar.state === "failed" ? ` (${bar.cause.replaceAll("_", " ")})` : "";
    return `task ${bar.qsequence}, sequence ${bar.sequence}, attempt ${bar.number}: ${bar.state}${end}, ${lasting(seconds)}\n${row.hostname}${row.slot === null ? "" : `, slot ${row.slot}`}, from ${new Date(bar.from).toLocaleTimeString()}`;
  }

  #ofCell(event) {
    if (!this.data?.cells) return "";
    const row = Math.floor((event.offsetY - AXIS) / this.#rowHeight());
    const column = Math.floor((this.#timeAt(event.offsetX) - Date.parse(this.data.from)) / (this.data.column_seconds * 1000));
    const cell = this.data.cells.find((each) => each.row === row && each.column === column);
    if (!cell) return "";
    return `${this.data.rows[row].hostname}: ${Math.round(cell.busy * 100)} % at work, ${cell.ended.toLocaleString()} ended, ${cell.failed.toLocaleString()} failed`;
  }
}
customElements.define("time-line", TimeLine);

function made(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

function fitting(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let shown = text;
  while (shown && pen.measureText(`${shown}…`).width > width) shown = shown.slice(0, -1);
  return shown ? `${shown}…` : "";
}

function clock(time, step) {
  const moment = new Date(time);
  const two = (number) => String(number).padStart(2, "0");
  if (step >= 864e5) return moment.toLocaleDateString(undefined, { month: "short", day: "numeric" });
  const minutes = `${two(moment.getHours())}:${two(moment.getMinutes())}`;
  if (step >= 6e4) return minutes === "00:00" ? moment.toLocaleDateString(undefined, { month: "short", day: "numeric" }) : minutes;
  if (step >= 1e3) return `${minutes}:${two(moment.getSeconds())}`;
  return `${two(moment.getSeconds())}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
}

function lasting(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} d`;
}
