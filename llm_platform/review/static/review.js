// Keys, and saving without a reload. Without this file the page works by links, buttons and forms alone.
"use strict";

const KEYS_OFF = "review.keys.off";
const find = (selector) => document.querySelector(selector);
const writing = (element) => element.closest("textarea, select, input:not([type=checkbox])");

function dress() {
  for (const element of document.querySelectorAll(".needs-script")) element.hidden = false;
  const box = find("#keys-on");
  if (box) box.checked = localStorage.getItem(KEYS_OFF) === null;
}

function announce(text) {
  find("#announcement").textContent = text;
}

// The server answers every form with a whole page; it takes the place of this one, and a screen reader is told.
function show(html, address, said) {
  const next = new DOMParser().parseFromString(html, "text/html");
  const announcement = find("#announcement");
  next.querySelector("#announcement").replaceWith(announcement);
  document.title = next.title;
  document.body.replaceWith(next.body);
  history.replaceState(null, "", address);
  dress();
  const problem = find("[role=alert]");
  const place = problem || find("#document-title") || find("#main");
  window.scrollTo(0, 0);
  if (problem) problem.tabIndex = -1;
  place.focus({ preventScroll: true });
  const far = find("#far");
  announce(problem ? problem.textContent : [said, find("h1").textContent, far ? far.textContent : ""].join(". "));
}

async function send(form, button, said) {
  if (document.body.dataset.busy !== undefined) return;
  document.body.dataset.busy = "";
  const fields = new URLSearchParams(new FormData(form, button));
  try {
    const reply = await fetch(form.action, { method: "POST", body: fields, credentials: "same-origin" });
    show(await reply.text(), reply.url, said);
  } catch {
    announce("The page cannot be reached. Nothing was saved; try again.");
    window.alert("The page cannot be reached. Nothing was saved; try again.");
  } finally {
    delete document.body.dataset.busy;
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.id !== "decide" && form.id !== "undo-form") return;
  event.preventDefault();
  const label = event.submitter && event.submitter.querySelector(".label");
  const skipped = event.submitter && event.submitter.value === "skip";
  const saved = skipped ? "Skipped" : `Saved: ${label ? label.textContent : "your answer"}`;
  const said = form.id === "undo-form" ? "Taken back" : saved;
  send(form, event.submitter, said);
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
});

document.addEventListener("change", (event) => {
  if (event.target.id !== "keys-on") return;
  if (event.target.checked) localStorage.removeItem(KEYS_OFF);
  else localStorage.setItem(KEYS_OFF, "1");
});

function press(element) {
  element.click();
  if (element.tagName !== "SUMMARY" || !element.parentElement.open) return;
  const first = element.parentElement.querySelector("textarea, input, select");
  if (first) first.focus();
}

document.addEventListener("keydown", (event) => {
  const save = find("#correction[open] .save");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && save && event.target.closest("#correction")) {
    event.preventDefault();
    save.click();
    return;
  }
  if (event.key === "Escape" && writing(event.target)) {
    event.target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (writing(event.target) || find("dialog[open]") || localStorage.getItem(KEYS_OFF) !== null) return;
  const wanted = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === event.key.toLowerCase());
  if (!wanted) return;
  event.preventDefault();
  press(wanted);
});

dress();

// What is under way is told by the server as it changes; once nothing is any more, the numbers around it are news.
function follow() {
  const place = find("#follow");
  if (!place || !window.EventSource) return;
  const busy = new Set();
  const source = new EventSource(place.dataset.events);
  source.onmessage = (event) => {
    const told = JSON.parse(event.data);
    const part = [...document.querySelectorAll("[data-live]")].find((one) => one.dataset.live === told.application);
    if (part) part.innerHTML = told.html;
    if (told.works) busy.add(told.application);
    else if (busy.delete(told.application)) location.reload();
  };
  window.addEventListener("pagehide", () => source.close());
}

follow();
