// One line chart as SVG: scales, ticks, forms of numbers, paths. Knows nothing of runs but their number, which is a
// colour (class c0 to c6) and, from the eighth on, a dash (d1, d2). Text goes in as text only.
"use strict";
const Chart = (() => {
  const LEFT = 50, RIGHT = 10, TOP = 8, BOTTOM = 22, COLOURS = 7;

  function element(name, attributes = {}, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  }

  const colour = (run) => `c${run % COLOURS} d${Math.min(Math.floor(run / COLOURS), 2)}`;

  function make(name, attributes = {}, text = "") {  // an element of HTML
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  }

  function swatch(run) {  // how the lines of a run look
    const svg = element("svg", { class: "key", viewBox: "0 0 22 10", "aria-hidden": "true" });
    svg.append(element("path", { class: `line ${colour(run)}`, d: "M1,5H21" }));
    return svg;
  }

  // ---- numbers as text: of an axis (with the distance of its ticks), and alone ---------------------------------------
  const decimals = (step) => Math.min(Math.max(Math.ceil(-Math.log10(step) - 1e-9), 0), 8);
  const small = (value) => (value === 0 ? "0" : value.toExponential(2).replace(/\.?0*e/, "e"));
  function count(value) {
    if (Math.abs(value) >= 1e15) return small(value);
    for (const [unit, factor] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]]) {
      if (Math.abs(value) >= factor) return `${Number((value / factor).toPrecision(4))}${unit}`;
    }
    return String(Number(value.toPrecision(4)));
  }
  function plainTick(value, step) {
    if (Math.abs(value) >= 10000) return count(value);
    return step < 1e-4 ? small(Number(value.toPrecision(6))) : value.toFixed(decimals(step));
  }
  const forms = {
    loss: { tick: plainTick, value: (v) => v.toFixed(4) },
    plain: { tick: plainTick, value: (v) => (Math.abs(v) >= 10000 ? count(v) : String(Number(v.toPrecision(4)))) },
    count: { tick: count, value: (v) => (v >= 1e6 ? count(v) : Math.round(v).toLocaleString("en-US")) },
    share: { tick: (v, step) => `${(100 * v).toFixed(decimals(100 * step))}%`, value: (v) => `${(100 * v).toFixed(2)}%` },
    small: { tick: small, value: small },
  };

  // ---- scales --------------------------------------------------------------------------------------------------------
  function ticks(low, high, log, number) {
    if (log) {
      const found = [], wide = Math.log10(high / low);
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
        for (const first of wide > 3 ? [1] : wide > 1.2 ? [1, 3] : [1, 1.5, 2, 3, 4, 5, 6, 8]) {
          const value = first * 10 ** power;
          if (value >= low * 0.999 && value <= high * 1.001) found.push([value, value]);
        }
      }
      const every = Math.ceil(found.length / (number + 2));
      if (found.length > 1) return found.filter((_, i) => i % every === 0);
    }
    const rough = (high - low) / number, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 2.5, 5, 10].find((n) => n * power >= rough * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push([i * step, step]);
    return found;
  }

  // The distance of the ticks as the text of one needs it: 2.5 has one digit more than its power of ten says.
  const fine = (step) => (/^2\.?5/.test(String(Number(step.toPrecision(3)).toExponential())) ? step / 10 : step);

  function scale(low, high, from, to, log) {
    const f = log ? Math.log : (v) => v, g = log ? Math.exp : (v) => v;
    const a = f(low), b = f(high);
    return {
      low, high, log,
      at: (value) => from + (f(value) - a) / (b - a) * (to - from),
      value: (pixel) => g(a + (pixel - from) / (to - from) * (b - a)),
    };
  }

  // Least and largest value of what is seen from `start` on: the lines, and all but the rarest faint ones behind them.
  function range(lines, start, end, log, zero) {
    const good = (v) => v !== null && (!log || v > 0);
    const seen = (line, ys) => ys.filter((v, i) => line.x[i] >= start && line.x[i] <= end && good(v));
    let low = Infinity, high = -Infinity;
    for (const line of lines) {
      for (const v of seen(line, line.y)) { low = Math.min(low, v); high = Math.max(high, v); }
      const raw = line.raw ? seen(line, line.raw).sort((a, b) => a - b) : [];
      if (raw.length) {
        low = Math.min(low, raw[Math.floor(raw.length * 0.01)]);
        high = Math.max(high, raw[Math.ceil(raw.length * 0.99) - 1]);
      }
    }
    if (low > high) return null;
    if (zero && !log) low = Math.min(low, 0);
    if (low === high) return log ? [low / 1.5, high * 1.5] : [low - (Math.abs(low) / 10 || 0.5), high + (Math.abs(high) / 10 || 0.5)];
    if (log) { const room = (high / low) ** 0.04; return [low / room, high * room]; }
    const room = (high - low) * 0.05;
    return [zero && low === 0 ? 0 : low - room, high + room];
  }

  // ---- paths ---------------------------------------------------------------------------------------------------------
  function path(xs, ys, x, y) {
    let d = "", open = false;
    xs.forEach((value, i) => {
      const v = ys[i];
      if (v === null || (y.log && v <= 0) || (x.log && value <= 0)) { open = false; return; }
      d += `${open ? "L" : "M"}${x.at(value).toFixed(1)},${y.at(v).toFixed(1)}`;
      open = true;
    });
    return d;
  }

  function band(xs, low, high, x, y) {
    const good = xs.map((value, i) => low[i] !== null && (!y.log || low[i] > 0) && (!x.log || value > 0));
    const point = (i, ys) => `${x.at(xs[i]).toFixed(1)},${y.at(ys[i]).toFixed(1)}`;
    const places = [...xs.keys()].filter((i) => good[i]);
    if (places.length < 2) return "";
    return `M${places.map((i) => point(i, high)).join("L")}L${places.reverse().map((i) => point(i, low)).join("L")}z`;
  }

  // Draws `lines` ({run, x, y, raw, low, high, dots}) over [low, high] of x; returns the scales, or null without a value.
  // from: the values before it do not count for the limits of y.
  function draw(svg, { width, height, lines, marks, low, high, from, logX, xForm, form, logY, zero }) {
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.style.height = `${height}px`;
    const right = width - RIGHT, bottom = height - BOTTOM;
    const x = scale(low, high, LEFT, right, logX);
    const limits = range(lines, from, high, logY, zero) || range(lines, low, high, logY, zero);
    if (!limits) {
      svg.append(element("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no value here"));
      return null;
    }
    const y = scale(...limits, bottom, TOP, logY);
    const axes = element("g", { class: "axes" });
    for (const [value, step] of ticks(limits[0], limits[1], logY, Math.max(2, Math.round(height / 50)))) {
      const at = y.at(value).toFixed(1);
      axes.append(element("path", { d: `M${LEFT},${at}H${right}` }));
      axes.append(element("text", { x: LEFT - 6, y: Number(at) + 3.5, "text-anchor": "end" }, form.tick(value, fine(step))));
    }
    for (const [value, step] of ticks(low, high, logX, Math.max(2, Math.floor(width / 80)))) {
      const at = x.at(value), anchor = at > right - 14 ? "end" : "middle";
      axes.append(element("path", { d: `M${at.toFixed(1)},${bottom}v4` }));
      axes.append(element("text", { x: at.toFixed(1), y: height - 6, "text-anchor": anchor }, xForm.tick(value, fine(step))));
    }
    const id = `clip-${svg.id}`, clip = element("clipPath", { id });
    clip.append(element("rect", { x: LEFT, y: TOP, width: right - LEFT + 3, height: bottom - TOP }));
    const plot = element("g", { "clip-path": `url(#${id})` });
    for (const { run, at } of marks) {
      if (at < low || at > high) continue;
      plot.append(element("path", { class: `mark ${colour(run)}`, d: `M${x.at(at).toFixed(1)},${TOP}V${bottom}` }));
    }
    for (const line of lines) {
      if (line.low) plot.append(element("path", { class: `band ${colour(line.run)}`, d: band(line.x, line.low, line.high, x, y) }));
      if (line.raw && !line.low) plot.append(element("path", { class: `raw${line.x.length > 600 ? " many" : ""} ${colour(line.run)}`, d: path(line.x, line.raw, x, y) }));
    }
    for (const line of lines) {
      plot.append(element("path", { class: `line ${colour(line.run)}`, d: path(line.x, line.y, x, y) }));
      if (!line.dots) continue;
      line.x.forEach((value, i) => {
        const v = line.y[i];
        if (v === null || (logY && v <= 0) || (logX && value <= 0)) return;
        plot.append(element("circle", { class: `dot ${colour(line.run)}`, cx: x.at(value).toFixed(1), cy: y.at(v).toFixed(1), r: 2.2 }));
      });
    }
    const cursor = element("g", { class: "cursor" });
    svg.append(axes, clip, plot, cursor);
    return { x, y, cursor, left: LEFT, right, top: TOP, bottom };
  }

  return { draw, element, make, swatch, colour, forms, count };
})();
