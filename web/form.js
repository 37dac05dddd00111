// The form of a model: sliders, lists, files, sending it, and the same call for programs as it changes.

import { expect, follow, say } from "./live.js";

const SNIPPETS_MS = 200; // After the last change.

export function prepare(form) {
  for (const slider of form.querySelectorAll("[data-slider]")) tie(slider);
  for (const add of form.querySelectorAll("[data-add]")) rows(add);
  for (const box of form.querySelectorAll(".file")) files(box);
  let timer;
  const changed = (event) => {
    const field = event.target.closest?.(".field");
    if (field) clear(field);
    clearTimeout(timer);
    timer = setTimeout(() => refresh(form), SNIPPETS_MS);
  };
  form.addEventListener("input", changed);
  form.addEventListener("change", changed);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(form);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run(form);
    }
  });
  form.querySelector("[data-keys]")?.removeAttribute("hidden");
  // A browser may have filled the form in from before.
  refresh(form);
}

function tie(slider) {
  const number = document.getElementById(slider.dataset.slider);
  const wanted = slider.step;
  const show = () => {
    if (number.value === "") return;
    slider.step = "any"; // Any number has its place.
    slider.value = number.value;
    slider.step = wanted;
  };
  slider.disabled = false;
  show();
  slider.addEventListener("input", () => {
    number.value = Number(slider.value);
    number.dispatchEvent(new Event("input", { bubbles: true }));
  });
  number.addEventListener("input", show);
}

function rows(add) {
  const list = add.parentElement.querySelector("[data-rows]");
  const label = () => [...list.children].forEach((row, place) => row.firstElementChild.setAttribute("aria-label", `item ${place + 1}`));
  const arm = (row) => {
    const remove = row.querySelector("[data-remove]");
    remove.hidden = false;
    remove.addEventListener("click", () => {
      if (list.children.length > 1) row.remove();
      else row.firstElementChild.value = "";
      label();
      list.lastElementChild.firstElementChild.focus();
      list.dispatchEvent(new Event("input", { bubbles: true }));
    });
  };
  [...list.children].forEach(arm);
  add.addEventListener("click", (event) => {
    event.preventDefault();
    const row = list.lastElementChild.cloneNode(true);
    row.firstElementChild.value = "";
    list.append(row);
    arm(row);
    label();
    row.firstElementChild.focus();
  });
}

