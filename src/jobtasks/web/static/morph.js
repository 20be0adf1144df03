// Brings what is on the page to what the server rendered anew, and touches nothing that is the same:
// focus, open menus, chosen boxes, scrolled places and running log views stay.

const policy = window.trustedTypes
  ? window.trustedTypes.createPolicy("jobtasks", { createHTML: (text) => text })
  : { createHTML: (text) => text };

const OWNED = new Set(["LOG-VIEW", "TIME-LINE", "LAZY-PART"]);
// Elements that fill themselves: only their attributes come from the server.

/** The elements of HTML that our own server has rendered. */
export function parsed(text) {
  return new DOMParser().parseFromString(policy.createHTML(text), "text/html").body;
}

/** Make the children of `old` those of `fresh`. */
export function morphChildren(old, fresh) {
  const wantedIds = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  const byId = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const found = match(place, wanted, byId);
    if (!found) {
      old.insertBefore(document.importNode(wanted, true), place);
      continue;
    }
    while (place !== found && !wantedIds.has(place?.id)) place = dropped(place);
    if (found === place) place = place.nextSibling;
    else old.insertBefore(found, place);
    morph(found, wanted);
  }
  while (place) place = dropped(place);
}

function dropped(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

/** What stands for `wanted` now: of its name, else the next of its kind from a place on. */
function match(place, wanted, byId) {
  if (wanted.id) {
    const known = byId.get(wanted.id);
    return known && known.nodeName === wanted.nodeName ? known : null;
  }
  if (wanted.nodeType !== Node.ELEMENT_NODE) {
    return place && place.nodeType === wanted.nodeType ? place : null;
  }
  for (let node = place; node; node = node.nextSibling) {
    if (!node.id && node.nodeName === wanted.nodeName && node.className === wanted.className) return node;
  }
  return place && !place.id && place.nodeName === wanted.nodeName ? place : null;
}

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.isEqualNode(fresh) && !OWNED.has(old.nodeName)) return;
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !isOfTheReader(old, name)) old.removeAttribute(name);
  }
  if (!OWNED.has(old.nodeName)) morphChildren(old, fresh);
}

function isOfTheReader(element, name) {
  return (name === "open" && element.nodeName === "DETAILS") || name === "data-busy";
}
