// The page about runs: keeps what the reader has chosen (axis, smoothing, part of the axis, runs), draws every chart
// from the embedded numbers, shows all runs' values under the pointer, and the generated texts of a step.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const { make, swatch } = Chart, { place } = Pointer;
  const AXES = {
    steps: { column: 0, form: { tick: Chart.count }, show: (v) => `step ${Math.round(v).toLocaleString("en-US")}` },
    tokens: { column: 1, form: { tick: Chart.count }, show: (v) => `${Chart.count(v)} tokens` },
    hours: { column: 2, form: Chart.forms.plain, show: (v) => `${v.toFixed(v < 1 ? 3 : 2)} h` },
  };
  const MANY_DOTS = 60;  // points of a curve
  const START = 0.05;  // of the whole axis, where a loss falls from its first values
  const controls = document.getElementById("controls");
  const lastStep = Math.max(1, ...data.runs.map((run) => run.clock[0].at(-1)));
  const state = { axis: "steps", smooth: 1, logX: false, tail: true, zoom: null, hidden: new Set(), logY: new Set() };
  const charts = [];
  const reader = {  // what the pointer has to know of the page
    show: (x, step) => {
      const head = AXES[state.axis].show(x);
      return state.axis === "steps" || step === null ? head : `${head}, ${AXES.steps.show(step)}`;
    },
    name: (run) => data.runs[run].name,
    choose: (part) => change({ zoom: part }),
  };

  // ---- a run's points ------------------------------------------------------------------------------------------------
  function between(from, to, value) {  // on the line through the clock's points, which are in order
    if (value <= from[0]) return to[0];
    if (value >= from.at(-1)) return to.at(-1);
    const i = place(from, value);
    return to[i - 1] + (value - from[i - 1]) / (from[i] - from[i - 1]) * (to[i] - to[i - 1]);
  }

  const known = new Map();
  function positions(number, grid) {  // of a list of steps on the chosen axis; null where the run does not know them
    const key = `${number} ${grid} ${state.axis}`;
    if (!known.has(key)) {
      const run = data.runs[number], steps = run.grids[grid], column = run.clock[AXES[state.axis].column];
      known.set(key, column === null ? null : state.axis === "steps" ? steps : steps.map((s) => between(run.clock[0], column, s)));
    }
    return known.get(key);
  }

  function smoothed(steps, values, width) {  // mean of what lies at most width / 2 steps before and behind
    if (width <= 1) return values;
    let first = 0, last = 0;
    return steps.map((step, i) => {
      while (last < steps.length && steps[last] <= step + width / 2) last += 1;
      while (steps[first] < step - width / 2) first += 1;
      if (values[i] === null) return null;
      let sum = 0, number = 0;  // anew each time: what a huge value leaves behind in a running sum would be seen
      for (let n = first; n < last; n += 1) if (values[n] !== null) { sum += values[n]; number += 1; }
      return sum / number;
    });
  }

  function lineOf(chart, number) {
    const curve = data.runs[number].curves[chart.key];
    const x = curve && positions(number, curve[0]);
    if (!x) return null;
    const [grid, mean, low, high] = curve;
    const steps = data.runs[number].grids[grid];
    const y = chart.smooth ? smoothed(steps, mean, state.smooth) : mean;
    return { run: number, x, y, steps, raw: y === mean ? null : mean, low, high, dots: x.length <= MANY_DOTS };
  }

  // ---- drawing -------------------------------------------------------------------------------------------------------
  function wholeAxis() {
    let low = Infinity, high = -Infinity;
    data.runs.forEach((run, number) => {
      const column = run.clock[AXES[state.axis].column];
      if (state.hidden.has(number)) return;
      run.grids.forEach((steps, grid) => {
        const x = (positions(number, grid) || []).filter((v) => !state.logX || v > 0);
        if (x.length) { low = Math.min(low, x[0]); high = Math.max(high, x.at(-1)); }
      });
      if (column !== null && !state.logX) low = Math.min(low, 0);
    });
    if (low > high) return [state.logX ? 0.1 : 0, 1];
    return low < high ? [low, high] : [low * 0.9, high * 1.1 || 1];
  }

  function drawChart(item, limits) {
    const { chart, svg, figure } = item;
    if (!figure.closest("details").open) return;
    const width = Math.max(120, Math.round(svg.getBoundingClientRect().width));
    item.lines = data.runs.map((_, number) => (state.hidden.has(number) ? null : lineOf(chart, number))).filter(Boolean);
    item.marks = [];
    data.runs.forEach((run, number) => {
      const column = run.clock[AXES[state.axis].column];
      if (state.hidden.has(number) || column === null) return;
      for (const [step, text] of run.marks) {
        item.marks.push({ run: number, at: between(run.clock[0], column, step), text: `step ${step.toLocaleString("en-US")}: ${text}` });
      }
    });
    const cut = state.tail && !state.zoom && !state.logX && chart.form === "loss";
    item.drawn = Chart.draw(svg, {
      width, height: figure.classList.contains("wide") ? 300 : 190, lines: item.lines, marks: item.marks,
      low: limits[0], high: limits[1], from: cut ? limits[0] + START * (limits[1] - limits[0]) : limits[0],
      logX: state.logX, xForm: AXES[state.axis].form, form: Chart.forms[chart.form], logY: state.logY.has(chart.key), zero: chart.zero,
    });
  }

  function drawAll() {
    const limits = state.zoom || wholeAxis();
    for (const item of charts) drawChart(item, limits);
    controls.querySelector("#whole").hidden = !state.zoom;
  }

  // ---- the page's parts ----------------------------------------------------------------------------------------------
  function buildCharts() {
    for (const section of data.sections) {
      const details = make("details");
      details.open = section.open;
      const summary = make("summary");
      summary.append(make("h2", {}, section.name));
      const grid = make("div", { class: "charts" });
      for (const chart of section.charts) {
        const figure = make("figure", chart.key === "loss" ? { class: "wide" } : {});
        const caption = make("figcaption"), button = make("button", { type: "button", "aria-pressed": "false" }, "log");
        button.title = "logarithmic scale";
        caption.append(make("b", { class: "name" }, chart.title), make("span", {}, chart.unit), button);
        const svg = Chart.element("svg", { id: `chart-${charts.length}`, class: "chart", tabindex: "0", role: "img", "aria-label": `${chart.title} ${chart.unit}` });
        const tip = make("div", { class: "tip", "aria-live": "polite" }), box = make("div", { class: "box" });
        tip.hidden = true;
        box.append(svg, tip);
        figure.append(caption, box);
        grid.append(figure);
        const item = { chart, figure, svg, tip, lines: [], marks: [], drawn: null, at: 0 };
        charts.push(item);
        Pointer.follow(item, reader);
        button.addEventListener("click", () => {
          const on = !state.logY.delete(chart.key);
          if (on) state.logY.add(chart.key);
          button.setAttribute("aria-pressed", String(on));
          change({});
        });
      }
      details.addEventListener("toggle", () => { if (details.open) drawAll(); });
      details.append(summary, grid);
      document.getElementById("charts").append(details);
    }
  }

  function buildLegend() {
    data.runs.forEach((run, number) => {
      const button = make("button", { type: "button", "aria-pressed": "true", title: "click: hide or show; double click: this one alone" });
      button.append(swatch(number), make("span", { class: "name" }, run.name), make("small", {}, run.status));
      button.addEventListener("click", () => {
        if (!state.hidden.delete(number)) state.hidden.add(number);
        change({});
      });
      button.addEventListener("dblclick", () => {
        const others = [...data.runs.keys()].filter((n) => n !== number);
        const alone = others.every((n) => state.hidden.has(n)) && !state.hidden.has(number);
        change({ hidden: new Set(alone ? [] : others) });
      });
      document.getElementById("legend").append(button);
    });
  }

  function buildControls() {
    const knows = (axis, run) => run.clock[AXES[axis].column] !== null;
    const [axis, smooth, logX, tail] = ["axis", "smooth", "log-x", "tail"].map((name) => controls.querySelector(`[name=${name}]`));
    for (const option of all("option", axis)) {
      if (!data.runs.some((run) => knows(option.value, run))) option.remove();
    }
    state.axis = axis.value = data.runs.every((run) => knows("tokens", run)) ? "tokens" : "steps";
    for (const width of [1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000].filter((n) => n === 1 || n <= lastStep / 4)) {
      smooth.append(make("option", { value: width }, width === 1 ? "not" : `over ${width.toLocaleString("en-US")} steps`));
      if (width <= lastStep / 20) state.smooth = width;
    }
    smooth.value = String(state.smooth);
    axis.addEventListener("change", () => change({ axis: axis.value, zoom: null }));
    smooth.addEventListener("change", () => change({ smooth: Number(smooth.value) }));
    logX.addEventListener("change", () => change({ logX: logX.checked, zoom: null }));
    tail.addEventListener("change", () => change({ tail: tail.checked }));
    controls.querySelector("#whole").addEventListener("click", () => change({ zoom: null }));
    controls.hidden = false;
  }

  // ---- generated texts -----------------------------------------------------------------------------------------------
  function buildTexts() {
    const section = document.getElementById("texts");
    if (!section) return;
    const steps = [...new Set(data.prompts.flatMap((p) => p.texts.flat().map(([step]) => step)))].sort((a, b) => a - b);
    const slider = section.querySelector("input"), shown = section.querySelector("output");
    slider.max = String(steps.length - 1);
    slider.value = slider.max;
    slider.parentElement.hidden = steps.length < 2;
    const blocks = data.prompts.map(({ prompt, lang, texts }) => {
      const block = make("div", { class: "prompt" });
      block.append(make("h3", lang ? { lang } : {}, prompt));
      section.append(block);
      return { block, texts };
    });
    const update = () => {
      const step = steps[Number(slider.value)];
      shown.textContent = `up to step ${step.toLocaleString("en-US")}`;
      for (const { block, texts } of blocks) {
        for (const old of all(".text", block)) old.remove();
        texts.forEach((found, number) => {
          const newest = found.filter(([at]) => at <= step).at(-1);
          if (!newest || state.hidden.has(number)) return;
          const [at, text, lang] = newest;
          const box = make("div", { class: "text" }), head = make("p", { class: "soft" });
          head.append(swatch(number), make("span", { class: "name" }, data.runs[number].name), ` step ${at.toLocaleString("en-US")}`);
          box.append(head, make("p", lang ? { lang, class: "words" } : { class: "words" }, text));
          block.append(box);
        });
      }
    };
    slider.addEventListener("input", update);
    listeners.push(update);
  }

  // ---- all of it -----------------------------------------------------------------------------------------------------
  const listeners = [];
  function change(news) {
    Object.assign(state, news);
    for (const item of charts) Pointer.hide(item);
    drawAll();
    all("#legend button").forEach((button, number) => button.setAttribute("aria-pressed", String(!state.hidden.has(number))));
    for (const cell of all("[data-run]")) cell.hidden = state.hidden.has(Number(cell.dataset.run));
    for (const listener of listeners) listener();
  }

  buildLegend();
  buildControls();
  buildCharts();
  buildTexts();
  change({});
  let width = document.body.clientWidth;
  addEventListener("resize", () => {
    if (document.body.clientWidth !== width) { width = document.body.clientWidth; drawAll(); }
  });
})();
