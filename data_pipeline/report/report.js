// The filter of the data report: adds up the embedded counts for one language and site, and writes the sums into the
// page that data_pipeline/report.py drew. Every number names its sum (data-k, see sum_rows in report_facts.py) and its
// form (data-f). Text goes in as text only; nothing is fetched. The filter is the address: #lang=zh-Hant&site=a.example
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const WIDTH = 312, HEIGHT = 120, TOP = 6, LEFT = 4;  // as in report_figures.py
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const bar = document.getElementById("filter");
  const selects = { lang: bar.querySelector("[name=lang]"), site: bar.querySelector("[name=site]") };
  const names = { lang: data.languages, site: data.sites };

  // ---- the filter: -1 is all -------------------------------------------------------------------------------------
  let filter = { lang: -1, site: -1 };

  function readFilter() {
    const words = new URLSearchParams(location.hash.slice(1));
    for (const key of ["lang", "site"]) filter[key] = words.has(key) ? names[key].indexOf(words.get(key)) : -1;
  }

  function writeFilter(change) {
    Object.assign(filter, change);
    const words = new URLSearchParams();
    for (const key of ["lang", "site"]) if (filter[key] >= 0) words.set(key, names[key][filter[key]]);
    location.hash = words.toString() || "all";
  }

  // ---- sums ------------------------------------------------------------------------------------------------------
  function sumUp() {
    const matches = (lang, site) => (filter.lang < 0 || lang === filter.lang) && (filter.site < 0 || site === filter.site);
    const sums = new Map();
    const add = (base, lang, site, a, b) => {
      for (const key of [base, `${base}:${lang}`, `${base}@${site}`]) {
        const entry = sums.get(key);
        if (entry) { entry[0] += a; entry[1] += b; } else sums.set(key, [a, b]);
      }
    };
    for (const [stage, lang, site, reason, documents, bytes] of data.rows) {
      if (!matches(lang, site)) continue;
      add(`in:${stage}`, lang, site, documents, bytes);
      if (reason < 0) add(`kept:${stage}`, lang, site, documents, bytes);
      else { add("dropped", lang, site, documents, bytes); add(`drop:${reason}`, lang, site, documents, bytes); }
    }
    for (const [kind, lang, site, masks, documents] of data.masks) {
      if (matches(lang, site)) add(`mask:${kind}`, lang, site, masks, documents);
    }
    const histograms = {};
    for (const [kind, rows] of Object.entries(data.histograms)) {
      const found = histograms[kind] = new Map();
      const empty = () => Array.from({ length: data.num_fates }, () => new Array(data.bins[kind].length).fill(0));
      for (const key of ["", ...data.languages.keys()]) found.set(String(key), empty());
      for (const [lang, site, fate, first, ...counts] of rows) {
        if (!matches(lang, site)) continue;
        for (const key of ["", String(lang)]) {
          counts.forEach((n, i) => { found.get(key)[fate][first + i] += n; });
        }
      }
    }
    return { sums, histograms };
  }

  // ---- numbers as text: the forms of mindllm/page.py -------------------------------------------------------------
  const showCount = (n) => n.toLocaleString("en-US");
  function showBytes(n) {
    for (const [unit, factor] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
      if (n >= factor) return `${(n / factor).toFixed(1)} ${unit}`;
    }
    return `${n} B`;
  }

  function show(sums, form, key, of) {
    const [first, second] = sums.get(key) || [0, 0];
    if (form === "count") return showCount(first);
    if (form === "second") return showCount(second);
    if (form === "size") return showBytes(second);
    const total = (sums.get(of) || [0, 0])[0];
    return total ? `${(100 * first / total).toFixed(1)}%` : "-";
  }

  function topReason(sums, site) {
    let best = "", most = 0;
    data.reasons.forEach((reason, number) => {
      const n = (sums.get(`drop:${number}@${site}`) || [0])[0];
      if (n > most) [best, most] = [reason, n];
    });
    return best;
  }

  // ---- drawing ---------------------------------------------------------------------------------------------------
  function drawBars(sums) {
    const value = (rect) => (sums.get(rect.dataset.k) || [0])[0];
    const scales = new Map();
    for (const svg of all("svg.bar")) {
      const total = all("rect", svg).reduce((sum, rect) => sum + value(rect), 0);
      scales.set(svg.dataset.scale, Math.max(total, scales.get(svg.dataset.scale) || 0));
    }
    for (const svg of all("svg.bar")) {
      const total = scales.get(svg.dataset.scale);
      let x = 0;
      for (const rect of all("rect", svg)) {
        const width = total ? 100 * value(rect) / total : 0;
        rect.setAttribute("x", x.toFixed(3));
        rect.setAttribute("width", width.toFixed(3));
        x += width;
      }
    }
  }

  function drawHistogram(svg, values, labels) {
    const downs = values[0].map((_, bin) => values.slice(1).reduce((sum, counts) => sum + counts[bin], 0));
    const up = Math.max(...values[0]), total = up + Math.max(...downs);
    const unit = total ? HEIGHT / total : 0, axis = total ? TOP + up * unit : TOP + HEIGHT;
    const step = WIDTH / labels.length, below = labels.map(() => 0);
    values.forEach((counts, fate) => {
      let d = "";
      counts.forEach((n, bin) => {
        if (!n) return;
        const y = fate === 0 ? axis - n * unit : axis + below[bin] * unit;
        const size = `h${(step - 0.8).toFixed(1)}v${(n * unit).toFixed(1)}h${(0.8 - step).toFixed(1)}z`;
        d += `M${(LEFT + bin * step + 0.4).toFixed(1)},${y.toFixed(1)}${size}`;
        if (fate) below[bin] += n;
      });
      svg.querySelector(`[data-fate="${fate}"]`).setAttribute("d", d);
    });
    svg.querySelector(".axis").setAttribute("d", `M${LEFT},${axis.toFixed(1)}h${WIDTH}`);
    all("title", svg).forEach((title, bin) => {
      title.textContent = `${labels[bin]}: ${showCount(values[0][bin])} kept, ${showCount(downs[bin])} dropped`;
    });
  }

  function pickExamples() {
    for (const group of all("[data-examples]")) {
      let shown = 0;
      for (const example of all("[data-example]", group)) {
        const fits = (filter.lang < 0 || Number(example.dataset.lang) === filter.lang)
          && (filter.site < 0 || Number(example.dataset.site) === filter.site);
        example.hidden = !fits || shown >= data.num_examples;
        if (!example.hidden) shown += 1;
      }
      group.querySelector(".none").hidden = shown > 0;
    }
  }

  function sortRows(sums) {
    for (const body of all("[data-sorted]")) {
      const value = (row) => ("last" in row.dataset ? -1 : (sums.get(row.dataset.row) || [0])[0]);
      const rows = all("[data-row]", body);  // in the order of the server among equals: sort is stable
      rows.sort((a, b) => value(b) - value(a) || a.dataset.order - b.dataset.order);
      body.append(...rows);
    }
  }

  // ---- all of it -------------------------------------------------------------------------------------------------
  function update() {
    const { sums, histograms } = sumUp();
    for (const key of ["lang", "site"]) selects[key].value = String(filter[key]);
    document.body.classList.toggle("filtered", filter.lang >= 0 || filter.site >= 0);
    for (const cell of all("[data-f]")) cell.textContent = show(sums, cell.dataset.f, cell.dataset.k, cell.dataset.of);
    for (const cell of all("[data-top]")) cell.textContent = topReason(sums, cell.dataset.top);
    for (const row of all("[data-row]")) row.hidden = !sums.has(row.dataset.row);
    for (const figure of all("figure[data-lang]")) {  // one a language; the one of all languages has ""
      const one = figure.dataset.lang;
      figure.hidden = one === "" ? filter.lang >= 0 : !sums.has(`in:0:${one}`);
    }
    for (const svg of all("svg.histogram")) {
      const kind = svg.dataset.hist;
      drawHistogram(svg, histograms[kind].get(svg.dataset.lang), data.bins[kind]);
    }
    drawBars(sums);
    sortRows(sums);
    pickExamples();
  }

  for (const key of ["lang", "site"]) {
    selects[key].addEventListener("change", () => {
      writeFilter({ [key]: Number(selects[key].value) });
    });
  }
  bar.querySelector("button").addEventListener("click", () => writeFilter({ lang: -1, site: -1 }));
  document.addEventListener("click", (event) => {  // a name in a table narrows what is chosen already
    const link = event.target.closest("a[data-narrow]");
    const jump = event.target.closest('a[href^="#reason-"]');
    if (link) writeFilter({ [link.dataset.narrow]: Number(link.dataset.value) });
    if (jump) {  // the address keeps the filter
      const group = document.getElementById(jump.getAttribute("href").slice(1));
      if (!group) return;
      group.open = true;
      group.scrollIntoView();
    }
    if (link || jump) event.preventDefault();
  });
  addEventListener("hashchange", () => { readFilter(); update(); });
  addEventListener("beforeprint", () => all("details").forEach((details) => { details.open = true; }));
  bar.hidden = false;
  if (location.hash) { readFilter(); update(); }
})();
