// What all parts use: elements, numbers in words, the tip.
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
  const first = Math.ceil(from / step - 1e-9);
  const count = Math.floor(to / step + 1e-9) - first + 1;
  return Array.from({ length: Math.max(0, Math.min(count, 2 * wanted)) }, (_, n) => (first + n) * step);
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
