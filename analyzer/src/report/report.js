"use strict";
// Cursor, zoom, filters and the tables at a moment, on figures and data that are on the page. It
// asks for nothing, stores nothing, and without it the page has the same numbers.
(() => {
const SVG = "http://www.w3.org/2000/svg";
const make = (tag, attributes = {}, ...children) => {
  const node = /^(svg|g|line|rect|path|text|title)$/.test(tag)
    ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};
const count = (n) => Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, ",");
const hex = (n) => "0x" + n.toString(16);
const plural = (n, one) => `${count(n)} ${n === 1 ? one : one.replace(/y$/, "ie") + "s"}`;
const digits = (v) => (v < 9.995 ? v.toFixed(2) : v < 99.95 ? v.toFixed(1) : v.toFixed(0));
const time = (ns) => ns < 999.5 ? `${ns.toFixed(0)} ns` : ns < 999.5e3 ? `${digits(ns / 1e3)} us`
  : ns < 999.5e6 ? `${digits(ns / 1e6)} ms` : `${digits(ns / 1e9)} s`;
const short = (v) => v >= 1e9 ? `${+(v / 1e9).toFixed(2)}G` : v >= 1e6 ? `${+(v / 1e6).toFixed(2)}M`
  : v >= 1e3 ? `${+(v / 1e3).toFixed(2)}k` : `${+v.toFixed(2)}`;
const ticks = (from, to, wanted) => {
  const raw = (to - from) / wanted;
  if (!(raw > 0)) return [from];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw);
  const list = [];
  for (let at = Math.ceil(from / step) * step; at <= to * (1 + 1e-9); at += step) list.push(at);
  return list;
};
const tip = make("div", { class: "tip", role: "status", hidden: "" });
const say = (text, event) => {
  tip.hidden = !text;
  tip.textContent = text || "";
  if (!text) return;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 8))}px`;
};

// ---- the stream of steps, see docs/trace.md and analyzer/src/playback ----
const FAULT = 0, ENTRY = 1, PAGE = 2, ROOT = 3, MARK = 4, KEYFRAME = 5, WRITE = 6, HOST = 7, ACT = 8;
const decode = (head, bytes) => {
  let at = 0;
  const byte = () => bytes[at++];
  const number = () => {
    let value = 0, unit = 1, b;
    do { b = bytes[at++]; value += (b & 127) * unit; unit *= 128; } while (b > 127);
    return value;
  };
  let last = {};
  const next = (of) => {
    const folded = number();
    return (last[of] = (last[of] || 0) + (folded % 2 ? -(folded + 1) / 2 : folded / 2));
  };
  const vcpu = () => { const v = number(); return v ? v - 1 : null; };
  const entry = (of) => ({ w: number(), pfn: next(of) });
  const steps = [];
  for (let n = 0; n < head.steps; n++) {
    if (n >= head.exact) last = {};
    const k = byte();
    const s = { k, n, seq: next("seq"), t: next("time"), ops: [] };
    if (k === FAULT) {
      s.vcpu = vcpu(); s.class = byte(); s.high = next("high"); s.low = next("low");
      s.error = number(); s.cr3 = number(); s.root = number(); s.took = number();
      const has = byte();
      s.gptes = [];
      for (let level = 1; level <= 5; level++) {
        if (has >> (level - 1) & 1) s.gptes[level] = entry("gpte" + level);
      }
      if (has & 32) s.gfn = next("gfn");
      if (has & 64) s.place = next("place");
    } else if (k === ENTRY) { s.vcpu = vcpu(); s.cause = byte(); s.place = next("place"); }
    else if (k === PAGE) { s.vcpu = vcpu(); s.event = byte(); s.place = next("place"); }
    else if (k === ROOT) { s.vcpu = vcpu(); s.cr3 = number(); s.root = number(); }
    else if (k === MARK) s.name = head.names[number()];
    else if (k === KEYFRAME) s.number = number();
    else if (k === WRITE) {
      s.vcpu = vcpu(); s.gfn = next("gfn"); s.offset = number(); s.bytes = number();
      s.value = entry("gpte6");
    } else if (k === HOST) { s.host = byte(); s.gfn = next("gfn"); s.pages = number(); }
    else if (k === ACT) {
      s.vcpu = vcpu(); s.act = byte(); s.took = number(); s.synced = number(); s.zapped = number();
    }
    for (let op = byte(); op; op = byte()) {
      if (op === 1) s.ops.push([1, next("place") / 512]);
      else if (op === 2) {
        const spt = next("place") / 512, gfn = next("gfn"), level = byte(), bits = byte();
        s.ops.push([2, spt, { gfn, level, direct: !!(bits & 1), unsync: !!(bits & 2), role: number() }]);
      } else if (op === 3) {
        const place = next("place"), e = entry("pfn");
        s.ops.push([3, place, { ...e, gfn: byte() ? next("gfn") : null, seq: s.seq }]);
      } else if (op === 4) s.ops.push([4]);
      else throw new Error(`the stream has no change ${op}`);
    }
    steps.push(s);
  }
  return steps;
};

// ---- the tables, forward and back ----
class Tables {
  constructor(head, steps) {
    Object.assign(this, { head, steps, at: -1, undo: [], pages: new Map(), guest: new Map(), roots: new Map() });
    this.words = head.words.map((word) => BigInt(word));
    this.low = this.words.map((word) => Number(word & 0xfffn));
  }
  // As after step `n`; -1 is before the first.
  go(n) {
    while (this.at < n) this.forward();
    while (this.at > n) { const back = this.undo.pop(); for (let i = back.length; i--;) back[i](); this.at--; }
  }
  set(map, key, value) {
    const had = map.has(key), old = map.get(key);
    if (value === undefined) map.delete(key); else map.set(key, value);
    return () => { if (had) map.set(key, old); else map.delete(key); };
  }
  forward() {
    const s = this.steps[++this.at], back = [];
    for (const op of s.ops) {
      if (op[0] === 1) back.push(this.set(this.pages, op[1]));
      else if (op[0] === 2) {
        const old = this.pages.get(op[1]);
        back.push(this.set(this.pages, op[1], { spt: op[1], e: old ? old.e : new Map(), ...op[2] }));
      } else if (op[0] === 3) {
        const page = this.pages.get(Math.floor(op[1] / 512));
        if (page) back.push(this.set(page.e, op[1] % 512, op[2]));
      } else {
        const old = this.pages;
        this.pages = new Map();
        back.push(() => { this.pages = old; });
      }
    }
    if (s.k === FAULT) {
      const root = { cr3: this.frame(s.cr3), root: this.frame(s.root) };
      back.push(this.set(this.roots, s.vcpu, root));
      for (const { table, index, e } of this.guestWay(s)) back.push(this.read(table, index, e, s.seq));
    } else if (s.k === ROOT) {
      back.push(this.set(this.roots, s.vcpu, { cr3: this.frame(s.cr3), root: this.frame(s.root) }));
    } else if (s.k === WRITE && s.bytes === 8 && this.guest.has(s.gfn)) {
      back.push(this.read(s.gfn, s.offset >> 3, s.value, s.seq));
    }
    this.undo.push(back);
  }
  read(table, index, e, seq) {
    if (!this.guest.has(table)) this.guest.set(table, new Map());
    const entries = this.guest.get(table), old = entries.get(index);
    const since = old && old.w === e.w && old.pfn === e.pfn ? old.since : seq;
    return this.set(entries, index, { ...e, seq, since });
  }
  frame(word) { return Number(this.words[word] >> 12n & 0xffffffffffn); }
  value(e) { return this.words[e.w] | BigInt(e.pfn) << 12n; }
  text(e) { return "0x" + this.value(e).toString(16).padStart(16, "0"); }
  isPresent(e) { return !!(this.low[e.w] >> 11 & 1); }
  isLeaf(e, level) { return this.isPresent(e) && (level === 1 || !!(this.low[e.w] >> 7 & 1)); }
  isEmpty(e) { const v = this.value(e); return v === 0n || v === 1n << 63n; }
  index(high, low, level) {
    return [low >>> 12, low >>> 21, low >>> 30 | high << 2, high >>> 7, high >>> 16][level - 1] & 511;
  }
  // The entries that the walker read, from the root on; none of 32-bit paging.
  guestWay(s) {
    const top = s.gptes[5] ? 5 : s.gptes[4] ? 4 : 0, way = [];
    let table = this.frame(s.cr3);
    for (let level = top; level >= 1 && s.gptes[level]; level--) {
      const e = s.gptes[level];
      way.push({ level, table, index: this.index(s.high, s.low, level), e });
      if (!(this.low[e.w] & 1) || this.low[e.w] >> 7 & 1) break;
      table = e.pfn;
    }
    return way;
  }
  // The shadow entries on the way of an address.
  way(root, high, low) {
    const way = [];
    for (let page = this.pages.get(root); page;) {
      const index = this.index(high, low, page.level), e = page.e.get(index);
      way.push({ page, index, e });
      if (!e || !this.isPresent(e) || this.isLeaf(e, page.level)) break;
      const child = this.pages.get(e.pfn);
      page = child && child.level < page.level ? child : null;
    }
    return way;
  }
  // The way to an entry, by the links to its page.
  wayTo(place) {
    const way = [];
    for (let spt = Math.floor(place / 512), index = place % 512, n = 0; n < 5; n++) {
      const page = this.pages.get(spt);
      if (!page) break;
      way.unshift({ page, index, e: page.e.get(index) });
      let above = null;
      for (const other of this.pages.values()) {
        if (other.level !== page.level + 1) continue;
        for (const [i, e] of other.e) {
          if (e.pfn === spt && this.isPresent(e) && !this.isLeaf(e, other.level)) { above = [other.spt, i]; break; }
        }
        if (above) break;
      }
      if (!above) break;
      [spt, index] = above;
    }
    return way;
  }
  // As `analyzer table --json` has the pages.
  json() {
    return [...this.pages.values()].sort((a, b) => a.spt - b.spt).map((page) => ({
      spt: hex(page.spt * 4096), level: page.level, gfn: hex(page.gfn), direct: page.direct, unsync: page.unsync,
      role: Number(this.words[page.role]),
      entries: [...page.e].filter(([, e]) => !this.isEmpty(e)).sort((a, b) => a[0] - b[0])
        .map(([index, e]) => [index, this.text(e), e.gfn === null ? null : hex(e.gfn)]),
    }));
  }
}
const bits = (low, isLeaf) => [low & 1 ? "P" : "-", low & 2 ? "W" : "-", low & 4 ? "U" : "-",
  low & 32 ? "A" : "-", isLeaf ? (low & 64 ? "D" : "-") : ""].join("");
const gva = (s) => "0x" + (BigInt(s.high) << 32n | BigInt(s.low)).toString(16);

// ---- one VM ----
class Vm {
  constructor(section, data) {
    Object.assign(this, { section, data, range: null, cursor: 0, hidden: new Set(), figures: [], at: -1 });
    this.end = data.times.bin_s * data.times.bins;
    this.explained = new Map(data.explained.filter((one) => one.text !== null).map((one) => [one.seq, one]));
    for (const node of section.querySelectorAll("figure[data-figure]")) {
      const plots = data.times.plots[node.dataset.figure];
      if (plots) this.figures.push(new Figure(this, node, node.dataset.figure, plots));
    }
    this.chips();
  }
  async play() {
    const { playback, stream } = this.data;
    const box = this.section.querySelector(".moment");
    if (!playback || !box) return;
    const packed = Uint8Array.from(atob(stream), (c) => c.charCodeAt(0));
    const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const bytes = new Uint8Array(await new Response(plain).arrayBuffer());
    this.tables = new Tables(playback, decode(playback, bytes));
    for (const s of this.tables.steps) if (this.explained.has(s.seq)) this.explained.get(s.seq).at_s = s.t / 1e9;
    this.moment = new Moment(this, box);
    this.figures.forEach((figure) => figure.draw());
  }
  shown([from, to] = [0, this.end]) { return this.range || [from, to]; }
  zoom(range) {
    if (range) {
      const [a, b] = [Math.max(0, range[0]), Math.min(this.end, range[1])];
      range = b - a > this.end * 0.999 || b - a <= 0 ? null : [a, b];
    }
    this.range = range;
    this.figures.forEach((figure) => figure.draw());
  }
  set(cursor, step = true) {
    this.cursor = Math.max(0, Math.min(this.end, cursor));
    this.figures.forEach((figure) => figure.lines());
    if (step && this.moment) this.moment.toTime(this.cursor * 1e9);
  }
  chips() {
    const figure = this.figures.find((one) => one.name === "rates");
    if (!figure || this.data.times.classes.length < 2) return;
    const row = make("div", { class: "chips", role: "group", "aria-label": "Classes shown" });
    for (const [name, colour, , meaning] of this.data.times.classes) {
      const chip = make("button", { type: "button", "aria-pressed": "true", title: meaning, "data-class": name,
        onclick: () => {
          const hide = !this.hidden.delete(name);
          if (hide) this.hidden.add(name);
          chip.setAttribute("aria-pressed", String(!hide));
          this.figures.forEach((one) => one.draw());
        } }, make("i", { style: `background:${colour}` }), name);
      row.append(chip);
    }
    figure.node.insertBefore(row, figure.node.children[1]);
  }
  read(seq) {
    const one = this.explained.get(seq);
    if (one && this.moment) this.moment.explain(one);
    return !!one;
  }
}

// ---- a figure over time ----
class Figure {
  constructor(vm, node, name, plots) {
    Object.assign(this, { vm, node, name, plots, svg: node.querySelector("svg") });
    this.over = make("g", { class: "over" });
    this.svg.append(this.over);
    const box = this.svg.parentNode;
    box.setAttribute("aria-description", "arrow keys move the cursor, + and - zoom, 0 shows all");
    box.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerleave", () => { this.hover = null; this.lines(); say(""); });
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.button || event.target.classList.contains("flag")) return;
      this.from = this.time(event);
    });
    this.svg.addEventListener("pointerup", (event) => {
      if (this.from === undefined) return;
      const [a, b] = [this.from, this.time(event)].sort((x, y) => x - y);
      this.from = undefined;
      const [left, , right] = this.plots[0], [x0, x1] = vm.shown();
      if ((b - a) / (x1 - x0) * (right - left) > 6) vm.zoom([a, b]); else vm.set(b);
      this.lines();
    });
    this.svg.addEventListener("dblclick", () => vm.zoom(null));
    this.draw();
  }
  x(seconds) {
    const [left, , right] = this.plots[0], [from, to] = this.vm.shown();
    return left + (seconds - from) / (to - from) * (right - left);
  }
  time(event) {
    const box = this.svg.getBoundingClientRect(), width = this.svg.viewBox.baseVal.width || 960;
    const [left, , right] = this.plots[0], [from, to] = this.vm.shown();
    const part = ((event.clientX - box.left) / box.width * width - left) / (right - left);
    return from + Math.max(0, Math.min(1, part)) * (to - from);
  }
  key(event) {
    const { vm } = this, [from, to] = vm.shown(), span = to - from;
    const about = (part) => vm.zoom([vm.cursor - span * part, vm.cursor + span * part]);
    const keys = { ArrowLeft: () => vm.set(vm.cursor - span / 100), ArrowRight: () => vm.set(vm.cursor + span / 100),
      Home: () => vm.set(from), End: () => vm.set(to), "+": () => about(0.25), "=": () => about(0.25),
      "-": () => about(1), 0: () => vm.zoom(null), Escape: () => vm.zoom(null) };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  }
  move(event) {
    this.hover = this.time(event);
    this.lines();
    say(this.words(this.hover), event);
  }
  words(seconds) {
    const { times } = this.vm.data, bin = Math.min(times.bins - 1, Math.floor(seconds / times.bin_s));
    const lines = [`${time(seconds * 1e9)} after the start`];
    if (this.name === "rates") {
      for (const [name, , faults] of times.classes) {
        if (faults[bin] && !this.vm.hidden.has(name)) lines.push(`${name}: ${short(faults[bin] / times.bin_s)} faults a second (${plural(faults[bin], "fault")})`);
      }
      lines.push(`shadow entries: ${count(times.entries[bin])}`);
    } else if (this.name === "pages") {
      for (const [name, , pages] of times.levels) if (pages[bin]) lines.push(`${name}: ${plural(pages[bin], "shadow page")}`);
      if (times.unsync[bin]) lines.push(`unsync: ${plural(times.unsync[bin], "shadow page")}`);
    } else {
      const column = Math.floor(seconds / times.heat.column_s);
      let all = 0;
      for (const area of times.heat.areas) for (const [, at, n] of area.cells) if (at === column) all += n;
      lines.push(plural(all, "fault") + ` in ${time(times.heat.column_s * 1e9)}`);
    }
    return lines.join("\n");
  }
  // Only the lines: after each move of the pointer.
  lines() {
    this.over.querySelectorAll(".cursor,.hover,.chosen").forEach((line) => line.remove());
    const [from, to] = this.vm.shown(), top = this.plots[0][1], bottom = this.plots[this.plots.length - 1][3];
    const line = (name, at) => {
      if (at < from || at > to) return;
      const x = this.x(at);
      this.over.append(make("line", { class: name, x1: x, x2: x, y1: top, y2: bottom }));
    };
    line("cursor", this.vm.cursor);
    if (this.hover !== null && this.hover !== undefined) {
      line("hover", this.hover);
      if (this.from !== undefined) {
        const [a, b] = [this.x(this.from), this.x(this.hover)].sort((p, q) => p - q);
        this.over.append(make("rect", { class: "chosen", x: a, y: top, width: b - a, height: bottom - top }));
      }
    }
  }
  draw() {
    const { vm } = this, { times } = vm.data;
    const live = !!vm.range || (this.name === "rates" && vm.hidden.size > 0);
    this.svg.classList.toggle("live", live);
    this.over.replaceChildren();
    if (live) this.redraw(times);
    for (const one of vm.data.explained) {
      const [from, to] = vm.shown();
      if (one.at_s === undefined || one.text === null || one.at_s < from || one.at_s > to || this.name === "pages") continue;
      const x = this.x(one.at_s), y = this.plots[0][1];
      const open = () => { vm.set(one.at_s, false); if (vm.moment) vm.moment.toSeq(one.seq); vm.read(one.seq); };
      this.over.append(make("path", { class: "flag", d: `M${x} ${y + 9}l-6 -11h12z`, tabindex: "0", role: "button",
        "aria-label": `explain ${one.label}, record ${one.seq}`, onclick: open,
        onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); open(); } } },
      make("title", {}, `${one.label}, record ${one.seq}`)));
    }
    this.lines();
  }
  axis(plot, most, title, isLast) {
    const [left, top, right, bottom] = plot, [from, to] = this.vm.shown();
    const [unit, one] = to < 1e-3 ? ["us", 1e-6] : to < 1 ? ["ms", 1e-3] : ["s", 1];
    const word = (text, x, y, anchor) => this.over.append(make("text", { x, y, "text-anchor": anchor }, text));
    const rule = (x1, y1, x2, y2) => this.over.append(make("line", { x1, y1, x2, y2, stroke: "#E6E6E6" }));
    for (const tick of ticks(from / one, to / one, 8)) {
      const x = this.x(tick * one);
      rule(x, top, x, bottom);
      if (isLast) word(String(+tick.toPrecision(6)), x, bottom + 16, "middle");
    }
    if (most) for (const tick of ticks(0, most, 5)) {
      const y = bottom - tick / most * (bottom - top);
      rule(left, y, right, y);
      word(short(tick), left - 6, y + 4, "end");
    }
    word(title, left, top - 8, "start");
    if (isLast) word(`time from the start, ${unit}`, right, bottom + 38, "end");
  }
  redraw(times) {
    const [from, to] = this.vm.shown();
    if (this.name === "heat") return this.heat(times.heat, from, to);
    const first = Math.max(0, Math.floor(from / times.bin_s)), last = Math.min(times.bins - 1, Math.ceil(to / times.bin_s));
    let bins = { first, last, width: times.bin_s };
    let series = this.name === "pages" ? times.levels
      : times.classes.filter(([name]) => !this.vm.hidden.has(name)).map(([name, colour, faults]) => [name, colour, faults.map((n) => n / times.bin_s)]);
    const fine = this.name === "rates" && this.vm.tables && !this.vm.data.playback.exact_until && this.vm.range && this.finer(from, to);
    if (fine) { ({ bins, series } = fine); }
    this.stack(this.plots[0], series, bins, this.name === "pages" ? "shadow pages" : "faults a second", this.plots.length === 1);
    if (this.name === "pages" && times.unsync.some((n) => n)) this.line(this.plots[0], times.unsync, { first, last, width: times.bin_s }, this.most, "#D50000");
    if (this.plots[1]) {
      const values = times.entries.slice(first, last + 1), most = Math.max(1, ...values) * 1.1;
      this.axis(this.plots[1], most, "shadow entries", true);
      this.line(this.plots[1], times.entries, { first, last, width: times.bin_s }, most, "#333333");
    }
  }
  // Every fault is on the page: bins of the zoomed span.
  finer(from, to) {
    const wide = 240, width = (to - from) / wide, { head, steps } = this.vm.tables, by = new Map();
    for (const s of steps) {
      const at = Math.floor((s.t / 1e9 - from) / width);
      if (s.k !== FAULT || at < 0 || at >= wide) continue;
      const name = head.classes.find(([n]) => n === s.class)[1];
      if (!by.has(name)) by.set(name, new Float64Array(wide));
      by.get(name)[at] += 1 / width;
    }
    const series = this.vm.data.times.classes.filter(([name]) => by.has(name) && !this.vm.hidden.has(name))
      .map(([name, colour]) => [name, colour, by.get(name)]);
    return { bins: { first: 0, last: wide - 1, width, from }, series };
  }
  stack(plot, series, { first, last, width, from = 0 }, title, isLast) {
    const [, top, , bottom] = plot;
    let most = 1;
    for (let bin = first; bin <= last; bin++) most = Math.max(most, series.reduce((sum, [, , values]) => sum + values[bin], 0));
    this.most = most *= 1.05;
    this.axis(plot, most, title, isLast);
    const base = new Float64Array(last + 1);
    const [lo, hi] = [plot[0], plot[2]], clip = (x) => Math.max(lo, Math.min(hi, x));
    for (const [, colour, values] of series) {
      let up = "", down = "";
      for (let bin = first; bin <= last; bin++) {
        const x0 = clip(this.x(from + bin * width)), x1 = clip(this.x(from + (bin + 1) * width));
        const y = (v) => bottom - v / most * (bottom - top);
        down = `L${x1} ${y(base[bin])}L${x0} ${y(base[bin])}` + down;
        base[bin] += values[bin];
        up += `${up ? "L" : "M"}${x0} ${y(base[bin])}L${x1} ${y(base[bin])}`;
      }
      this.over.append(make("path", { d: up + down + "Z", fill: colour }));
    }
  }
  line([left, top, right, bottom], values, { first, last, width }, most, stroke) {
    const clip = (x) => Math.max(left, Math.min(right, x));
    let d = "";
    for (let bin = first; bin <= last; bin++) {
      const y = bottom - values[bin] / most * (bottom - top);
      d += `${d ? "L" : "M"}${clip(this.x(bin * width))} ${y}L${clip(this.x((bin + 1) * width))} ${y}`;
    }
    this.over.append(make("path", { d, stroke, fill: "none", "stroke-width": 2 }));
  }
  heat({ column_s, areas, most, colours }, from, to) {
    this.plots.forEach((plot, number) => {
      const area = areas[number], [left, top, right, bottom] = plot;
      this.axis(plot, 0, "", number === this.plots.length - 1);
      const word = (text, y) => this.over.append(make("text", { x: left - 8, y, "text-anchor": "end" }, text));
      word(area.to, top + 10);
      word(area.from, bottom - 2);
      for (const [row, column, n] of area.cells) {
        const [x0, x1] = [column * column_s, (column + 1) * column_s];
        if (x1 < from || x0 > to) continue;
        const [a, b] = [Math.max(left, this.x(x0)), Math.min(right, this.x(x1))], tall = (bottom - top) / area.rows;
        const step = Math.min(colours.length - 1, Math.floor(Math.log(Math.max(1, n)) / Math.log(Math.max(2, most)) * colours.length));
        this.over.append(make("rect", { x: a, y: bottom - (row + 1) * tall, width: Math.max(2, b - a), height: Math.max(2, tall), fill: colours[step] },
          make("title", {}, plural(n, "fault"))));
      }
    });
  }
}

// ---- the tables at a moment ----
class Moment {
  constructor(vm, box) {
    Object.assign(this, { vm, box, tables: vm.tables, at: -1, focus: null });
    const { steps } = this.tables;
    const button = (text, label, by) => make("button", { type: "button", "aria-label": label, onclick: () => this.step(by) }, text);
    this.by = make("select", { "aria-label": "Step by" }, ...["record", "fault", "phase"].map((kind) => make("option", { value: kind }, kind)));
    this.slider = make("input", { type: "range", min: 0, max: steps.length - 1, value: 0, step: 1, "aria-label": "Moment",
      oninput: () => this.show(Number(this.slider.value)) });
    this.slider.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (by) { event.preventDefault(); this.step(by); }
    });
    this.when = make("span", { class: "note" });
    this.cause = make("p", { class: "cause", "aria-live": "polite" });
    this.guest = make("div", { class: "side" });
    this.shadow = make("div", { class: "side" });
    this.detail = make("div", { class: "detail", "aria-live": "polite", tabindex: "-1" });
    box.append(make("div", { class: "bar" }, "step by", this.by, button("\u25c0", "Step back", -1), this.slider,
      button("\u25b6", "Step forward", 1), this.when), this.cause, make("div", { class: "sides" }, this.guest, this.shadow), this.detail);
    box.hidden = false;
    const first = steps.findIndex((s) => s.k === FAULT && s.place !== undefined);
    if (steps.length) this.show(Math.max(0, first));
  }
  step(by) {
    const { steps, head } = this.tables, kind = this.by.value;
    const hidden = (s) => this.vm.hidden.has(head.classes.find(([n]) => n === s.class)[1]);
    const meant = { record: () => true, fault: (s) => s.k === FAULT && !hidden(s), phase: (s) => s.k === MARK }[kind];
    let n = this.at + by;
    while (steps[n] && !meant(steps[n])) n += by;
    if (steps[n]) this.show(n); else this.when.textContent += ` (no ${kind} ${by > 0 ? "after" : "before"} this)`;
  }
  // The last step at or before a time, ns from the start.
  toTime(ns) {
    const { steps } = this.tables;
    let low = 0, high = steps.length;
    while (low < high) { const middle = (low + high) >> 1; if (steps[middle].t <= ns) low = middle + 1; else high = middle; }
    this.show(Math.max(0, low - 1), false);
  }
  toSeq(seq) {
    const n = this.tables.steps.findIndex((s) => s.seq === seq);
    if (n >= 0) this.show(n);
  }
  show(n, cursor = true) {
    const { tables } = this, s = tables.steps[n];
    if (!s) return;
    tables.go(n);
    this.at = n;
    this.slider.value = n;
    this.slider.setAttribute("aria-valuetext", `record ${s.seq}, ${time(s.t)}`);
    const sampled = n >= tables.head.exact ? ", a sample" : "";
    this.when.textContent = `record ${count(s.seq)}, ${time(s.t)} after the start${sampled}`;
    this.cause.textContent = this.words(s);
    this.changed = new Set(s.ops.filter((op) => op[0] === 3).map((op) => op[1]));
    if (s.k === FAULT) this.focus = { s, way: () => tables.way(tables.frame(s.root), s.high, s.low) };
    else if (s.place !== undefined) this.focus = { s: null, way: () => tables.wayTo(s.place) };
    this.level = [1, 1];
    this.sides();
    const own = this.vm.explained.get(s.seq);
    const text = own ? make("button", { type: "button", class: "read", onclick: () => this.explain(own) }, `Read what happened in ${own.label}`)
      : make("code", {}, `${this.vm.data.command} --seq ${s.seq}`);
    this.detail.replaceChildren(text);
    if (cursor) this.vm.set(s.t / 1e9, false);
  }
  words(s) {
    const { head } = this.tables, name = (list, n) => (list.find(([number]) => number === n) || ["", "?"])[1];
    const by = s.vcpu === null || s.vcpu === undefined ? "" : ` on vCPU ${s.vcpu}`;
    const changes = s.ops.filter((op) => op[0] === 3).length, made = s.ops.filter((op) => op[0] === 2).length;
    const gone = s.ops.filter((op) => op[0] === 1).length;
    const did = [changes && plural(changes, "entry") + " stored", made && plural(made, "page") + " made or marked", gone && plural(gone, "page") + " zapped"]
      .filter(Boolean).join(", ") || "no entry changed";
    const what = {
      [FAULT]: () => `fault at ${gva(s)}${by}: ${name(head.classes, s.class)}, ${time(s.took)}`,
      [ENTRY]: () => `entry ${hex(s.place * 8)} changed${by}: ${name(head.causes, s.cause)}`,
      [PAGE]: () => `shadow page ${hex(s.place * 8)}${by}: ${name(head.events, s.event)}`,
      [ROOT]: () => `root ${hex(this.tables.frame(s.root) * 4096)}${by}, guest CR3 ${head.words[s.cr3]}`,
      [MARK]: () => `phase ${s.name} begins`,
      [KEYFRAME]: () => `keyframe ${s.number} ends: the tables compared with the kernel's`,
      [WRITE]: () => `the guest's store of ${plural(s.bytes, "byte")} to ${hex(s.gfn * 4096 + s.offset)}${by}, emulated`,
      [HOST]: () => `host: ${name(head.hosts, s.host)} of ${plural(s.pages, "page")} from gfn ${hex(s.gfn)}`,
      [ACT]: () => `KVM${by}: ${name(head.acts, s.act)}, ${time(s.took)}; ${count(s.synced)} synced, ${count(s.zapped)} zapped`,
    }[s.k];
    return `${what ? what() : "a page of a keyframe"}; ${did}`;
  }
  sides() {
    const { tables } = this, way = this.focus ? this.focus.way() : [];
    const s = this.focus && this.focus.s, guest = s ? tables.guestWay(s) : this.guestOf(way);
    this.side(this.shadow, 1, "Shadow tables: GVA to HPA", way.map(({ page, index }) => ({ level: page.level, index, entries: page.e,
      name: `${hex(page.spt * 4096)}${page.unsync ? " unsync" : ""}`, place: (i) => page.spt * 512 + i,
      line: (e) => `${bits(tables.low[e.w], tables.isLeaf(e, page.level))} ${hex(e.pfn * 4096)}${e.gfn === null ? "" : ` gfn ${hex(e.gfn)}`}`,
      there: (e) => tables.isPresent(e) })), "No table is known on this way.");
    this.side(this.guest, 0, "Guest tables: GVA to GPA", guest.map(({ level, table, index }) => ({ level, index, entries: tables.guest.get(table) || new Map(),
      name: hex(table * 4096), place: null,
      line: (e) => `${bits(tables.low[e.w], level === 1)} ${hex(e.pfn * 4096)}`, there: (e) => !!(tables.low[e.w] & 1) })),
    "Not seen: no fault on this way read the guest's tables.");
  }
  // The guest tables that the shadow pages on a way follow.
  guestOf(way) {
    return way.filter(({ page }) => !page.direct && this.tables.guest.has(page.gfn))
      .map(({ page, index }) => ({ level: page.level, table: page.gfn, index }));
  }
  side(box, number, title, tables, none) {
    box.replaceChildren(make("h4", {}, title));
    if (!tables.length) return box.append(make("p", { class: "note" }, none));
    const list = make("ul", { class: "tree", "aria-label": title });
    for (const [depth, table] of tables.entries()) {
      const present = [...table.entries].filter(([, e]) => table.there(e)).sort((a, b) => a[0] - b[0]);
      const pad = `padding-left:${depth * 14}px`;
      list.append(make("li", { style: pad }, make("button", { type: "button", "aria-pressed": String(this.level[number] === table.level),
        onclick: () => { this.level[number] = table.level; this.sides(); } }, `level ${table.level} at ${table.name}, ${present.length} present`)));
      const near = present.filter(([i]) => Math.abs(i - table.index) <= 2);
      if (!near.some(([i]) => i === table.index)) near.push([table.index, table.entries.get(table.index)]);
      near.sort((a, b) => a[0] - b[0]);
      for (const [i, e] of near) {
        const isChanged = table.place ? this.changed.has(table.place(i)) : e && e.since === this.tables.steps[this.at].seq;
        list.append(make("li", { style: `padding-left:${depth * 14 + 12}px`, class: isChanged ? "changed" : "" },
          make("button", { type: "button", onclick: () => this.entry(table, i, e) },
            `[${i}]${i === table.index ? "*" : ""} ${e && !(table.place && this.tables.isEmpty(e)) ? table.line(e) : table.place ? "empty" : "not seen"}${isChanged ? " \u2190 changed" : ""}`)));
      }
      const rest = present.length - near.filter(([, e]) => e && table.there(e)).length;
      if (rest > 0) list.append(make("li", { class: "more", style: pad }, `and ${plural(rest, "entry")} more`));
    }
    box.append(list, this.grid(tables, number));
  }
  grid(tables, number) {
    const table = tables.find((one) => one.level === this.level[number]) || tables[tables.length - 1];
    const cells = make("div", { class: "grid", tabindex: "0", role: "application",
      "aria-label": `The 512 entries of the table of level ${table.level} at ${table.name}; arrow keys choose, Enter reads` });
    let here = table.index;
    for (let i = 0; i < 512; i++) {
      const e = table.entries.get(i), names = [];
      if (e && table.there(e)) names.push("there");
      if (e && table.there(e) && this.tables.low[e.w] & 2) names.push("writable");
      if (table.place ? this.changed.has(table.place(i)) : e && e.since === this.tables.steps[this.at].seq) names.push("changed");
      if (i === here) names.push("here");
      cells.append(make("i", { class: names.join(" "), "data-index": i }));
    }
    const read = (i) => this.entry(table, i, table.entries.get(i));
    cells.addEventListener("click", (event) => { if (event.target.dataset.index) read(Number(event.target.dataset.index)); });
    cells.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -32, ArrowDown: 32 }[event.key];
      if (event.key === "Enter") read(here);
      if (!by) return;
      event.preventDefault();
      cells.children[here].classList.remove("here");
      here = (here + by + 512) % 512;
      cells.children[here].classList.add("here");
      read(here);
    });
    return cells;
  }
  entry(table, index, e) {
    const low = e ? this.tables.low[e.w] : 0;
    const words = [`Entry ${index} of the table of level ${table.level} at ${table.name}: ${e ? this.tables.text(e) : table.place ? "empty" : "not seen"}`];
    if (e && table.there(e)) {
      words.push([low & 2 ? "writable" : "read-only", low & 4 ? "user" : "supervisor", low & 32 ? "accessed" : "not accessed"].join(", "));
      words.push(`${table.place ? "HPA" : "GPA"} ${hex(e.pfn * 4096)}${table.place && e.gfn !== null ? `, of gfn ${hex(e.gfn)}` : ""}`);
    }
    if (e) words.push(table.place ? `stored at record ${count(e.seq)}` : `so since record ${count(e.since)}, last seen at record ${count(e.seq)}`);
    this.detail.replaceChildren(make("p", {}, words.join("; ")));
    const one = e && this.vm.explained.get(e.seq);
    if (one) this.detail.append(make("pre", { tabindex: "0" }, one.text));
    else if (e) this.detail.append(make("code", {}, `${this.vm.data.command} --seq ${e.seq}`));
  }
  explain(one) {
    const pre = make("pre", { tabindex: "0", "aria-label": `What happened in ${one.label}` }, one.text);
    this.detail.replaceChildren(make("h4", {}, `${one.label}, record ${count(one.seq)}`), pre);
    pre.focus({ preventScroll: true });
    this.detail.scrollIntoView({ block: "nearest" });
  }
}

const vms = [];
for (const section of document.querySelectorAll("section.vm")) {
  const data = section.querySelector("script.data");
  if (data) vms.push(new Vm(section, JSON.parse(data.textContent)));
}
document.body.append(tip);
const ready = Promise.all(vms.map((vm) => vm.play().catch((error) => {
  const box = vm.section.querySelector(".moment");
  box.hidden = false;
  box.append(make("p", { class: "bad" }, `This browser cannot show the tables at a moment: ${error.message}`));
})));
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
window.shadowscope = { vms, ready };
})();
