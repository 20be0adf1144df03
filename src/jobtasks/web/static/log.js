// The log of an attempt: its end first, more on demand; followed while it is written.

import { Painter } from "./ansi.js";

const TAIL_BYTES = 256 * 1024;
const PIECE_BYTES = 1024 * 1024;
const SHOWN_NODES_MAX = 60000;
const LOOK_MS = 1500;
const FOUND_MAX = 5000;

class LogView extends HTMLElement {
  static observedAttributes = ["running", "src"];

  connectedCallback() {
    if (!this.pre) this.#build();
    this.#begin();
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
    CSS.highlights?.delete("found");
    CSS.highlights?.delete("found-now");
  }

  attributeChangedCallback(name, old, value) {
    if (!this.pre || old === value) return;
    if (name === "src") this.#begin();
    else this.#look();
  }

  #build() {
    const label = this.getAttribute("label") ?? "Log";
    this.pre = element("pre", { tabIndex: 0, role: "region", ariaLabel: label });
    this.query = element("input", { type: "search", placeholder: "Find in this log", ariaLabel: "Find in this log" });
    this.found = element("span", { role: "status" });
    const back = element("button", { type: "button", textContent: "↑", ariaLabel: "Find backwards" });
    const on = element("button", { type: "button", textContent: "↓", ariaLabel: "Find onwards" });
    this.stream = element("select", { ariaLabel: "Which output" });
    for (const [value, text] of [["", "both"], ["stdout", "stdout"], ["stderr", "stderr"]]) {
      this.stream.append(element("option", { value, textContent: text }));
    }
    this.follow = element("input", { type: "checkbox", checked: true });
    this.wrap = element("input", { type: "checkbox", checked: true });
    this.save = element("a", { textContent: "Download", className: "download" });
    this.earlier = element("button", { type: "button", className: "earlier", hidden: true });
    const tools = element("div", { className: "tools" });
    tools.append(
      this.query, back, on, this.found, this.stream,
      labelled(this.follow, "Follow"), labelled(this.wrap, "Wrap"), this.save,
    );
    this.append(tools, this.earlier, this.pre);
    this.query.addEventListener("input", () => this.#find());
    this.query.addEventListener("keydown", (event) => {
      if (event.key === "Enter") event.preventDefault(), this.#step(event.shiftKey ? -1 : 1);
    });
    back.addEventListener("click", () => this.#step(-1));
    on.addEventListener("click", () => this.#step(1));
    this.stream.addEventListener("change", () => this.#begin());
    this.follow.addEventListener("change", () => this.#look());
    this.wrap.addEventListener("change", () => this.pre.classList.toggle("unwrapped", !this.wrap.checked));
    this.earlier.addEventListener("click", () => this.#loadEarlier());
    this.pre.addEventListener("wheel", (event) => {
      if (event.deltaY < 0) this.follow.checked = false;
    }, { passive: true });
  }

  #address(parameters = "") {
    const stream = this.stream.value ? `&stream=${this.stream.value}` : "";
    return this.getAttribute("src") + stream + parameters;
  }

  async #begin() {
    clearTimeout(this.timer);
    const run = (this.run = {});
    this.save.href = this.#address("&download=1");
    const answer = await fetch(this.#address(), { headers: { Range: `bytes=-${TAIL_BYTES}` } });
    if (run !== this.run) return;
    if (!answer.ok) {
      this.pre.replaceChildren(note("This log is not to be had."));
      return;
    }
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const range = answer.headers.get("Content-Range")?.match(/bytes (\d+)-/);
    this.first = range ? Number(range[1]) : 0;
    this.next = this.first + bytes.length;
    this.#restart(bytes);
    this.#look();
  }

  #restart(bytes) {
    this.decoder = new TextDecoder();
    this.painter = new Painter();
    // What comes before the first whole line is left out: it may begin within a letter.
    const skip = this.first ? bytes.indexOf(10) + 1 : 0;
    this.pre.replaceChildren();
    this.#append(bytes.subarray(skip));
    if (!this.next) this.pre.append(note(this.#isRunning() ? "Nothing has been written yet." : "Nothing was written."));
    this.earlier.hidden = !this.first;
    this.earlier.textContent = `Show what is before (${Math.ceil(this.first / 1024)} KiB)`;
    this.#toEnd();
  }

  async #loadEarlier() {
    const from = Math.max(0, this.first - PIECE_BYTES);
    const answer = await fetch(this.#address(`&offset=${from}&limit=${this.next - from}`));
    if (!answer.ok) return;
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const height = this.pre.scrollHeight;
    this.first = from;
    this.follow.checked = false;
    this.#restart(bytes);
    this.pre.scrollTop = this.pre.scrollHeight - height;
    this.#find();
  }

  #append(bytes) {
    const text = this.decoder.decode(bytes, { stream: true });
    if (!text) return;
    this.pre.querySelector(".note")?.remove();
    this.pre.append(...this.painter.paint(text));
    while (this.pre.childNodes.length > SHOWN_NODES_MAX) this.pre.firstChild.remove();
  }

  #isRunning() {
    return this.hasAttribute("running");
  }

  /** Read on while the attempt runs; once more after its end. */
  async #look() {
    clearTimeout(this.timer);
    const run = this.run;
    if (!run || !this.isConnected) return;
    const wasRunning = this.#isRunning();
    if (!document.hidden && this.follow.checked) {
      const answer = await fetch(this.#address(`&offset=${this.next}`)).catch(() => null);
      if (run !== this.run) return;
      if (answer?.ok) {
        const bytes = new Uint8Array(await answer.arrayBuffer());
        if (bytes.length) {
          this.next += bytes.length;
          this.#append(bytes);
          this.#toEnd();
        }
      }
    }
    if (wasRunning) this.timer = setTimeout(() => this.#look(), LOOK_MS);
  }

  #toEnd() {
    if (this.follow.checked) this.pre.scrollTop = this.pre.scrollHeight;
  }

  #find() {
    const wanted = this.query.value.toLowerCase();
    this.ranges = wanted ? rangesOf(this.pre, wanted) : [];
    this.at = -1;
    CSS.highlights?.set("found", new Highlight(...this.ranges));
    CSS.highlights?.delete("found-now");
    const many = this.ranges.length === FOUND_MAX ? "+" : "";
    this.found.textContent = wanted ? `${this.ranges.length}${many} found` : "";
    if (this.ranges.length) this.#step(1);
  }

  #step(by) {
    if (!this.ranges?.length) return;
    this.at = (this.at + by + this.ranges.length) % this.ranges.length;
    const range = this.ranges[this.at];
    this.follow.checked = false;
    CSS.highlights?.set("found-now", new Highlight(range));
    this.found.textContent = `${this.at + 1} of ${this.ranges.length}`;
    const place = range.getBoundingClientRect().top - this.pre.getBoundingClientRect().top;
    if (place < 0 || place > this.pre.clientHeight - 20) this.pre.scrollTop += place - this.pre.clientHeight / 2;
  }
}
customElements.define("log-view", LogView);

function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

function labelled(input, text) {
  const label = element("label", {});
  label.append(input, ` ${text}`);
  return label;
}

function note(text) {
  return element("span", { className: "note", textContent: text });
}

/** Where a text stands in an element, over the borders of its nodes. */
function rangesOf(root, wanted) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const nodes = [];
  const starts = [];
  let whole = "";
  while (walker.nextNode()) {
    nodes.push(walker.currentNode);
    starts.push(whole.length);
    whole += walker.currentNode.data.toLowerCase();
  }
  const ranges = [];
  let node = 0;
  const reach = (place) => {
    while (node + 1 < nodes.length && starts[node + 1] <= place) node += 1;
    return [nodes[node], Math.min(place - starts[node], nodes[node].data.length)];
  };
  for (let at = whole.indexOf(wanted); at >= 0 && ranges.length < FOUND_MAX; at = whole.indexOf(wanted, at + wanted.length)) {
    const range = new Range();
    range.setStart(...reach(at));
    range.setEnd(...reach(at + wanted.length - 1));
    range.setEnd(range.endContainer, range.endOffset + 1);
    ranges.push(range);
  }
  return ranges;
}
