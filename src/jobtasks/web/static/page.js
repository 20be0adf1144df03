// What makes the pages live: parts that load themselves anew, the panel beside a list, small helps.

import "./log.js";
import "./timeline.js";
import { morphChildren, parsed } from "./morph.js";

const PART = { "X-Jobtasks-Part": "1" };

/** A part of the page that the server renders; loads itself when there is news. */
class LivePart extends HTMLElement {
  #tag = null;
  #isLoading = false;
  #isStale = false;

  async refresh() {
    if (this.#isLoading) {
      this.#isStale = true;
      return;
    }
    this.#isLoading = true;
    try {
      do {
        this.#isStale = false;
        await this.#load();
      } while (this.#isStale);
    } finally {
      this.#isLoading = false;
    }
  }

  async #load() {
    const headers = this.#tag ? { ...PART, "If-None-Match": this.#tag } : PART;
    const answer = await fetch(this.getAttribute("src"), { headers, cache: "no-store" });
    if (answer.status === 401) location.reload();
    if (answer.status !== 200) return;
    this.#tag = answer.headers.get("ETag");
    const text = await answer.text();
    performance.mark("jobtasks-update");
    morphChildren(this, parsed(text));
    performance.measure("jobtasks-update", "jobtasks-update");
    this.dispatchEvent(new CustomEvent("changed", { bubbles: true }));
  }
}
customElements.define("live-part", LivePart);

/** A part that is loaded when it is first seen: of a closed <details>, when that is opened. */
class LazyPart extends HTMLElement {
  connectedCallback() {
    const around = this.closest("details");
    if (!around || around.open) this.#load();
    else around.addEventListener("toggle", () => this.#load(), { once: true });
  }

  async #load() {
    if (this.hasAttribute("data-busy")) return;
    this.setAttribute("data-busy", "");
    const answer = await fetch(this.getAttribute("src"), { headers: PART, cache: "no-store" });
    if (answer.ok) this.replaceChildren(...parsed(await answer.text()).childNodes);
  }
}
customElements.define("lazy-part", LazyPart);

// -- news ------------------------------------------------------------------------------------------

let source = null;

function listen() {
  const parts = [...document.querySelectorAll("live-part")];
  if (!parts.length || source || document.hidden) return;
  const job = parts.map((part) => part.getAttribute("job")).find(Boolean);
  source = new EventSource(`/live${job ? `?job=${encodeURIComponent(job)}` : ""}`);
  source.addEventListener("open", () => mark("live", false));
  source.addEventListener("news", refreshAll);
  source.addEventListener("end", () => location.reload());
  source.addEventListener("error", () => mark("connecting", true));
}

function refreshAll() {
  for (const part of document.querySelectorAll("live-part, time-line")) part.refresh();
}

function mark(text, isLost) {
  const place = document.getElementById("live-mark");
  if (!place) return;
  place.hidden = false;
  if (place.textContent !== text) place.textContent = text;
  place.classList.toggle("lost", isLost);
}

// A browser has few connections to a server: pages that nobody sees give theirs back.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source?.close();
    source = null;
  } else if (!source) {
    listen();
    refreshAll();
  }
});

// -- the panel -------------------------------------------------------------------------------------

const panel = document.querySelector("aside#panel");
const HASH = "#task=";
let opener = null;

async function openPanel(address, from) {
  const answer = await fetch(address, { headers: PART, cache: "no-store" });
  if (!answer.ok) return;
  const live = document.createElement("live-part");
  live.setAttribute("src", address);
  live.append(...parsed(await answer.text()).childNodes);
  panel.replaceChildren(live);
  panel.hidden = false;
  opener = from?.id ?? opener;
  const uuid = address.split("/")[2];
  history.replaceState(null, "", HASH + uuid);
  showChosen(uuid);
  panel.focus({ preventScroll: true });
}

function closePanel() {
  if (!panel || panel.hidden) return;
  panel.hidden = true;
  panel.replaceChildren();
  history.replaceState(null, "", location.pathname + location.search);
  showChosen("");
  document.getElementById(opener)?.focus();
}

function showChosen(uuid) {
  for (const row of document.querySelectorAll(".list tr.chosen")) {
    if (!panel.contains(row)) row.classList.remove("chosen");
  }
  if (uuid) document.getElementById(uuid)?.classList.add("chosen");
}

/** Open the task that the address names. */
function openNamed() {
  const uuid = location.hash.startsWith(HASH) ? location.hash.slice(HASH.length) : "";
  if (panel && uuid) openPanel(`/tasks/${encodeURIComponent(uuid)}/panel`);
}
window.addEventListener("hashchange", openNamed);

document.addEventListener("changed", () => {
  if (panel && !panel.hidden) showChosen(location.hash.slice(HASH.length));
  describeTimes();
});

// -- clicks and keys -------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const { target } = event;
  const isPlain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
  const link = target.closest("[data-panel]");
  if (link && panel && isPlain) {
    event.preventDefault();
    openPanel(link.dataset.panel, link);
  } else if (target.closest("[data-close-panel]")) {
    closePanel();
  } else if (target.closest("[data-copy]")) {
    copy(target.closest("[data-copy]"));
  } else if (target.matches("[data-choose-all]")) {
    for (const box of document.querySelectorAll("input[name=job]")) box.checked = target.checked;
  } else if (isPlain && !target.closest("a, button, input, label, select, summary") && !String(getSelection())) {
    target.closest(".list tbody tr")?.querySelector("a")?.click();
  }
});

async function copy(button) {
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not copied";
  }
  setTimeout(() => (button.textContent = said), 1500);
}

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-send-on-change]")) event.target.form.requestSubmit();
});

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    const menu = event.target.closest("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    } else closePanel();
  } else if (event.key === "/" && !isTyping) {
    event.preventDefault();
    document.querySelector("input[type=search]")?.focus();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !isTyping) {
    moveInList(event);
  }
});

function moveInList(event) {
  const row = event.target.closest(".list tbody tr");
  const next = event.key === "ArrowDown" ? row?.nextElementSibling : row?.previousElementSibling;
  const link = next?.querySelector("a");
  if (link) {
    event.preventDefault();
    link.focus();
  }
}

// -- times -----------------------------------------------------------------------------------------

const UNITS = [
  [86400, "d", 3600, "h"],
  [3600, "h", 60, "min"],
  [60, "min", 1, "s"],
];

function ago(seconds) {
  for (const [unit, name, lower, lowerName] of UNITS) {
    if (seconds >= unit) {
      const rest = Math.floor((seconds % unit) / lower);
      return `${Math.floor(seconds / unit)} ${name}${rest ? ` ${rest} ${lowerName}` : ""} ago`;
    }
  }
  return seconds < 2 ? "now" : `${Math.floor(seconds)} s ago`;
}

/** Times as the reader's clock shows them. */
function describeTimes() {
  for (const time of document.querySelectorAll("time[data-ago], time[data-clock]")) {
    const moment = new Date(time.dateTime);
    const said = "ago" in time.dataset ? ago(Math.max(0, Date.now() - moment) / 1000) : moment.toLocaleString();
    if (time.textContent !== said) time.textContent = said;
    time.title = moment.toLocaleString();
  }
}

/** Of many sequences those at work are shown first. */
function showFrontier() {
  const frontier = document.querySelector(".level.frontier");
  if (frontier) frontier.parentElement.scrollTop = frontier.offsetTop - frontier.parentElement.clientHeight / 2;
}

setInterval(describeTimes, 1000);
showFrontier();
describeTimes();
listen();
document.querySelector("form[data-send]")?.requestSubmit();
openNamed();
