"use strict";
// Creates the page's elements and formats numbers as text.

export const byId = (id) => document.getElementById(id);

// Names come from the network. They become text or attribute values, so the browser never reads them as markup.
function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") element.addEventListener("click", value);
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

// Setting an unchanged text again would disturb a screen reader, a selection and the layout.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/// Gives `parent` one child for each item, in the order of the items. An item whose key had a child keeps this child, so that the child keeps the focus.
export function keyed(parent, items, keyOf, create, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = old.get(key);
    if (!child) {
      child = create(item);
      child.dataset.key = key;
    }
    old.delete(key);
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of old.values()) child.remove();
}

const known = (value) => value !== null && value !== undefined;

// The formatters are created once. toLocaleString would create a formatter for each value, which takes 20 times as long.
const NUMBERS = [0, 1, 2].map((digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
const MINUTES = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hour12: false });
const SECONDS = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const NAMES = new Intl.Collator("en", { numeric: true });

export const inOrder = (one, other) => NAMES.compare(one, other);

export function number(value, digits = 0) {
  return known(value) ? NUMBERS[digits].format(value) : "–";
}
export const ms = (value) => (known(value) ? number(value, value < 10 ? 2 : value < 100 ? 1 : 0) : "–");
export const rate = (value) => (known(value) ? number(value, value < 100 ? 1 : 0) : "–");

export function bytes(count) {
  if (!known(count)) return "–";
  if (count < 1024) return `${Math.round(count)} B`;
  for (const [unit, size] of [["KiB", 2 ** 10], ["MiB", 2 ** 20], ["GiB", 2 ** 30]]) {
    const value = count / size;
    if (value < 1000 || unit === "GiB") return `${number(value, value < 100 ? 1 : 0)} ${unit}`;
  }
  return "–";
}
export const several = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

export function clock(time, seconds = true) {
  return (seconds ? SECONDS : MINUTES).format(time * 1000);
}
export function moment(time, now) {
  if (Math.abs(now - time) < 20 * 3600) return clock(time);
  return `${new Date(time * 1000).toLocaleDateString("en-CA")} ${clock(time)}`;
}
export function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 120) return `${number(seconds)} s`;
  if (seconds < 7200) return `${number(seconds / 60)} min`;
  if (seconds < 172800) return `${number(seconds / 3600)} h`;
  return `${number(seconds / 86400)} days`;
}
