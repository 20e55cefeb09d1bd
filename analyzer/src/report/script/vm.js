// One VM.
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
      // Records are some 100 ns apart, and an axis needs room between its ticks.
      if (b > a && b - a < Math.max(1e-7, this.end * 1e-9)) return;
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
    const row = make("div", { class: "chips", role: "group", "aria-label": "Classes shown in all figures by class" });
    for (const [name, colour, , meaning] of this.data.times.classes) {
      const chip = make("button", { type: "button", "aria-pressed": "true", title: meaning, "data-class": name,
        onclick: () => {
          const hide = !this.hidden.delete(name);
          if (hide) this.hidden.add(name);
          chip.setAttribute("aria-pressed", String(!hide));
          this.figures.forEach((one) => one.draw());
          this.cover();
        } }, make("i", { style: `background:${colour}` }), name);
      row.append(chip);
    }
    figure.node.insertBefore(row, figure.node.children[1]);
    if (this.explained.size) figure.node.insertBefore(make("p", { class: "note screen" },
      "A button leaves its class out, in each figure by class. A blue triangle is a record that is explained: choose it to read."), row.nextSibling);
  }
  // Figures without a time axis: what is of a class that is not shown is covered.
  cover() {
    for (const [name, areas] of Object.entries(this.data.times.areas)) {
      const svg = this.section.querySelector(`figure[data-figure="${name}"] svg`);
      if (!svg) continue;
      svg.querySelectorAll(".cover").forEach((one) => one.remove());
      for (const [of, [x0, y0, x1, y1]] of areas) {
        if (this.hidden.has(of)) svg.append(make("rect", { class: "cover", x: x0, y: y0, width: x1 - x0, height: y1 - y0 }));
      }
    }
  }
  read(seq) {
    const one = this.explained.get(seq);
    if (one && this.moment) this.moment.explain(one);
    return !!one;
  }
}
