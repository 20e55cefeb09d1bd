// The stream of steps, see docs/architecture.md and analyzer/src/playback.
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
