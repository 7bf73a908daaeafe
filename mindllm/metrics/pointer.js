// What the pointer does on a chart: shows the values of all runs where it is, and chooses a part of the axis by dragging.
// An item is a chart on the page: {chart, svg, tip, lines, marks, drawn, at}; plot.js draws it, this follows it.
"use strict";
const Pointer = (() => {
  const { make, swatch } = Chart;
  const NEAR = 6;  // pixels: from a mark, and that a drag is long at least

  function place(values, value) {  // the first that is not below `value`
    let low = 0, high = values.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (values[middle] < value) low = middle + 1; else high = middle;
    }
    return low;
  }

  function valueAt(line, x) {  // {value, raw, step} of the point there, or a value on the line between two; null outside
    const i = place(line.x, x);
    const exact = [i, i - 1].find((n) => n in line.x && Math.abs(line.x[n] - x) <= 1e-9 * Math.abs(x));
    if (exact !== undefined) {
      return line.y[exact] === null ? null : { value: line.y[exact], raw: line.raw && line.raw[exact], step: line.steps[exact] };
    }
    if (i === 0 || i >= line.x.length || line.y[i] === null || line.y[i - 1] === null) return null;
    const share = (x - line.x[i - 1]) / (line.x[i] - line.x[i - 1]);
    return { value: line.y[i - 1] + share * (line.y[i] - line.y[i - 1]), about: true };
  }

  function nearest(item, x) {  // the place of the point that is nearest to the pointer
    let best = null;
    for (const line of item.lines) {
      const i = place(line.x, x);
      for (const n of [i - 1, i]) {
        if (!(n in line.x) || line.y[n] === null) continue;
        if (best === null || Math.abs(line.x[n] - x) < Math.abs(best - x)) best = line.x[n];
      }
    }
    return best;
  }

  function show(item, pointer, reader) {
    const { drawn, tip, chart } = item;
    const x = drawn && nearest(item, drawn.x.value(pointer));
    if (x === null || x < drawn.x.low || x > drawn.x.high) return hide(item);
    const at = drawn.x.at(x), form = Chart.forms[chart.form];
    drawn.cursor.replaceChildren(Chart.element("path", { d: `M${at.toFixed(1)},${drawn.top}V${drawn.bottom}` }));
    const found = item.lines.map((line) => [line, valueAt(line, x)]);
    const steps = new Set(found.filter(([, v]) => v && !v.about).map(([, v]) => v.step));
    const rows = [make("b", {}, reader.show(x, steps.size === 1 ? [...steps][0] : null))];
    for (const [line, value] of found) {
      const row = make("div");
      row.append(swatch(line.run), make("span", { class: "name" }, reader.name(line.run)));
      let text = "-";
      if (value) {
        text = (value.about ? "≈ " : "") + form.value(value.value);
        if (typeof value.raw === "number") text += ` (${form.value(value.raw)})`;
        const y = drawn.y.log && value.value <= 0 ? null : drawn.y.at(value.value);
        if (y !== null) drawn.cursor.append(Chart.element("circle", { class: Chart.colour(line.run), cx: at, cy: y, r: 3.5 }));
      }
      row.append(make("span", { class: "value" }, text));
      rows.push(row);
    }
    for (const mark of item.marks.filter((m) => Math.abs(drawn.x.at(m.at) - pointer) < NEAR)) {
      const row = make("div", { class: "note" });
      row.append(swatch(mark.run), make("span", {}, mark.text));
      rows.push(row);
    }
    tip.replaceChildren(...rows);
    tip.hidden = false;
    item.at = at;
    const room = item.svg.getBoundingClientRect().width;
    tip.style.left = `${at < room / 2 ? at + 12 : Math.max(0, at - tip.offsetWidth - 12)}px`;
  }

  function hide(item) {
    item.tip.hidden = true;
    if (item.drawn) item.drawn.cursor.replaceChildren();
  }

  function follow(item, reader) {
    const { svg } = item;
    let from = null;
    const pixel = (event) => event.clientX - svg.getBoundingClientRect().left;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !item.drawn) return;
      from = pixel(event);
      show(item, from, reader);
      if (event.isTrusted) svg.setPointerCapture(event.pointerId);  // a drag goes on outside of the chart
      if (event.pointerType === "mouse") event.preventDefault();  // no text is selected
    });
    svg.addEventListener("pointermove", (event) => {
      if (!item.drawn) return;
      show(item, pixel(event), reader);
      if (from === null || Math.abs(pixel(event) - from) < NEAR) return;
      const { left, right, top, bottom, cursor } = item.drawn;
      const [a, b] = [from, pixel(event)].map((p) => Math.min(Math.max(p, left), right)).sort((p, q) => p - q);
      cursor.append(Chart.element("rect", { class: "part", x: a, y: top, width: b - a, height: bottom - top }));
    });
    svg.addEventListener("pointerup", (event) => {
      const to = pixel(event), begin = from;
      from = null;
      if (begin === null || !item.drawn || Math.abs(to - begin) < NEAR) return;
      const { x, left, right } = item.drawn;
      const part = [begin, to].map((p) => x.value(Math.min(Math.max(p, left), right))).sort((a, b) => a - b);
      hide(item);
      if (part[0] < part[1]) reader.choose(part);
    });
    svg.addEventListener("pointercancel", () => { from = null; });
    svg.addEventListener("pointerleave", () => { from = null; hide(item); });
    svg.addEventListener("dblclick", () => reader.choose(null));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !item.drawn) return;
      event.preventDefault();
      const start = item.tip.hidden ? (step > 0 ? item.drawn.left : item.drawn.right) : item.at;
      for (let at = start + step; at >= item.drawn.left - 1 && at <= item.drawn.right + 1; at += step) {
        show(item, at, reader);
        if (!item.tip.hidden && Math.abs(item.at - start) > 0.5 && Math.sign(item.at - start) === step) break;
      }
    });
    svg.addEventListener("blur", () => hide(item));
  }

  return { follow, hide, place };
})();
