// The page.
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
