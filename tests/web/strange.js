// For tests: what stands on a page that no template of ours makes, and what it shows.

const ODD = new Set([
  "img", "iframe", "object", "embed", "math", "base", "video", "audio", "source", "style", "marquee", "xss",
  "template", "frame", "frameset", "plaintext", "xmp", "listing", "foreignobject", "animate", "set", "textarea",
  "dialog",
]);
const ADDRESSES = /^(href|src|action|formaction|xlink:href|data|srcdoc|data-panel)$/;
const OWN_ADDRESS = /^(\/(?!\/)|[#?]|$)/;

function oddAttributes(element) {
  // Sizes, places and colours that scripts of ours give to what they draw.
  const isPainted = element.matches("log-view span, time-line canvas, time-line .tip");
  return [...element.attributes].filter(({ name, value }) =>
    name.startsWith("on") || name === "srcdoc" || name === "http-equiv" || name === "contenteditable"
    || (name === "style" && !isPainted) || (ADDRESSES.test(name) && !OWN_ADDRESS.test(value)));
}

function strangeIn(root) {
  return [...root.querySelectorAll("*")].filter((element) => {
    const name = element.localName.toLowerCase();
    if (name === "script") return element.getAttribute("src") !== "/static/page.js";
    return ODD.has(name) || oddAttributes(element).length;
  }).map((element) => element.outerHTML.slice(0, 200));
}

/** What this page shows, and what is strange on it. */
function look(at = location.href) {
  return {
    at,
    strange: strangeIn(document),
    text: document.body.textContent,
    title: document.title.replace(/\s/g, ""),
    values: [...document.querySelectorAll("input")].map((input) => input.value.replace(/\s/g, "")).join("\n"),
    log: document.querySelector("log-view pre")?.textContent.replace(/\s/g, "") ?? "",
  };
}

/** What the page's first part shows of each of these addresses. */
async function inTurn(addresses) {
  const part = document.querySelector("live-part");
  const found = [];
  for (const address of addresses) {
    part.querySelector("log-view")?.remove();
    part.setAttribute("src", address);
    await part.refresh();
    while ([...document.querySelectorAll("log-view")].some((view) => !view.pre?.textContent)) {
      await new Promise((done) => setTimeout(done, 5));
    }
    found.push(look(address));
  }
  return found;
}

/** Whether a text is more than text when it is not escaped: between tags, or in an attribute. */
function isDangerous(payload) {
  const asMarkup = (text) => new DOMParser().parseFromString(text, "text/html");
  const places = [`<p>${payload}</p>`, `<p title="${payload}">`, `<p title='${payload}'>`, `<a href="${payload}">`];
  return places.some((text) => strangeIn(asMarkup(text)).length);
}

function sendPriority(text) {
  const field = document.querySelector("#priority");
  field.type = "text";
  field.value = text;
  field.form.requestSubmit();
}

Object.assign(window, { look, inTurn, isDangerous, sendPriority });
