// Output of programs as text with colours: escape sequences become classes, the rest of them goes.

const SEQUENCE = /\x1b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])/g;
// A sequence that is cut off at the end of a piece waits for the rest.
const CUT = /\x1b(?:\[[0-9;:?<=>]*|\][^\x07\x1b]*)?$/;
const OVERWRITTEN = /[^\n]*\r(?!\n)(?=[^\n])/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/g;
const HELD_MAX = 4096;

/** Turns pieces of output, in order, into nodes. */
export class Painter {
  #held = "";
  #look = fresh();

  /** The nodes of the next piece. */
  paint(piece) {
    let text = this.#held + piece;
    const cut = text.slice(-HELD_MAX).match(CUT);
    this.#held = cut ? cut[0] : "";
    if (cut) text = text.slice(0, text.length - cut[0].length);
    text = text.replace(OVERWRITTEN, "");
    const nodes = [];
    let from = 0;
    for (const found of text.matchAll(SEQUENCE)) {
      this.#add(nodes, text.slice(from, found.index));
      if (found[2] === "m") this.#turn(found[1]);
      from = found.index + found[0].length;
    }
    this.#add(nodes, text.slice(from));
    return nodes;
  }

  #add(nodes, text) {
    const clean = text.replace(CONTROLS, "");
    if (!clean) return;
    const classes = [...this.#look.styles].map((number) => `a${number}`);
    for (const [name, colour] of [["f", this.#look.front], ["b", this.#look.back]]) {
      if (typeof colour === "number") classes.push(`${name}${colour}`);
    }
    if (!classes.length && !this.#look.front && !this.#look.back) {
      nodes.push(document.createTextNode(clean));
      return;
    }
    const span = document.createElement("span");
    span.className = classes.join(" ");
    if (typeof this.#look.front === "string") span.style.color = this.#look.front;
    if (typeof this.#look.back === "string") span.style.backgroundColor = this.#look.back;
    span.textContent = clean;
    nodes.push(span);
  }

  #turn(given) {
    const codes = (given || "0").split(/[;:]/).map(Number);
    const look = this.#look;
    while (codes.length) {
      const code = codes.shift();
      if (code === 0) Object.assign(look, fresh());
      else if (code >= 1 && code <= 4) look.styles.add(code);
      else if (code === 22) look.styles.delete(1), look.styles.delete(2);
      else if (code === 23 || code === 24) look.styles.delete(code - 20);
      else if (code === 39) look.front = null;
      else if (code === 49) look.back = null;
      else if (code === 38) look.front = wider(codes);
      else if (code === 48) look.back = wider(codes);
      else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) look.front = code % 10;
      else if ((code >= 40 && code <= 47) || (code >= 100 && code <= 107)) look.back = code % 10;
    }
  }
}

function fresh() {
  return { front: null, back: null, styles: new Set() };
}

/** One of 256 colours, or one of three amounts. */
function wider(codes) {
  const kind = codes.shift();
  if (kind === 2) return `rgb(${codes.splice(0, 3).map((part) => part & 255).join(" ")})`;
  if (kind !== 5) return null;
  const number = (codes.shift() ?? 0) & 255;
  if (number < 16) return number % 8;
  if (number >= 232) return `rgb(${Array(3).fill(8 + (number - 232) * 10).join(" ")})`;
  const cube = number - 16;
  const parts = [Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6];
  return `rgb(${parts.map((part) => (part ? 55 + part * 40 : 0)).join(" ")})`;
}
