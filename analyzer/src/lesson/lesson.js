"use strict";
// One step at a time; without this script they come one below the other.
(() => {
const slides = [...document.querySelectorAll(".slide")];
const answers = () => slides[at].querySelectorAll("details");
let at = 0;
const show = (n) => {
  at = Math.max(0, Math.min(slides.length - 1, n));
  slides.forEach((slide, number) => slide.classList.toggle("off", number !== at));
  document.querySelector(".where").textContent = `${at + 1} of ${slides.length}`;
  slides[at].querySelector("h2").focus({ preventScroll: true });
  scrollTo(0, 0);
};
const keys = { ArrowRight: () => show(at + 1), PageDown: () => show(at + 1), ArrowLeft: () => show(at - 1),
  PageUp: () => show(at - 1), Home: () => show(0), End: () => show(slides.length - 1),
  a: () => { const all = [...answers()], open = !all.every((one) => one.open); all.forEach((one) => { one.open = open; }); } };
addEventListener("keydown", (event) => {
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
});
document.querySelector(".back").addEventListener("click", keys.ArrowLeft);
document.querySelector(".next").addEventListener("click", keys.ArrowRight);
document.querySelector(".slides").hidden = false;
show(0);
window.lesson = { show, at: () => at };
})();
