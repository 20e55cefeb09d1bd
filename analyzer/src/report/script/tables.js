// The tables, forward and back.
class Tables {
  constructor(head, steps) {
    Object.assign(this, { head, steps, at: -1, undo: [], pages: new Map(), guest: new Map(), roots: new Map() });
    this.words = head.words.map((word) => BigInt(word));
    this.low = this.words.map((word) => Number(word & 0xfffn));
    this.noExecute = this.words.map((word) => !!(word >> 63n));
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
    } else if (s.k === WRITE && s.bytes === 8) {
      back.push(this.read(s.gfn, s.offset >> 3, s.value, s.seq));
    }
    this.undo.push(back);
  }
  read(table, index, e, seq) {
    if (!this.guest.has(table)) this.guest.set(table, new Map());
    const entries = this.guest.get(table), old = entries.get(index);
    const since = old && old.w === e.w && old.pfn === e.pfn ? old.since : seq;
    return this.set(entries, index, { ...e, seq, since, first: !old });
  }
  frame(word) { return Number(this.words[word] >> 12n & 0xffffffffffn); }
  value(e) { return this.words[e.w] | BigInt(e.pfn) << 12n; }
  text(e) { return "0x" + this.value(e).toString(16).padStart(16, "0"); }
  // As `explain` writes them: text/flags.rs.
  letters(e, isShadow) {
    const low = this.low[e.w], bit = (n, letter) => (low >> n & 1 ? letter : "-");
    const guest = "r" + bit(1, "w") + (this.noExecute[e.w] ? "-" : "x") + bit(2, "u") + bit(5, "A") + bit(6, "D");
    return isShadow ? guest + bit(9, "H") + bit(10, "M") : guest;
  }
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
  // The shadow pages of a guest table.
  shadowsOf(gfn) { return [...this.pages.values()].filter((page) => page.gfn === gfn && !page.direct); }
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
  // The pages, for the test that compares them with `analyzer table`.
  json() {
    return [...this.pages.values()].sort((a, b) => a.spt - b.spt).map((page) => ({
      spt: hex(page.spt * 4096), level: page.level, gfn: hex(page.gfn), direct: page.direct, unsync: page.unsync,
      role: hex(Number(this.words[page.role])),
      entries: [...page.e].filter(([, e]) => !this.isEmpty(e)).sort((a, b) => a[0] - b[0])
        .map(([index, e]) => [index, this.text(e), e.gfn === null ? null : hex(e.gfn)]),
    }));
  }
}
const gva = (s) => "0x" + (BigInt(s.high) << 32n | BigInt(s.low)).toString(16);
