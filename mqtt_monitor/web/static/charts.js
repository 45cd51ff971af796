"use strict";
// A chart of the last hour: lines in an SVG, the values at the pointer's position, and a table.

import { clock, draw, make, setText } from "./dom.js";

const HEIGHT = 130, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 20, HOUR_S = 3600, GRID = 3;
const TABLE_STEP_S = 300;

/// Returns the smallest of 3, 6, 15, 30, ... that is at least `value`. Its thirds, which label the grid, are round.
function ceiling(value) {
  if (!(value > 0)) return GRID;
  const unit = 10 ** Math.floor(Math.log10(value / GRID));
  for (const factor of [1, 2, 5, 10]) if (factor * unit * GRID >= value) return factor * unit * GRID;
  return value;
}

export class Chart {
  /// `format` returns a value as text with its unit. `axis` returns a value as short text without a unit.
  constructor(title, format, axis) {
    this.format = format;
    this.axis = axis;
    this.title = title;
    this.series = [];
    this.atS = 0;
    this.svg = draw("svg", { role: "img", height: HEIGHT });
    this.legend = make("p", { class: "legend" });
    this.reading = make("p", { class: "hint reading" });
    this.body = make("tbody");
    this.head = make("tr");
    const table = make("table", {}, make("thead", {}, this.head), this.body);
    const scroll = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${title}, as a table` }, table);
    this.box = make("details", {}, make("summary", {}, "As a table"), scroll);
    this.box.addEventListener("toggle", () => this.fillTable());
    this.element = make("figure", { class: "chart" },
      make("figcaption", {}, make("h3", {}, title), this.legend), this.svg, this.reading, this.box);
    this.svg.addEventListener("pointermove", (event) => this.read(event));
    this.svg.addEventListener("pointerleave", () => this.read(null));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /// Draws new values. `series` is [{name, points: [[time, value or null], ...]}]; `atS` is the time of the right edge. Times are in seconds since the epoch.
  update(series, atS) {
    this.series = series;
    this.atS = atS;
    this.draw();
    if (this.box.open) this.fillTable();
  }

  draw() {
    const width = Math.floor(this.element.clientWidth);
    if (width < 100) return;
    this.width = width;
    const values = this.series.flatMap(({ points }) => points.map((point) => point[1])).filter((v) => v !== null);
    const top = ceiling(Math.max(0, ...values));
    this.x = (time) => LEFT + ((time - this.atS + HOUR_S) / HOUR_S) * (width - LEFT - RIGHT);
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    for (let line = 0; line <= GRID; line++) {
      const value = (top * line) / GRID;
      parts.push(draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
      parts.push(draw("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, this.axis(value)));
    }
    for (const minutes of width < 360 ? [60, 30, 0] : [60, 45, 30, 15, 0]) {
      const anchor = minutes === 60 ? "start" : minutes === 0 ? "end" : "middle";
      const time = this.atS - minutes * 60;
      parts.push(draw("text", { x: this.x(time), y: HEIGHT - 4, "text-anchor": anchor }, clock(time, false)));
    }
    this.series.forEach(({ points }, index) => {
      let path = "", open = false;
      points.forEach(([time, value], at) => {
        if (value === null) { open = false; return; }
        const alone = !open && (points[at + 1]?.[1] ?? null) === null;
        if (alone) {
          parts.push(draw("circle", { class: `dot s${index}`, cx: Math.max(LEFT, this.x(time)), cy: y(value), r: 1 }));
          return;
        }
        const place = `${Math.max(LEFT, this.x(time)).toFixed(1)} ${y(value).toFixed(1)}`;
        path += `${open ? "L" : "M"}${place}`;
        open = true;
      });
      parts.push(draw("path", { class: `line s${index}`, d: path }));
    });
    this.cursor = draw("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, x1: -9, x2: -9 });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("aria-label", `${this.title}, last hour. ${values.length ? this.summary() : "No values yet."}`);
    this.svg.replaceChildren(...parts, this.cursor);
    const names = this.series.map(({ name }) => name).join("\n");
    if (this.names !== names) {
      this.names = names;
      this.legend.replaceChildren(...this.series.map(({ name }, index) => make("span", {}, draw("svg", { width: 22, height: 8, "aria-hidden": "true" },
        draw("path", { class: `line s${index}`, d: "M1 4H21" })), ` ${name}`)));
    }
    if (!this.pointed) setText(this.reading, values.length ? this.summary() : "No values yet.");
  }

  summary() {
    return this.series.map(({ name, points }) => {
      const last = points.findLast((point) => point[1] !== null);
      return `${name}: ${last ? this.format(last[1]) : "none"}`;
    }).join(" · ");
  }

  read(event) {
    this.pointed = Boolean(event);
    if (!event) {
      this.draw();
      return;
    }
    const box = this.svg.getBoundingClientRect();
    const time = this.atS - HOUR_S + ((event.clientX - box.left - LEFT) / (this.width - LEFT - RIGHT)) * HOUR_S;
    const points = this.series[0]?.points ?? [];
    if (!points.length) return;
    const step = points.length > 1 ? points[1][0] - points[0][0] : 60;
    const at = Math.min(points.length - 1, Math.max(0, Math.floor((time - points[0][0]) / step)));
    const x = this.x(points[at][0]);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    const words = this.series.map(({ name, points: own }) => `${name}: ${own[at]?.[1] != null ? this.format(own[at][1]) : "–"}`);
    setText(this.reading, `${clock(points[at][0], false)} ${words.join(" · ")}`);
  }

  fillTable() {
    if (!this.box.open) return;
    this.head.replaceChildren(make("th", { scope: "col", class: "left" }, "Time"),
      ...this.series.map(({ name }) => make("th", { scope: "col" }, name)));
    const slots = new Map();
    this.series.forEach(({ points }, index) => {
      for (const [time, value] of points) {
        const slot = Math.floor(time / TABLE_STEP_S) * TABLE_STEP_S;
        if (!slots.has(slot)) slots.set(slot, this.series.map(() => []));
        if (value !== null) slots.get(slot)[index].push(value);
      }
    });
    const mean = (values) => (values.length ? this.format(values.reduce((sum, value) => sum + value, 0) / values.length) : "–");
    this.body.replaceChildren(...[...slots].reverse().map(([time, cells]) => make("tr", {},
      make("th", { scope: "row", class: "left" }, clock(time, false)), ...cells.map((values) => make("td", {}, mean(values))))));
  }
}
