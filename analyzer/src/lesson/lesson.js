"use strict";
// One step at a time; without this script they come one below the other.
(() => {
const slides = [...document.querySelectorAll(".slide")];
const words = slides.findIndex((slide) => slide.id === "words");
let at = 0, before = 0;
const show = (n) => {
  at = Math.max(0, Math.min(slides.length - 1, n));
  slides.forEach((slide, number) => slide.classList.toggle("off", number !== at));
  document.querySelector(".where").textContent = `${at + 1} of ${slides.length}`;
  slides[at].querySelector("h2").focus({ preventScroll: true });
  scrollTo(0, 0);
};
const answer = () => {
  const all = [...slides[at].querySelectorAll("details")], open = !all.every((one) => one.open);
  all.forEach((one) => { one.open = open; });
  slides[at].querySelector(".answers")?.scrollIntoView({ block: "nearest" });
};
// To the words, and back to where it was.
const look = () => {
  if (at === words) return show(before);
  before = at;
  show(words);
};
const keys = { ArrowRight: () => show(at + 1), PageDown: () => show(at + 1), ArrowLeft: () => show(at - 1),
  PageUp: () => show(at - 1), Home: () => show(0), End: () => show(slides.length - 1), a: answer, w: look };
addEventListener("keydown", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!keys[key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[key]();
});
document.querySelector(".back").addEventListener("click", keys.ArrowLeft);
document.querySelector(".next").addEventListener("click", keys.ArrowRight);
document.querySelector(".slides").hidden = false;
show(0);
window.lesson = { show, at: () => at };
})();
