// A figure over time.
class Figure {
  constructor(vm, node, name, plots) {
    Object.assign(this, { vm, node, name, plots, svg: node.querySelector("svg") });
    this.over = make("g", { class: "over" });
    this.svg.append(this.over);
    const box = this.svg.parentNode;
    box.setAttribute("aria-description", "arrow keys move the cursor, + and - zoom, 0 shows all");
    box.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    // A drag that leaves the figure ends there: its release comes to another element.
    for (const end of ["pointerleave", "pointercancel"]) {
      this.svg.addEventListener(end, () => { this.hover = null; this.from = undefined; this.lines(); say(""); });
    }
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
    const box = this.svg.getBoundingClientRect();
    say(this.words(this.hover, (event.clientY - box.top) / box.width * (this.svg.viewBox.baseVal.width || 960)), event);
  }
  words(seconds, y) {
    const { times } = this.vm.data, bin = Math.min(times.bins - 1, Math.floor(seconds / times.bin_s));
    const lines = [`${time(seconds * 1e9)} after the start`];
    if (this.name === "rates") {
      for (const [name, , faults] of times.classes) {
        if (faults[bin] && !this.vm.hidden.has(name)) lines.push(`${name}: ${short(faults[bin] / times.bin_s)} faults a second (${plural(faults[bin], "fault")})`);
      }
      lines.push(`shadow entries: ${count(times.entries[bin])}`);
    } else if (this.name === "pages" || this.name === "spaces") {
      for (const [name, , pages] of this.name === "pages" ? times.levels : times.spaces) if (pages[bin]) lines.push(`${name}: ${plural(pages[bin], "shadow page")}`);
      if (this.name === "pages" && times.unsync[bin]) lines.push(`unsync: ${plural(times.unsync[bin], "shadow page")}`);
    } else if (this.name === "causes") {
      for (const [name, , changes] of times.causes) if (changes[bin]) lines.push(`${name}: ${short(changes[bin] / times.bin_s)} changes a second (${plural(changes[bin], "change")})`);
    } else {
      const column = Math.floor(seconds / times.heat.column_s), areas = this.areas(times.heat);
      const sum = (cells) => cells.reduce((all, [, at, n]) => all + (at === column ? n : 0), 0);
      const over = this.plots.findIndex(([, top, , bottom]) => y >= top && y <= bottom);
      if (over >= 0) {
        const area = areas[over], [, top, , bottom] = this.plots[over], bytes = BigInt(area.row_bytes);
        const row = Math.min(area.rows - 1, Math.floor((bottom - y) / (bottom - top) * area.rows));
        const cell = area.cells.find(([at, of]) => at === row && of === column);
        const from = BigInt(area.from) + BigInt(row) * bytes;
        lines.push(`${hex(from)} to ${hex(from + bytes)}${area.name ? ` (${area.name})` : ""}`);
        lines.push(`${plural(cell ? cell[2] : 0, "fault")} in ${time(times.heat.column_s * 1e9)}`);
      }
      lines.push(`all addresses: ${plural(areas.reduce((all, area) => all + sum(area.cells), 0), "fault")}`);
      if (this.vm.hidden.size) lines.push("of the classes shown");
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
    const live = !!vm.range || (vm.hidden.size > 0 && ["rates", "heat"].includes(this.name));
    this.svg.classList.toggle("live", live);
    this.over.replaceChildren();
    if (live) this.redraw(times);
    for (const one of vm.data.explained) {
      const [from, to] = vm.shown();
      if (one.at_s === undefined || one.text === null || one.at_s < from || one.at_s > to || ["pages", "spaces", "causes"].includes(this.name)) continue;
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
    const rate = ([name, colour, values]) => [name, colour, values.map((n) => n / times.bin_s)];
    let series = this.name === "pages" ? times.levels : this.name === "spaces" ? times.spaces : this.name === "causes" ? times.causes.map(rate)
      : times.classes.filter(([name]) => !this.vm.hidden.has(name)).map(rate);
    const fine = this.name === "rates" && this.vm.tables && this.vm.data.playback.exact_until === null && this.vm.range && this.finer(from, to);
    if (fine) { ({ bins, series } = fine); }
    this.stack(this.plots[0], series, bins, { pages: "shadow pages", spaces: "shadow pages", causes: "changes a second" }[this.name] || "faults a second", this.plots.length === 1);
    if (this.name === "pages" && times.unsync.some((n) => n)) this.line(this.plots[0], times.unsync, { first, last, width: times.bin_s }, this.most, "#D50000");
    if (this.plots[1]) {
      const values = times.entries.slice(first, last + 1), most = Math.max(1, ...values) * 1.1;
      this.axis(this.plots[1], most, "shadow entries", true);
      this.line(this.plots[1], times.entries, { first, last, width: times.bin_s }, most, "#333333");
    }
    this.plots.forEach((plot) => this.lost(plot, from, to));
  }
  // Where records are missing, over what is there.
  lost([left, top, right, bottom], from, to) {
    for (const [a, b] of this.vm.data.times.lost) {
      if (b < from || a > to) continue;
      const x0 = Math.max(left, this.x(a)), x1 = Math.min(right, this.x(b));
      this.over.append(make("rect", { class: "lost", x: x0, y: top, width: Math.max(1, x1 - x0), height: bottom - top, fill: "#D50000", "fill-opacity": 0.25 },
        make("title", {}, "records are missing here")));
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
    for (let bin = first; bin <= last; bin++) most = Math.max(most, series.reduce((sum, [, , values]) => sum + (values[bin] || 0), 0));
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
        base[bin] += values[bin] || 0;
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
  // The areas of the heat map with the faults of the classes that are shown: row, column, faults.
  areas({ areas, columns }) {
    const { hidden, data: { times } } = this.vm, key = [...hidden].sort().join();
    if (this.sums && this.sums.key === key) return this.sums.areas;
    const summed = areas.map((area) => {
      const cells = new Map();
      for (const [row, column, of, n] of area.cells) {
        if (hidden.has(times.classes[of][0])) continue;
        const cell = row * columns + column;
        cells.set(cell, (cells.get(cell) || 0) + n);
      }
      return { ...area, cells: [...cells].map(([cell, n]) => [Math.floor(cell / columns), cell % columns, n]) };
    });
    this.sums = { key, areas: summed };
    return summed;
  }
  heat(heat, from, to) {
    const { column_s, most, colours } = heat, areas = this.areas(heat);
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