function files(box) {
  const input = box.querySelector("[type=file]");
  const preview = box.querySelector(".preview");
  let shown = [];
  input.addEventListener("change", () => {
    shown.forEach(URL.revokeObjectURL);
    shown = [];
    const media = [...input.files].filter((file) => /^(image|video|audio)\//.test(file.type)).slice(0, 12);
    preview.replaceChildren(...media.map((file) => {
      const kind = file.type.split("/")[0];
      const element = document.createElement(kind === "image" ? "img" : kind);
      shown.push((element.src = URL.createObjectURL(file)));
      if (kind === "image") element.alt = file.name;
      else element.controls = true;
      return element;
    }));
    preview.hidden = media.length === 0;
  });
  box.addEventListener("dragover", (event) => {
    event.preventDefault();
    box.classList.add("over");
  });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    const dropped = new DataTransfer();
    const most = input.multiple ? event.dataTransfer.files.length : 1;
    [...event.dataTransfer.files].slice(0, most).forEach((file) => dropped.items.add(file));
    if (!dropped.files.length) return;
    input.files = dropped.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}

function clear(field) {
  const problem = field.querySelector(".problem");
  if (problem) problem.textContent = "";
  for (const control of field.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
}

function problems(form, answer) {
  document.getElementById("problem").textContent = answer.message ?? "";
  let first;
  for (const field of form.querySelectorAll("[data-field]")) {
    const text = answer.problems?.[field.dataset.field];
    if (!text) continue;
    field.querySelector(".problem").textContent = text;
    const controls = field.querySelectorAll("input:not([data-slider]), textarea, select");
    controls.forEach((control) => control.setAttribute("aria-invalid", "true"));
    const folded = field.closest("details");
    if (folded) folded.open = true;
    first ??= controls[0];
  }
  first?.focus();
}

async function run(form) {
  const button = form.querySelector("[data-run]");
  if (!button || button.disabled) return;
  form.querySelectorAll(".field").forEach(clear);
  document.getElementById("problem").textContent = "";
  const body = new FormData(form);
  const sends = [...body.values()].some((value) => value instanceof File && value.size > 0);
  const before = document.getElementById("panel");
  button.disabled = true;
  expect(sends ? "Sending the files." : "The output will be here.");
  document.getElementById("panel").scrollIntoView({ block: "nearest" });
  try {
    const answer = await fetch(form.action, { method: "POST", body, headers: { accept: "application/json" } });
    const found = await answer.json();
    if (answer.status === 201) await show(found);
    else refused(form, before, found);
  } catch {
    refused(form, before, { message: "The server does not answer. Is it still running?" });
  } finally {
    button.disabled = false;
  }
}

function refused(form, before, answer) {
  document.getElementById("panel").replaceWith(before);
  if (before.dataset.part) follow(before);
  else expectNothing();
  problems(form, answer);
}

const expectNothing = () => say("Not run");

async function show(found) {
  const answer = await fetch(found.panel);
  const panel = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("panel");
  document.getElementById("panel").replaceWith(panel);
  follow(panel);
  const id = found.page.split("/").pop();
  const version = document.querySelector("#form [name=version]").value;
  history.replaceState(null, "", `?version=${version}&prediction=${id}`);
}

let asking = new AbortController();

// Asks for the same call as the form stands now: with the names of files, not their content. The last one who asks is answered.
async function refresh(form) {
  asking.abort();
  const { signal } = (asking = new AbortController());
  const body = new FormData();
  for (const [name, value] of new FormData(form)) {
    if (!(value instanceof File)) body.append(name, value);
    else if (value.name) body.append(`${name}.url`, `file:${value.name}`);
  }
  try {
    const answer = await fetch(form.dataset.snippets, { method: "POST", body, signal });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("snippets");
    const old = [...document.querySelectorAll("#snippets pre")];
    fresh?.querySelectorAll("pre").forEach((pre, place) => {
      if (old[place].textContent !== pre.textContent) old[place].textContent = pre.textContent;
    });
  } catch {
    // The last ones stay.
  }
}

// One snippet at a time, each with a button that copies it.
export function snippets() {
  const box = document.getElementById("snippets");
  const parts = [...(box?.querySelectorAll("[data-snippet]") ?? [])];
  if (!parts.length) return;
  const bar = document.createElement("div");
  bar.className = "tabs";
  bar.setAttribute("role", "tablist");
  const tabs = parts.map((part) => {
    const button = document.createElement("button");
    const title = part.querySelector("h3");
    part.id = `snippet-${part.dataset.snippet}`;
    part.setAttribute("role", "tabpanel");
    button.className = "plain";
    button.type = "button";
    button.setAttribute("role", "tab");
    button.setAttribute("aria-controls", part.id);
    button.textContent = title.textContent;
    title.hidden = true;
    const copy = document.createElement("button");
    copy.className = "plain copy";
    copy.type = "button";
    copy.textContent = "Copy";
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(part.querySelector("pre").textContent);
      copy.textContent = "Copied";
      say("Copied");
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    });
    if (navigator.clipboard) part.append(copy);
    bar.append(button);
    return button;
  });
  const choose = (place) => parts.forEach((part, at) => {
    part.hidden = at !== place;
    tabs[at].setAttribute("aria-selected", at === place);
    tabs[at].tabIndex = at === place ? 0 : -1;
  });
  tabs.forEach((button, place) => {
    button.addEventListener("click", () => choose(place));
    button.addEventListener("keydown", (event) => {
      const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!way) return;
      const next = (place + way + tabs.length) % tabs.length;
      choose(next);
      tabs[next].focus();
    });
  });
  parts[0].before(bar);
  choose(0);
}
