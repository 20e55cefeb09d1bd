// The tables at a moment.
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
    box.append(make("p", { class: "note" }, `${vm.data.legend}. * is the entry on the way of the address. Squares, the 512 entries of a table: `,
      ...[["there", "read-only"], ["there writable", "writable"], ["", "empty or not seen"], ["changed", "changed by this record"]]
        .flatMap(([names, text]) => [make("i", { class: `key ${names}` }), `${text} `])));
    if (steps.length) this.show(this.first());
  }
  // The first fault with tables on both sides, without that the first with an entry.
  first() {
    const { tables } = this, { steps } = tables;
    let found = 0;
    for (let n = 0; n < Math.min(steps.length, 65536); n++) {
      const s = steps[n];
      if (s.k !== FAULT || s.place === undefined) continue;
      found = found || n;
      tables.go(n);
      if (tables.guestWay(s).length && tables.way(tables.frame(s.root), s.high, s.low).length) return n;
    }
    return found;
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
    else if (s.k === WRITE) this.focus = this.stored(s);
    const lowest = this.focus && this.focus.level || 1;
    this.level = [lowest, lowest];
    this.sides();
    const own = this.vm.explained.get(s.seq);
    const text = own ? make("button", { type: "button", class: "read", onclick: () => this.explain(own) }, `Read what happened in ${own.label}`)
      : make("code", {}, `${this.vm.data.command} --seq ${s.seq}`);
    this.detail.replaceChildren(text);
    if (cursor) this.vm.set(s.t / 1e9, false);
  }
  // The table that a store goes to, and its shadow.
  stored(s) {
    const [page] = this.tables.shadowsOf(s.gfn), index = s.offset >> 3;
    const way = () => page && this.tables.pages.get(page.spt) ? this.tables.wayTo(page.spt * 512 + index) : [];
    return { s: null, way, table: s.gfn, index, level: page ? page.level : 1 };
  }
  // What a store made stale: its removals are the next records of its vCPU.
  stale(s) {
    const { steps, head } = this.tables, cause = head.causes.find(([, name]) => name === "guest_write");
    const zap = head.events.find(([, name]) => name === "zapped"), did = [];
    let removed = 0, zapped = 0;
    for (let n = s.n + 1; n < steps.length && n < head.exact && n < s.n + 1000; n++) {
      const next = steps[n];
      if (next.vcpu !== s.vcpu) continue;
      if (next.k === ENTRY && cause && next.cause === cause[0]) removed += next.ops.length ? 1 : 0;
      else if (next.k !== PAGE) break;
      else if (zap && next.event === zap[0]) zapped += 1;
    }
    if (removed) did.push(`${removed === 1 ? "removes" : "remove"} ${removed === 1 ? "1 shadow entry" : count(removed) + " shadow entries"}`);
    if (zapped) did.push(`${zapped + removed === 1 ? "zaps" : "zap"} ${plural(zapped, "shadow page")}`);
    return did.length ? `the next record${removed + zapped === 1 ? "" : "s"} ${did.join(" and ")}` : "";
  }
  words(s) {
    const { head } = this.tables, name = (list, n) => (list.find(([number]) => number === n) || ["", "?"])[1];
    const by = s.vcpu === null || s.vcpu === undefined ? "" : ` on vCPU ${s.vcpu}`;
    const changes = s.ops.filter((op) => op[0] === 3).length, made = s.ops.filter((op) => op[0] === 2).length;
    const gone = s.ops.filter((op) => op[0] === 1).length;
    const later = s.k === WRITE ? this.stale(s) : "", own = s.k === FAULT && name(head.classes, s.class) === "write_protected";
    const did = [changes && plural(changes, "entry") + " stored", made && plural(made, "page") + " made or marked", gone && plural(gone, "page") + " zapped",
      later]
      .filter(Boolean).join(", ") || (own ? "the guest's store has its own record" : "no shadow entry changed");
    const what = {
      [FAULT]: () => `fault at ${gva(s)}${by}: ${name(head.classes, s.class)}, ${time(s.took)}`,
      [ENTRY]: () => `entry ${hex(s.place * 8)} ${changes ? "changed" : "read or stored again"}${by}: ${name(head.causes, s.cause)}`,
      [PAGE]: () => `shadow page ${hex(s.place * 8)}${by}: ${name(head.events, s.event)}`,
      [ROOT]: () => `root ${hex(this.tables.frame(s.root) * 4096)}${by}, guest CR3 ${head.words[s.cr3]}`,
      [MARK]: () => `phase ${s.name} begins`,
      [KEYFRAME]: () => `keyframe ${s.number} ends: the tables compared with the kernel's`,
      [WRITE]: () => `the guest stores 0x${this.tables.value(s.value).toString(16)} (${plural(s.bytes, "byte")}) to entry ${s.offset >> 3} of the table at ${hex(s.gfn * 4096)}${by}, emulated`,
      [HOST]: () => `host: ${name(head.hosts, s.host)} of ${plural(s.pages, "page")} from gfn ${hex(s.gfn)}`,
      [ACT]: () => `KVM${by}: ${name(head.acts, s.act)}, ${time(s.took)}; ${count(s.synced)} synced, ${count(s.zapped)} zapped`,
    }[s.k];
    return `${what ? what() : "a page of a keyframe"}; ${did}`;
  }
  sides() {
    const { tables } = this, way = this.focus ? this.focus.way() : [];
    const s = this.focus && this.focus.s, guest = s ? tables.guestWay(s) : this.guestOf(way, this.focus);
    this.side(this.shadow, 1, `Shadow tables: ${this.vm.data.playback.address} to HPA`, way.map(({ page, index }) => ({ level: page.level, index, entries: page.e,
      name: `${hex(page.spt * 4096)}${page.unsync ? " unsync" : ""}`, place: (i) => page.spt * 512 + i,
      line: (e) => `${tables.letters(e, true)} ${hex(e.pfn * 4096)}${e.gfn === null ? "" : ` gfn ${hex(e.gfn)}`}`,
      there: (e) => tables.isPresent(e) })), "No table is known on this way.");
    this.side(this.guest, 0, `${this.vm.data.playback.guest_tables}: ${this.vm.data.playback.address} to GPA`, guest.map(({ level, table, index }) => ({ level, index, entries: tables.guest.get(table) || new Map(),
      name: hex(table * 4096), place: null, table,
      line: (e) => `${tables.letters(e, false)} ${hex(e.pfn * 4096)}`, there: (e) => !!(tables.low[e.w] & 1) })),
    "Not seen: no fault on this way read the guest's tables.");
  }
  // The guest tables that the shadow pages on a way follow.
  guestOf(way, focus) {
    const found = way.filter(({ page }) => !page.direct && this.tables.guest.has(page.gfn))
      .map(({ page, index }) => ({ level: page.level, table: page.gfn, index }));
    const { table, index, level } = focus || {};
    if (table !== undefined && !found.some((one) => one.table === table)) found.push({ level, table, index });
    return found;
  }
  change(table, e) {
    if (table.place) return "changed";
    return this.tables.steps[this.at].k === WRITE ? "stored" : e.first ? "first read" : "changed";
  }
  // Whether this step changed an entry, or stored to it.
  isChanged(table, i, e) {
    const s = this.tables.steps[this.at];
    if (table.place) return this.changed.has(table.place(i));
    return !!e && e.since === s.seq || s.k === WRITE && table.table === s.gfn && i === s.offset >> 3;
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
        const isChanged = this.isChanged(table, i, e);
        list.append(make("li", { style: `padding-left:${depth * 14 + 12}px`, class: isChanged ? "changed" : "" },
          make("button", { type: "button", onclick: () => this.entry(table, i, e) },
            `[${i}]${i === table.index ? "*" : ""} ${e && !(table.place && this.tables.isEmpty(e)) ? table.line(e) : table.place ? "empty" : "not seen"}${isChanged ? ` \u2190 ${this.change(table, e)}` : ""}`)));
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
      if (this.isChanged(table, i, e)) names.push("changed");
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
