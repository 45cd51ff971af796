"use strict";
(() => {
  // ---------------------------------------------------------------- the model
  const model = JSON.parse(document.getElementById("model").textContent);
  const ops = model.operators;
  const n = ops.length;
  const tensors = new Map(model.tensors.map((tensor) => [tensor.index, tensor]));
  const possible = model.positions.filter((at) => at.cut_allowed).map((at) => at.position);
  const wrappedBy = new Map();
  for (const operation of model.wrapped_operations) {
    for (const index of operation.operators) {
      wrappedBy.set(index, [...(wrappedBy.get(index) || []), operation]);
    }
  }
  const macsBefore = [0];
  for (const op of ops) macsBefore.push(macsBefore[macsBefore.length - 1] + op.macs);

  // An activation crosses position p if and only if producer < p <= lastUse.
  const producerOf = new Map(model.inputs.map((tensor) => [tensor.index, -1]));
  const usesOf = new Map();
  for (const op of ops) {
    for (const index of op.outputs) producerOf.set(index, op.index);
    for (const index of op.inputs) usesOf.set(index, [...(usesOf.get(index) || []), op.index]);
  }
  const outputs = new Set(model.outputs.map((tensor) => tensor.index));
  const spans = [...producerOf].map(([index, producer]) => {
    const uses = usesOf.get(index) || [];
    const lastUse = outputs.has(index) ? n : uses.length ? uses[uses.length - 1] : producer;
    return { size: tensors.get(index).size_bytes, producer, uses, lastUse };
  });

  function weightBytes(start, stop) {
    const distinct = new Set(ops.slice(start, stop).flatMap((op) => op.constants));
    return [...distinct].reduce((sum, index) => sum + tensors.get(index).size_bytes, 0);
  }

  // Largest sum of activations of operators [start, stop) that are alive at once. The same rule as
  // Graph.peak_activation_bytes in Python.
  function peakActivationBytes(start, stop) {
    const change = new Array(stop - start + 1).fill(0);
    for (const { size, producer, uses, lastUse } of spans) {
      let born, dead;
      if (producer < start) {
        if (!uses.some((use) => start <= use && use < stop)) continue;
        [born, dead] = [start, stop];
      } else if (producer < stop) {
        [born, dead] = [producer, Math.min(lastUse + 1, stop)];
      } else continue;
      change[born - start] += size;
      change[dead - start] -= size;
    }
    let live = 0, peak = 0;
    for (const step of change.slice(0, -1)) peak = Math.max(peak, (live += step));
    return peak;
  }

  // Returns the cuts into `count` parts that send the fewest bytes. Each part has at least half as
  // much work as with an equal split. Returns null if there are no such cuts.
  function suggest(count) {
    const work = model.macs > 0 ? (a, b) => macsBefore[b] - macsBefore[a] : (a, b) => b - a;
    const least = work(0, n) / count / 2;
    const stops = [0, ...possible, n];
    let best = stops.map((stop, at) => (at === 0 ? { cost: 0, cuts: [] } : null));
    for (let part = 0; part < count; part++) {
      const last = part === count - 1;
      best = stops.map((stop, at) => {
        if (last ? stop !== n : stop === n) return null;
        let found = null;
        for (let from = 0; from < at; from++) {
          const before = best[from];
          if (!before || work(stops[from], stop) < least) continue;
          const cost = before.cost + (last ? 0 : model.positions[stop].live_bytes);
          if (!found || cost < found.cost) found = { cost, before, stop };
        }
        return found;
      });
    }
    let step = best[best.length - 1];
    if (!step) return null;
    const cuts = [];
    for (step = step.before; step && step.stop; step = step.before) cuts.unshift(step.stop);
    return cuts;
  }

  // ---------------------------------------------------------------- words and elements
  const byId = (id) => document.getElementById(id);

  function make(tag, attributes = {}, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }
  function draw(tag, attributes = {}, ...children) {
    return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  }
  // Names come from untrusted models: they become text and attribute values, never markup.
  function fill(element, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "onclick") element.addEventListener("click", value);
      else if (value !== null && value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }

  function bytes(count) {
    if (count < 1024) return `${count} B`;
    for (const [unit, size] of [["KiB", 2 ** 10], ["MiB", 2 ** 20], ["GiB", 2 ** 30]]) {
      const value = count / size;
      if (value < 1024 || unit === "GiB") return `${value.toFixed(value < 100 ? 1 : 0)} ${unit}`;
    }
  }
  function big(count) {
    for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
      if (count >= size) return `${(count / size).toFixed(count / size < 100 ? 1 : 0)} ${unit}`;
    }
    return String(count);
  }
  const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");
  const shapeOf = (tensor) => (tensor.shape.length ? tensor.shape.join("×") : "scalar");
  const describe = (tensor) => `${shapeOf(tensor)} ${tensor.dtype}, ${bytes(tensor.size_bytes)}`;
  const several = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
  const countClass = (count) => (count <= 1 ? "n1" : count === 2 ? "n2" : "n3");
  // The converter joins the names of fused operations with ";", which makes very long names.
  const firstName = (tensor) =>
    tensor.name.split(";")[0] + (tensor.name.includes(";") ? " …" : "");
  const layerOf = (op) => op.layer || op.kind;

  function middle(text, length) {
    if (text.length <= length) return text;
    const tail = Math.floor(((length - 1) * 2) / 3);
    return `${text.slice(0, length - 1 - tail)}…${text.slice(text.length - tail)}`;
  }

  // Shortens like `middle`, to a width in pixels in the graph's font.
  const ruler = document.createElement("canvas").getContext("2d");
  const family = getComputedStyle(document.body).fontFamily;
  function widthOf(text, font) {
    ruler.font = `${font} ${family}`;
    return ruler.measureText(text).width;
  }
  function fit(text, width, font) {
    let length = Math.min(text.length, 200);
    while (length > 4 && widthOf(middle(text, length), font) > width) length--;
    return middle(text, length);
  }

  // "x + 3" -> "+ 3": the operation without its input.
  const badge = (operation) => middle(operation.expression.replace(/^x /, ""), 22);

  const KINDS = [
    ["conv", "Convolution", /^(CONV_|TRANSPOSE_CONV)/],
    ["depthwise", "Depthwise", /^DEPTHWISE/],
    ["dense", "Dense, matrix product", /^(FULLY_CONNECTED|BATCH_MATMUL|.*(LSTM|RNN|EMBEDDING).*)/],
    ["activation", "Activation", /(RELU|SWISH|LOGISTIC|TANH|SOFTMAX|^ELU|GELU|^EXP$|RSQRT|SQRT)/],
    ["arithmetic", "Arithmetic", /^(ADD|SUB|MUL|DIV|POW|MAXIMUM|MINIMUM|SQUARE|NEG|ABS|ADD_N|FLOOR|GREATER|LESS|EQUAL|NOT_EQUAL|LOGICAL|SELECT)/],
    ["reduce", "Pooling, reduction", /(POOL|MEAN|^SUM$|REDUCE|ARG_M|CUMSUM|NORMALIZATION)/],
    ["move", "Shape and movement", /(RESHAPE|CONCAT|PAD|TRANSPOSE|SLICE|SPLIT|PACK|SQUEEZE|GATHER|EXPAND|BROADCAST|TILE|RESIZE|SPACE|SHAPE|CAST|QUANTIZE|REVERSE)/],
    ["other", "Other", /./],
  ];
  const groupOf = (kind) => KINDS.find(([, , pattern]) => pattern.test(kind))[0];

  // ---------------------------------------------------------------- state
  let cuts = [];
  let reading = possible.length ? possible[Math.floor(possible.length / 2)] : null;
  let selected = null;
  let kept = [];

  function setCuts(next) {
    cuts = [...new Set(next)].sort((a, b) => a - b);
    drawChart();
    drawCutLines();
    showParts();
    showReading();
    if (selected !== null) showDetails(selected);
    byId("announce").textContent = `${several(cuts.length + 1, "part")}`;
  }
  function toggleCut(position) {
    if (!model.positions[position].cut_allowed) return;
    setCuts(cuts.includes(position) ? cuts.filter((cut) => cut !== position) : [...cuts, position]);
  }

  // Makes or removes a cut, for controls outside the graph. The graph scrolls to a new cut.
  function toggleCutAndLook(position) {
    toggleCut(position);
    if (cuts.includes(position)) lookAt(position);
  }

  // ---------------------------------------------------------------- header
  function showHeader() {
    byId("name").textContent = model.name;
    byId("tags").textContent = [
      model.quantization === "as-given" ? "TFLite as given" : `quantization ${model.quantization}`,
      `${model.weights} weights`,
    ].join(" · ");
    const facts = [
      ["Operators", n.toLocaleString("en")],
      ["Multiply-accumulates", big(model.macs)],
      ["Parameters", big(model.parameters)],
      ["Weights", bytes(model.weight_bytes)],
      ["Possible cuts", `${possible.length}, ${model.cuts_with_several_tensors} cross several tensors`],
      ...model.inputs.map((tensor) => [
        "Input",
        `${tensor.name} ${shapeOf(tensor)} ${tensor.dtype}`
          + (tensor.pixels ? `, pictures as ${tensor.pixels.words}` : ""),
      ]),
      ...model.outputs.map((tensor) => [
        "Output", `${middle(firstName(tensor), 60)} ${shapeOf(tensor)} ${tensor.dtype}`,
      ]),
    ];
    byId("facts").append(
      ...facts.map(([term, value]) => make("div", {}, make("dt", {}, term), make("dd", {}, value))),
    );
  }

  // ---------------------------------------------------------------- the chart
  const chart = byId("chart");
  const LEFT = 58, TOP = 20, STRIP = 30, FOOT = 18;
  let chartScale = null;

  function drawChart() {
    const { width, height } = chart.getBoundingClientRect();
    if (!width) return;
    const inner = model.positions.slice(1, n);
    const sizes = inner.map((at) => at.live_bytes).filter((size) => size > 0);
    const floor = 10 ** Math.floor(Math.log10(Math.max(1, Math.min(...sizes, Infinity) === Infinity ? 1 : Math.min(...sizes)))) * 0.8;
    const top = Math.max(floor * 10, ...sizes);
    const base = height - FOOT - STRIP - 6;
    const step = (width - LEFT - 8) / Math.max(1, n - 1);
    const x = (position) => LEFT + (position - 0.5) * step;
    const y = (size) => base - ((base - TOP) * Math.log(Math.max(size, floor) / floor)) / Math.log(top / floor);
    const most = Math.max(1, ...inner.map((at) => at.tensors.length));
    chartScale = { step };
    const picture = draw("svg", { "aria-hidden": "true", width, height });

    for (const tick of [1, 10, 100].flatMap((value) => [value, value * 2 ** 10, value * 2 ** 20, value * 2 ** 30])) {
      if (tick < floor || tick > top) continue;
      picture.append(
        draw("line", { class: "grid", x1: LEFT, x2: width - 8, y1: y(tick), y2: y(tick) }),
        draw("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, bytes(tick).replace(".0", "")),
      );
    }
    for (const at of inner) {
      const bar = Math.max(step - (step > 4 ? 1 : 0), 0.6);
      const left = x(at.position) - bar / 2;
      const count = at.tensors.length;
      const look = at.cut_allowed ? countClass(count) : "no";
      const tall = ((STRIP - 4) * count) / most;
      picture.append(
        draw("rect", { class: look, x: left, y: y(at.live_bytes), width: bar, height: Math.max(base - y(at.live_bytes), 1) }),
        draw("rect", { class: look, x: left, y: height - FOOT - tall, width: bar, height: tall }),
      );
    }
    picture.append(
      draw("text", { x: LEFT - 6, y: height - FOOT - STRIP / 2 + 4, "text-anchor": "end" }, "tensors"),
      draw("text", { x: LEFT, y: height - 4 }, "after operator 0"),
      draw("text", { x: width - 8, y: height - 4, "text-anchor": "end" }, `${Math.max(n - 2, 0)}`),
    );
    if (reading !== null) {
      picture.append(draw("line", { class: "at", x1: x(reading), x2: x(reading), y1: TOP - 4, y2: height - FOOT }));
    }
    cuts.forEach((cut, index) => {
      picture.append(
        draw("line", { class: "chosen", x1: x(cut), x2: x(cut), y1: TOP - 4, y2: height - FOOT }),
        draw("circle", { class: "flag", cx: x(cut), cy: TOP - 10, r: 9 }),
        draw("text", { class: "flag-text", x: x(cut), y: TOP - 6 }, String(index + 1)),
      );
    });
    chart.replaceChildren(picture);
  }

  function nearestCut(event) {
    const left = chart.getBoundingClientRect().left;
    const wanted = Math.round((event.clientX - left - LEFT) / chartScale.step + 0.5);
    return possible.reduce((best, at) => (Math.abs(at - wanted) < Math.abs(best - wanted) ? at : best));
  }
  function read(position) {
    if (position === undefined || position === reading) return;
    reading = position;
    drawChart();
    showReading();
  }
  function readBy(steps) {
    const at = Math.min(Math.max(possible.indexOf(reading) + steps, 0), possible.length - 1);
    read(possible[at]);
  }

  function showReading() {
    if (reading === null) {
      byId("reading").textContent = "This model has no possible cut.";
      for (const id of ["previous-cut", "next-cut", "toggle-cut"]) byId(id).disabled = true;
      return;
    }
    const at = model.positions[reading];
    const op = ops[reading - 1];
    const isCut = cuts.includes(reading);
    const summary = `${bytes(at.live_bytes)} in ${several(at.tensors.length, "tensor")}`;
    byId("toggle-cut").textContent = isCut ? "Remove cut" : "Cut here";
    byId("toggle-cut").setAttribute("aria-pressed", String(isCut));
    chart.setAttribute("aria-valuemin", possible[0]);
    chart.setAttribute("aria-valuemax", possible[possible.length - 1]);
    chart.setAttribute("aria-valuenow", reading);
    chart.setAttribute(
      "aria-valuetext", `after operator ${op.index}, ${layerOf(op)}: ${summary}${isCut ? ", cut" : ""}`,
    );
    byId("reading").replaceChildren(
      make("div", {},
        make("b", {}, summary), " after operator ",
        make("button", { type: "button", class: "link", onclick: () => focusOperator(op.index) }, `${op.index} ${layerOf(op)}`),
        `, ${percent(macsBefore[reading], model.macs)} of the multiply-accumulates before it`),
      make("ul", {}, at.tensors.map((index) => {
        const tensor = tensors.get(index);
        return make("li", { title: tensor.name }, `${middle(firstName(tensor), 90)}: ${describe(tensor)}`);
      })),
    );
  }

  chart.addEventListener("pointermove", (event) => {
    if (possible.length && event.pointerType === "mouse") read(nearestCut(event));
  });
  chart.addEventListener("click", (event) => {
    if (!possible.length) return;
    const at = nearestCut(event);
    read(at);
    // Bars are narrower than a finger, so a touch only selects a position. The button then cuts.
    if (event.pointerType !== "touch") toggleCutAndLook(at);
  });
  chart.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
    if (!possible.length) return;
    if (event.key in steps) readBy(steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") toggleCutAndLook(reading);
    else return;
    event.preventDefault();
  });
  byId("previous-cut").addEventListener("click", () => readBy(-1));
  byId("next-cut").addEventListener("click", () => readBy(1));
  byId("toggle-cut").addEventListener("click", () => toggleCutAndLook(reading));

  // ---------------------------------------------------------------- the parts
  function partsOf(chosen) {
    const bounds = [0, ...chosen, n];
    return bounds.slice(1).map((stop, index) => {
      const start = bounds[index];
      return {
        start, stop,
        macs: macsBefore[stop] - macsBefore[start],
        weights: weightBytes(start, stop),
        peak: peakActivationBytes(start, stop),
        arriving: model.positions[start],
        leaving: model.positions[stop],
      };
    });
  }

  function table(target, columns, rows) {
    target.replaceChildren(
      make("thead", {}, make("tr", {}, columns.map(([name, look]) => make("th", { scope: "col", class: look }, name)))),
      make("tbody", {}, rows.map((cells) => make("tr", {}, cells.map((cell, at) => {
        const [content, attributes] = Array.isArray(cell) ? cell : [cell, {}];
        return make("td", { class: columns[at][1], "data-label": columns[at][0], ...attributes }, make("span", {}, content));
      })))),
    );
  }

  function showParts() {
    const parts = partsOf(cuts);
    table(byId("parts"),
      [["Part", "left"], ["Operators", ""], ["MACs", ""], ["Weights", ""], ["Activations ≥", ""],
        ["Bytes in", ""], ["Bytes out", ""]],
      parts.flatMap((part, index) => {
        const bar = make("i", { class: "share", style: `width:${Math.round((40 * part.macs) / Math.max(model.macs, 1))}px` });
        const names = part.leaving.tensors.map((tensor) => tensors.get(tensor));
        return [[
          `part ${index}`,
          part.stop - part.start === 1 ? `${part.start}` : `${part.start}–${part.stop - 1}`,
          [wrap(bar, `${big(part.macs)} · ${percent(part.macs, model.macs)}`), { "data-macs": part.macs }],
          [bytes(part.weights), { "data-weights": part.weights }],
          [bytes(part.peak), { "data-peak": part.peak }],
          [bytes(part.arriving.live_bytes), { "data-bytes-in": part.arriving.live_bytes }],
          [bytes(part.leaving.live_bytes), { "data-bytes-out": part.leaving.live_bytes }],
        ], [[wrap(`${part.stop === n ? "answers with" : "sends"} `,
          names.map((tensor, at) => make("span", { class: "tensor", title: tensor.name },
            `${middle(firstName(tensor), 64)} `, make("b", {}, shapeOf(tensor)), at < names.length - 1 ? ", " : ""))),
        { colspan: 7, class: "sends" }]]];
      }));
    byId("command-box").hidden = !cuts.length;
    byId("command").textContent = splitCommand();
    byId("keep-split").disabled = !cuts.length || kept.some((other) => String(other) === String(cuts));
    byId("clear-cuts").disabled = !cuts.length;
    for (const button of byId("suggestions").children) {
      button.setAttribute("aria-pressed", String(button.dataset.cuts === String(cuts)));
    }
    showKept();
  }
  function wrap(...children) {
    return make("span", {}, ...children);
  }

  function showKept() {
    byId("kept-box").hidden = !kept.length;
    if (!kept.length) return;
    const now = cuts.length && !kept.some((other) => String(other) === String(cuts)) ? [cuts] : [];
    table(byId("kept"),
      [["Cut after", "left name"], ["Parts", ""], ["Bytes sent in total", ""], ["Largest share of MACs", ""],
        ["Most weights", ""], ["Most activations ≥", ""], ["", "left"]],
      [...kept, ...now].map((chosen) => {
        const parts = partsOf(chosen);
        const most = (value) => Math.max(...parts.map(value));
        const sent = chosen.reduce((sum, cut) => sum + model.positions[cut].live_bytes, 0);
        const same = String(chosen) === String(cuts);
        const isKept = kept.includes(chosen);
        return [
          chosen.map((cut) => cut - 1).join(", ") + (same ? " (shown)" : ""),
          String(parts.length),
          [bytes(sent), { "data-sent": sent }],
          percent(most((part) => part.macs), model.macs),
          bytes(most((part) => part.weights)),
          bytes(most((part) => part.peak)),
          isKept ? wrap(
            make("button", { type: "button", disabled: same ? "" : null, onclick: () => setCuts(chosen) }, "Show"), " ",
            make("button", { type: "button", onclick: () => { kept = kept.filter((other) => other !== chosen); showParts(); } }, "Drop"),
          ) : "not kept",
        ];
      }));
  }

  const quote = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);
  function splitCommand() {
    const names = cuts.map((cut) => model.positions[cut].cut_name);
    if (names.includes(null)) return "# no command: the operator before one of the cuts has no name";
    return [...model.split_command, ...names.flatMap((name) => ["--cut", name])].map(quote).join(" ");
  }

  function showSuggestions() {
    const most = Math.min(8, possible.length + 1);
    for (let count = 2; count <= most; count++) {
      const found = suggest(count);
      if (!found) continue;
      byId("suggestions").append(make("button", {
        type: "button", "data-cuts": String(found), "aria-pressed": "false",
        "aria-label": `Suggested cuts for ${count} parts`,
        onclick: () => {
          setCuts(found);
          lookAt(found[0]);
        },
      }, String(count)));
    }
  }
  byId("clear-cuts").addEventListener("click", () => setCuts([]));
  byId("keep-split").addEventListener("click", () => {
    kept.push(cuts);
    showParts();
  });
  byId("copy").addEventListener("click", async () => {
    const say = (word) => {
      byId("copy").textContent = word;
      setTimeout(() => (byId("copy").textContent = "Copy"), 1500);
    };
    try {
      await navigator.clipboard.writeText(byId("command").textContent);
      say("Copied");
    } catch {
      getSelection().selectAllChildren(byId("command"));
      say(document.execCommand("copy") ? "Copied" : "Selected");
    }
  });

  // ---------------------------------------------------------------- the graph's layout
  // Each operator has its own row, in execution order, so a cut is a straight line across the
  // tensors that the cut sends. A lane is a column of operators: each branch of the model has a
  // lane. A track lies between lanes. It is for a tensor whose lanes have operators in its way.
  const BOLD = "600 12.5px", SMALL = "11px", BADGE = "700 12px";
  const ROW = 70, BOX_W = 268, BOX_H = 44, TRACK = 9, GUTTER = 22, MARGIN = 128;

  function layOut() {
    const nodes = [];
    const rowOfInput = new Map(), rowOfOp = new Map();
    for (const tensor of model.inputs) {
      rowOfInput.set(tensor.index, nodes.length);
      nodes.push({ title: tensor.name, sub: `input · ${shapeOf(tensor)} ${tensor.dtype}`, reads: [] });
    }
    for (const op of ops) {
      rowOfOp.set(op.index, nodes.length);
      nodes.push({ op, reads: op.inputs });
    }
    for (const tensor of model.outputs) {
      nodes.push({ title: firstName(tensor), sub: `output · ${shapeOf(tensor)} ${tensor.dtype}`, reads: [tensor.index] });
    }
    const rowOfMaker = (index) => {
      const producer = producerOf.get(index);
      return producer === -1 ? rowOfInput.get(index) : rowOfOp.get(producer);
    };
    const lastUse = nodes.map((_, row) => row);
    nodes.forEach((node, row) => {
      node.row = row;
      node.edges = node.reads.map((index) => ({ from: rowOfMaker(index), to: row, index }))
        .filter((edge) => edge.from !== undefined && edge.from < row);
      for (const edge of node.edges) lastUse[edge.from] = row;
    });

    const lastInLane = [], rowsInLane = [];
    for (const node of nodes) {
      const from = node.edges.map((edge) => edge.from);
      const going = from.map((row) => nodes[row].lane).filter((lane) => from.includes(lastInLane[lane]));
      let lane = going.length ? Math.min(...going) : 0;
      if (!going.length) {
        while (lastInLane[lane] !== undefined && lastUse[lastInLane[lane]] > node.row) lane++;
      }
      node.lane = lane;
      lastInLane[lane] = node.row;
      (rowsInLane[lane] ||= []).push(node.row);
    }

    const isClear = (lane, from, to) => !rowsInLane[lane].some((row) => from < row && row < to);
    const edges = nodes.flatMap((node) => node.edges);
    const detours = new Map();
    for (const edge of edges) {
      const a = nodes[edge.from].lane, b = nodes[edge.to].lane;
      // `way` says where the edge's line changes lanes: "there" at its start, so that it runs in
      // the target's lane, "here" at its end, or "track" for a line between the lanes. A fork
      // prefers "there" and a join prefers "here", so tensors that cross the same cut lie side by
      // side.
      const clear = { there: isClear(b, edge.from, edge.to), here: isClear(a, edge.from, edge.to) };
      const ways = b < a ? ["here", "there"] : ["there", "here"];
      const way = ways.find((one) => clear[one]);
      if (way) edge.way = way;
      else {
        edge.way = "track";
        edge.gutter = Math.min(a, b);
        const key = `${edge.gutter} ${edge.index}`;
        const run = detours.get(key) || { gutter: edge.gutter, start: edge.from, stop: edge.to, edges: [] };
        run.stop = Math.max(run.stop, edge.to);
        run.edges.push(edge);
        detours.set(key, run);
      }
    }
    const tracks = rowsInLane.map(() => []);
    // Short lines are placed first, so they get the tracks next to their lane. Long lines get the
    // outer tracks.
    for (const run of [...detours.values()].sort((a, b) => a.stop - a.start - (b.stop - b.start))) {
      const taken = tracks[run.gutter];
      let at = taken.findIndex((runs) => runs.every((other) => other.stop <= run.start || other.start >= run.stop));
      if (at < 0) at = taken.push([]) - 1;
      taken[at].push(run);
      for (const edge of run.edges) edge.track = at;
    }
    const laneX = [];
    let x = 0;
    rowsInLane.forEach((_, lane) => {
      laneX.push(x);
      x += BOX_W + GUTTER + tracks[lane].length * TRACK + 8;
    });
    return { nodes, edges, laneX, width: x, height: nodes.length * ROW, firstRow: model.inputs.length };
  }

  const layout = layOut();
  const top = (row) => row * ROW + (ROW - BOX_H) / 2;
  const cutY = (position) => (layout.firstRow + position) * ROW;
  const laneMiddle = (lane) => layout.laneX[lane] + BOX_W / 2;

  function route(edge) {
    const from = layout.nodes[edge.from], to = layout.nodes[edge.to];
    const x0 = laneMiddle(from.lane), x1 = laneMiddle(to.lane);
    const y0 = top(edge.from) + BOX_H, y1 = top(edge.to);
    // A line may turn below the cut after its producer (y = leave), or below the cut before its
    // consumer (y = enter).
    const leave = y0 + 17, enter = y1 - 5;
    let turns;
    if (edge.way === "track") {
      const x = layout.laneX[edge.gutter] + BOX_W + 14 + edge.track * TRACK;
      turns = [[x0, leave], [x, leave], [x, enter], [x1, enter]];
    } else if (x0 === x1) turns = [];
    else if (edge.way === "there") turns = [[x0, leave], [x1, leave]];
    else turns = [[x0, enter], [x1, enter]];
    return rounded([[x0, y0], ...turns, [x1, y1]]);
  }
  function rounded(points) {
    let path = `M${points[0]}`;
    for (let at = 1; at < points.length - 1; at++) {
      const [before, here, after] = points.slice(at - 1, at + 2);
      const toward = (other) => {
        const dx = other[0] - here[0], dy = other[1] - here[1];
        const length = Math.hypot(dx, dy) || 1;
        const radius = Math.min(4, length / 2);
        return [here[0] + (dx / length) * radius, here[1] + (dy / length) * radius];
      };
      path += `L${toward(before)}Q${here},${toward(after)}`;
    }
    return `${path}L${points[points.length - 1]}`;
  }

  // ---------------------------------------------------------------- the graph's picture
  const graph = byId("graph"), panel = byId("graph-panel");
  const world = draw("g"), bandLayer = draw("g"), lineLayer = draw("g");
  const nodeOf = new Map();
  const edgeElements = [];

  function drawGraph() {
    const liveLayer = draw("g", { "aria-hidden": "true" });
    const edgeLayer = draw("g", { "aria-hidden": "true" });
    const nodeLayer = draw("g");
    const sizes = possible.map((at) => model.positions[at].live_bytes);
    const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
    for (const position of possible) {
      const at = model.positions[position];
      const share = most > least ? Math.log(Math.max(at.live_bytes, 1) / Math.max(least, 1)) / Math.log(most / Math.max(least, 1)) : 1;
      const length = 4 + 48 * share;
      liveLayer.append(draw("g", { class: "live", "data-cut": position },
        draw("title", {}, `Cut after operator ${position - 1}: ${bytes(at.live_bytes)} in ${several(at.tensors.length, "tensor")}`),
        draw("rect", { class: "hot", x: -MARGIN, y: cutY(position) - 14, width: MARGIN - 14, height: 28, rx: 4 }),
        draw("rect", { class: countClass(at.tensors.length), x: -20 - length, y: cutY(position) - 5, width: length, height: 10, rx: 2 }),
        draw("text", { x: -26 - length, y: cutY(position) + 4 }, bytes(at.live_bytes))));
    }
    for (const edge of layout.edges) {
      const tensor = tensors.get(edge.index);
      const path = draw("path", {
        class: "edge", d: route(edge),
        "stroke-width": (1 + Math.max(0, Math.log10(Math.max(tensor.size_bytes, 1)) - 2) * 0.7).toFixed(2),
      }, draw("title", {}, `${firstName(tensor)}: ${describe(tensor)}`));
      edgeElements.push([edge, path]);
      edgeLayer.append(path);
    }
    for (const node of layout.nodes) nodeLayer.append(drawNode(node));
    world.append(bandLayer, liveLayer, edgeLayer, nodeLayer, lineLayer);
    graph.append(world);
    if (n) nodeOf.get(0).setAttribute("tabindex", "0");
  }

  function drawNode(node) {
    const x = layout.laneX[node.lane], y = top(node.row), op = node.op;
    const box = draw("rect", { class: "box", x, y, width: BOX_W, height: BOX_H, rx: 7 });
    if (!op) {
      return draw("g", { class: "end" }, draw("title", {}, node.title), box,
        draw("text", { class: "layer", x: x + 14, y: y + 18 }, fit(node.title, BOX_W - 24, BOLD)),
        draw("text", { class: "sub", x: x + 14, y: y + 34 }, fit(node.sub, BOX_W - 24, SMALL)));
    }
    const operations = wrappedBy.get(op.index) || [];
    const shape = op.outputs.length ? shapeOf(tensors.get(op.outputs[0])) : "";
    const size = `${middle(shape, 18)}${op.macs ? ` · ${big(op.macs)}` : ""}`;
    const told = operations.map((operation) => `, wrapped: ${operation.expression}`).join("");
    const element = draw("g", {
      class: `node${operations.length ? " is-wrapped" : ""}`, tabindex: "-1", role: "button", "data-op": op.index,
      "aria-label": `Operator ${op.index}, ${op.kind}, ${layerOf(op)}, ${shape}${told}`,
    },
    draw("title", {}, `${op.index} ${op.kind} · ${layerOf(op)}`), box,
    draw("rect", { x: x + 4, y: y + 5, width: 5, height: BOX_H - 10, rx: 2, fill: `var(--k-${groupOf(op.kind)})` }),
    draw("text", { class: "layer", x: x + 16, y: y + 18 }, fit(layerOf(op), BOX_W - 24, BOLD)),
    draw("text", { class: "sub", x: x + 16, y: y + 34 }, fit(`${op.index} · ${op.kind}`, BOX_W - 30 - widthOf(size, SMALL), SMALL)),
    draw("text", { class: "sub", x: x + BOX_W - 8, y: y + 34, "text-anchor": "end" }, size));
    if (operations.length) {
      const text = operations.map(badge).join("  ");
      const width = 16 + widthOf(text, BADGE);
      element.append(
        draw("rect", { class: "wrap-badge", x: x + BOX_W - width - 6, y: y - 14, width, height: 19, rx: 9.5 }),
        draw("text", { class: "wrap-text", x: x + BOX_W - 6 - width / 2, y }, text));
    }
    nodeOf.set(op.index, element);
    return element;
  }

  function drawCutLines() {
    const left = -MARGIN - 10, wide = layout.width - left + 20;
    const edges = [0, ...cuts, n];
    bandLayer.replaceChildren(...edges.slice(1).flatMap((stop, part) => part % 2 === 0 || !cuts.length ? [] : [
      draw("rect", { class: "band", x: left, y: cutY(edges[part]), width: wide, height: cutY(stop) - cutY(edges[part]) }),
    ]));
    lineLayer.replaceChildren(...cuts.map((cut, index) => {
      const at = model.positions[cut];
      // The bytes of the cut are on the left, so this text is to the right of the first lane's line.
      const text = `cut ${index + 1}: ${several(at.tensors.length, "tensor")}`;
      const x = laneMiddle(0) + 10;
      return draw("g", { "pointer-events": "none" },
        draw("line", { class: "cut-line", x1: -14, x2: left + wide, y1: cutY(cut), y2: cutY(cut) }),
        draw("rect", { class: "cut-back", x: x - 3, y: cutY(cut) - 8, width: widthOf(text, BADGE) + 6, height: 16, rx: 4 }),
        draw("text", { class: "cut-text", x, y: cutY(cut) + 4 }, text));
    }));
  }

  // ---------------------------------------------------------------- pan and zoom
  let view = { x: 0, y: 0, k: 1 };
  const LEAST_ZOOM = 0.02, MOST_ZOOM = 4;

  function setView(next) {
    view = { ...next, k: Math.min(Math.max(next.k, LEAST_ZOOM), MOST_ZOOM) };
    // A part of the graph always stays visible.
    const { width, height } = panel.getBoundingClientRect();
    view.x = Math.min(Math.max(view.x, 60 - layout.width * view.k), width - 60 + MARGIN * view.k);
    view.y = Math.min(Math.max(view.y, 60 - layout.height * view.k), height - 60);
    world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
  }
  function zoomAt(factor, clientX, clientY) {
    const area = panel.getBoundingClientRect();
    const px = (clientX ?? area.left + area.width / 2) - area.left;
    const py = (clientY ?? area.top + area.height / 2) - area.top;
    const k = Math.min(Math.max(view.k * factor, LEAST_ZOOM), MOST_ZOOM);
    setView({ k, x: px - ((px - view.x) * k) / view.k, y: py - ((py - view.y) * k) / view.k });
  }
  function fitWidth() {
    const { width } = panel.getBoundingClientRect();
    const k = Math.min(Math.max(width / (layout.width + MARGIN + 24), 0.6), 1.15);
    const spare = Math.max(0, width - (layout.width + MARGIN + 24) * k);
    setView({ k, x: (MARGIN + 14) * k + Math.min(spare / 2, 160), y: 14 });
  }
  function fitAll() {
    const { width, height } = panel.getBoundingClientRect();
    const k = Math.min((width - 24) / (layout.width + MARGIN), (height - 24) / layout.height, 1.15);
    setView({ k, x: (width - (layout.width + MARGIN) * k) / 2 + MARGIN * k, y: (height - layout.height * k) / 2 });
  }
  function lookAt(position) {
    const { height } = panel.getBoundingClientRect();
    setView({ ...view, y: height * 0.3 - cutY(position) * view.k });
  }
  function bringIntoView(index, centre) {
    const node = layout.nodes[layout.firstRow + index];
    const area = panel.getBoundingClientRect();
    const k = centre ? Math.max(view.k, 0.6) : view.k;
    const x = laneMiddle(node.lane), y = top(node.row) + BOX_H / 2;
    const half = (BOX_W / 2) * k, at = { x: view.x + x * k, y: view.y + y * k };
    const hidden = at.x - half < 0 || at.x + half > area.width || at.y < 40 || at.y > area.height - 40;
    // The details cover the right side; on a phone they cover the lower part.
    const phone = area.width < 640;
    if (!centre && !hidden) return;
    // The bytes on the left stay visible if the panel is wide enough for them and the operator.
    const margin = (MARGIN + 10) * k;
    const fits = margin + (x + BOX_W / 2) * k <= area.width * (phone ? 1 : 0.66);
    setView({ k, x: fits ? margin : area.width * (phone ? 0.5 : 0.35) - x * k, y: area.height * (phone ? 0.22 : 0.4) - y * k });
  }

  const pointers = new Map();
  let moved = false, pressed = null;
  graph.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    if (pointers.size === 1) [moved, pressed] = [false, event.target];
  });
  graph.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    if (pointers.size === 1) {
      const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
      if (!moved && Math.hypot(dx, dy) < 4) return;
      if (!moved) graph.setPointerCapture(event.pointerId);
      moved = true;
      graph.classList.add("dragging");
      setView({ ...view, x: view.x + dx, y: view.y + dy });
    } else {
      moved = true;
      const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
      const spread = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      zoomAt(spread(event) / spread(before), (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
    }
    pointers.set(event.pointerId, event);
  });
  for (const kind of ["pointerup", "pointercancel", "pointerleave"]) {
    graph.addEventListener(kind, (event) => {
      if (!pointers.delete(event.pointerId)) return;
      graph.classList.remove("dragging");
      if (kind !== "pointerup" || moved || pointers.size) return;
      const node = pressed?.closest("[data-op]"), live = pressed?.closest("[data-cut]");
      if (node) selectOperator(Number(node.dataset.op));
      else if (live) {
        read(Number(live.dataset.cut));
        toggleCut(Number(live.dataset.cut));
      }
    });
  }
  graph.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    zoomAt(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), event.clientX, event.clientY);
  }, { passive: false });
  byId("zoom-in").addEventListener("click", () => zoomAt(1.3));
  byId("zoom-out").addEventListener("click", () => zoomAt(1 / 1.3));
  byId("zoom-width").addEventListener("click", fitWidth);
  byId("zoom-all").addEventListener("click", fitAll);

  panel.addEventListener("keydown", (event) => {
    const here = Number(event.target.closest?.("[data-op]")?.dataset.op ?? -1);
    const onNode = here >= 0;
    if (event.key === "Escape") closeDetails();
    else if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("#details")) return;
    else if (event.key === "+" || event.key === "=") zoomAt(1.3);
    else if (event.key === "-") zoomAt(1 / 1.3);
    else if (event.key === "0") fitWidth();
    else if (event.key === "ArrowLeft") setView({ ...view, x: view.x + 60 });
    else if (event.key === "ArrowRight") setView({ ...view, x: view.x - 60 });
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (onNode) focusNode(here + (event.key === "ArrowDown" ? 1 : -1));
      else setView({ ...view, y: view.y + (event.key === "ArrowDown" ? -60 : 60) });
    } else if (onNode && event.key === "Home") focusNode(0);
    else if (onNode && event.key === "End") focusNode(n - 1);
    else if (onNode && (event.key === "Enter" || event.key === " ")) selectOperator(here);
    else if (onNode && event.key === "c") {
      if (here + 1 < n && model.positions[here + 1].cut_allowed) read(here + 1);
      toggleCut(here + 1);
    } else return;
    event.preventDefault();
  });

  function focusNode(index) {
    const element = nodeOf.get(index);
    if (!element) return;
    for (const other of graph.querySelectorAll('[tabindex="0"]')) other.setAttribute("tabindex", "-1");
    element.setAttribute("tabindex", "0");
    element.focus({ preventScroll: true });
    // Setting the focus may scroll the panel although its content does not overflow.
    panel.scrollTo(0, 0);
    bringIntoView(index, false);
  }
  function focusOperator(index) {
    panel.scrollIntoView({ block: "nearest" });
    selectOperator(index);
    focusNode(index);
    bringIntoView(index, true);
  }

  // ---------------------------------------------------------------- an operator's details
  function selectOperator(index) {
    if (selected !== null) nodeOf.get(selected).classList.remove("selected");
    selected = index;
    nodeOf.get(index).classList.add("selected");
    const row = layout.firstRow + index;
    for (const [edge, path] of edgeElements) path.classList.toggle("lit", edge.from === row || edge.to === row);
    showDetails(index);
    bringIntoView(index, false);
  }
  function closeDetails() {
    if (selected === null) return;
    nodeOf.get(selected).classList.remove("selected");
    for (const [, path] of edgeElements) path.classList.remove("lit");
    byId("details").hidden = true;
    const last = selected;
    selected = null;
    focusNode(last);
  }

  function whyNot(position) {
    const kept = model.kept_together.find(({ start, stop }) => start < position && position < stop);
    return `No cut is possible after this operator${kept ? `: ${kept.reason}` : ""}.`;
  }

  function showDetails(index) {
    const op = ops[index];
    const operations = wrappedBy.get(index) || [];
    const rows = [];
    const add = (term, ...values) => {
      if (values.length) rows.push(make("dt", {}, term), ...values.map((value) => make("dd", {}, value)));
    };
    const link = (other) => make("button", { type: "button", class: "link", onclick: () => focusOperator(other) }, `${other} ${middle(layerOf(ops[other]), 40)}`);
    add("Operator", `${op.kind}, number ${op.index}`);
    add("Reads", ...op.inputs.map((tensor) => {
      const producer = producerOf.get(tensor);
      return wrap(producer >= 0 ? link(producer) : `input ${tensors.get(tensor).name}`, make("small", {}, ` ${describe(tensors.get(tensor))}`));
    }));
    add("Makes", ...op.outputs.map((tensor) => describe(tensors.get(tensor))));
    add("Read by", ...[...new Set(op.outputs.flatMap((tensor) => usesOf.get(tensor) || []))].map(link),
      ...(op.outputs.some((tensor) => outputs.has(tensor)) ? ["the caller: a model output"] : []));
    add("MACs", op.macs ? `${op.macs.toLocaleString("en")} (${percent(op.macs, model.macs)})` : "0");
    add("Parameters", `${op.parameters.toLocaleString("en")} in ${bytes(op.weight_bytes)}`);
    add("Constants", ...op.constants.map((tensor) => wrap(describe(tensors.get(tensor)))));
    add("Names", ...op.outputs.flatMap((tensor) => tensors.get(tensor).name.split(";")).filter(Boolean).map((name) => make("small", {}, name)));
    const after = model.positions[index + 1];
    const box = byId("details");
    box.replaceChildren(
      make("button", { type: "button", class: "close", "aria-label": "Close details", onclick: closeDetails }, "✕"),
      make("h3", {}, layerOf(op)),
      ...operations.map((operation) => make("div", { class: "constant" },
        make("b", {}, operation.expression),
        make("small", {}, `${operation.layer}: a Keras operation that was no layer`),
        make("small", {}, `${operation.operation}(${operation.constants.join(", ")})`))),
      make("dl", {}, rows),
      after.cut_allowed
        ? make("button", {
          type: "button", "aria-pressed": String(cuts.includes(index + 1)),
          onclick: () => { read(index + 1); toggleCut(index + 1); },
        }, `${cuts.includes(index + 1) ? "Remove the cut" : "Cut"} after this operator: ${bytes(after.live_bytes)}, ${several(after.tensors.length, "tensor")}`)
        : make("small", {}, index === n - 1 ? "The last operator." : whyNot(index + 1)),
    );
    box.hidden = false;
  }

  // ---------------------------------------------------------------- search
  let hits = [], hit = -1;
  const texts = ops.map((op) => [
    op.index, op.kind, op.layer,
    ...[...op.inputs, ...op.outputs].map((tensor) => tensors.get(tensor).name),
    ...(wrappedBy.get(op.index) || []).flatMap((one) => ["wrapped", one.layer, one.operation, one.expression, ...one.constants]),
  ].join(" ").toLowerCase());
  // Names of tensors and constants of wrapped operations are searched only if no operator's own
  // kind or layer matches.
  const ownTexts = ops.map((op) => [op.kind, op.layer, ...(wrappedBy.get(op.index) || []).map((one) => one.layer)].join(" ").toLowerCase());

  function search() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (text) => words.every((word) => text.includes(word));
    hits = words.length ? ops.map((op) => op.index).filter((index) => matches(ownTexts[index])) : [];
    if (words.length && !hits.length) hits = ops.map((op) => op.index).filter((index) => matches(texts[index]));
    hit = -1;
    const found = new Set(hits);
    graph.classList.toggle("searching", words.length > 0);
    for (const [index, element] of nodeOf) element.classList.toggle("hit", found.has(index));
    if (hits.length) showHit(0);
    else sayHits();
  }
  function showHit(at) {
    if (!hits.length) return;
    hit = (at + hits.length) % hits.length;
    selectOperator(hits[hit]);
    bringIntoView(hits[hit], true);
    sayHits();
  }
  function sayHits() {
    byId("hits").textContent = hits.length ? `${hit + 1} of ${hits.length}` : byId("search").value.trim() ? "none" : "";
    for (const id of ["previous-hit", "next-hit"]) byId(id).disabled = !hits.length;
  }
  byId("search").addEventListener("input", search);
  byId("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.shiftKey) {
      event.preventDefault();
      showHit(hit - 1);
    }
  });
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    showHit(hit + 1);
  });
  byId("previous-hit").addEventListener("click", () => showHit(hit - 1));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, textarea")) return;
    event.preventDefault();
    byId("search").focus();
  });

  // ---------------------------------------------------------------- lists
  function showWrapped() {
    const operations = model.wrapped_operations;
    if (!operations.length) return;
    byId("wrapped-card").hidden = false;
    byId("wrapped-heading").textContent = `${several(operations.length, "operation")} wrapped`;
    byId("wrapped").append(...operations.map((operation) => make("li", {},
      make("b", {}, operation.expression),
      operation.operators.length
        ? make("span", {}, make("button", { type: "button", class: "link", onclick: () => focusOperator(operation.operators[0]) }, operation.layer),
          make("small", {}, `in operator ${operation.operators.join(", ")} ${ops[operation.operators[0]].kind}`))
        : make("span", {}, operation.layer, make("small", {}, "fused into another operator by the converter")))));
  }

  byId("table-card").addEventListener("toggle", () => {
    if (byId("operators").childElementCount) return;
    table(byId("operators"),
      [["#", ""], ["Operator", "left"], ["Layer", "left"], ["Output", "left"], ["MACs", ""], ["Parameters", ""],
        ["Weights", ""], ["Tensors after", ""], ["Bytes after", ""], ["Wrapped", "left"]],
      ops.map((op) => [
        String(op.index), op.kind, op.layer, op.outputs.map((tensor) => shapeOf(tensors.get(tensor))).join(" "),
        op.macs.toLocaleString("en"), op.parameters.toLocaleString("en"), bytes(op.weight_bytes),
        op.cut_allowed ? String(op.cut_tensors) : "–", bytes(op.cut_bytes),
        (wrappedBy.get(op.index) || []).map((one) => one.expression).join(", "),
      ]));
  });

  function showLegends() {
    const key = (colour, name) => make("span", {}, make("i", { style: `background:var(${colour})` }), name);
    byId("count-legend").append("bytes, log scale", key("--one", "1 tensor"), key("--two", "2 tensors"), key("--many", "3 or more"),
      ...(possible.length < n - 1 ? [key("--rule", "cannot be cut")] : []));
    const groups = new Set(ops.map((op) => groupOf(op.kind)));
    byId("kind-legend").append(...KINDS.filter(([group]) => groups.has(group)).map(([group, name]) => key(`--k-${group}`, name)),
      ...(wrappedBy.size ? [key("--wrapped", "wrapped, with its constant")] : []));
  }

  // Several lanes need the page's whole width; a single lane fits beside the cuts.
  document.querySelector("main").classList.toggle("wide", layout.laneX.length > 1);
  showHeader();
  showLegends();
  showWrapped();
  showSuggestions();
  drawGraph();
  sayHits();
  setCuts([]);
  new ResizeObserver(drawChart).observe(chart);
  let lastWidth = 0;
  new ResizeObserver(([entry]) => {
    // On a phone, the browser's bars appear and hide. This changes the height only, so the graph
    // keeps its zoom.
    if (Math.abs(entry.contentRect.width - lastWidth) > 1) fitWidth();
    lastWidth = entry.contentRect.width;
  }).observe(panel);
})();
