"use strict";

const root = document.documentElement;
root.classList.add("scripted");

const cards = Array.from(document.querySelectorAll(".card"));
const form = document.querySelector(".filters");
const selects = Array.from(document.querySelectorAll(".filters select"));

// Show the cards that match every filter that is set. A card may have several classes.
function filter() {
  let shown = 0;
  for (const card of cards) {
    const matches = selects.every((select) => {
      const key = select.id.replace("filter-", "");
      return select.value === "" || card.dataset[key]?.split(" ").includes(select.value);
    });
    card.hidden = !matches;
    shown += matches ? 1 : 0;
  }
  document.getElementById("shown").textContent = `${shown} of ${cards.length} shown`;
  document.getElementById("nothing").hidden = shown > 0;
}

if (form) {
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter)); // once the selects are reset
  filter(); // a browser may restore earlier choices after a reload
}

// A click on a number of the confusion matrix shows its examples.
document.querySelector("table.confusion")?.addEventListener("click", (event) => {
  const cell = event.target.closest("td");
  if (!cell || !cell.textContent) return;
  document.getElementById("filter-predicted").value = cell.cellIndex - 1;
  document.getElementById("filter-true").value = cell.parentElement.sectionRowIndex;
  document.getElementById("filter-result").value = "";
  filter();
  document.getElementById("examples").scrollIntoView();
});

// The exact weight of the token or time step under the pointer.
const readout = document.getElementById("readout");
document.addEventListener("pointerover", (event) => {
  const part = event.target.closest("[data-weight]");
  readout.hidden = !part;
  if (!part) return;
  const start = Number(part.getAttribute("x"));
  const end = start + Number(part.getAttribute("width")) - 1;
  const step = end > start ? `steps ${start} to ${end}: ` : `step ${start}: `;
  readout.textContent = `${part.tagName === "rect" ? step : ""}${part.dataset.weight} of the attention`;
  const place = part.getBoundingClientRect();
  const left = Math.min(event.clientX, root.clientWidth - readout.offsetWidth - 8);
  readout.style.left = `${Math.max(left, 8)}px`;
  readout.style.top = `${place.bottom + 6}px`;
});
document.addEventListener("scroll", () => { readout.hidden = true; }, { passive: true });
