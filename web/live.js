// Follows one prediction. The server draws its panel; here only text that grows is added, and the panel is asked for again
// when something else has changed.

const REFRESH_MS = 250; // At most so often.
const WAITING_MS = 1000; // While it waits: its place in the queue.
const CLOCK_MS = 100;

let current = null;

// Said to whoever does not see the page.
export function say(text) {
  let place = document.getElementById("said");
  if (!place) {
    place = document.createElement("p");
    place.id = "said";
    place.className = "said-aloud";
    place.setAttribute("role", "status");
    document.body.append(place);
  }
  if (place.textContent !== text) place.textContent = text;
}

export function follow(panel) {
  current?.end();
  current = new Follower(panel);
}

// A panel on the screen before the server has answered.
export function expect(text) {
  current?.end();
  const panel = document.getElementById("panel");
  const fresh = panel.cloneNode(false);
  for (const name of ["part", "events"]) delete fresh.dataset[name];
  fresh.innerHTML = `<div class="state"><span class="mark active">Starting</span><span class="clock" data-clock></span>
    <span class="wait"></span></div><div class="output"><p class="nothing pending"></p></div>`;
  fresh.querySelector(".pending").textContent = text;
  fresh.dataset.age = 0;
  panel.replaceWith(fresh);
  current = new Follower(fresh);
  say("Starting");
}

class Follower {
  constructor(panel) {
    this.timers = [];
    this.logsSeen = 0; // Characters of all log events.
    this.asked = false;
    this.took(panel);
    if (this.ended) return;
    this.timers.push(setInterval(() => this.tick(), CLOCK_MS));
    const events = panel.dataset.events;
    if (!events) {
      if (this.part) this.poll();
      return;
    }
    this.source = new EventSource(events);
    const on = (name, act) => this.source.addEventListener(name, (event) => act(JSON.parse(event.data)));
    on("status", (data) => data.status === "starting" || this.refresh());
    on("output", (data) => this.output(data));
    on("logs", (data) => this.logs(data.text));
    on("metric", () => this.refresh());
    on("done", () => {
      this.source.close();
      this.refresh(0);
    });
    this.source.onerror = () => {
      // Refused, not only broken: it asks now and then instead.
      if (this.source.readyState === EventSource.CLOSED) this.poll();
    };
  }

  poll() {
    this.timers.push(setInterval(() => this.refresh(), WAITING_MS));
  }

  // Takes a panel that the server drew.
  took(panel) {
    this.panel = panel;
    this.part = panel.dataset.part;
    this.born = performance.now() - Number(panel.dataset.age || 0);
    this.text = panel.dataset.display === "text" ? panel.querySelector("[data-output] .text") : null;
    this.parts = Number(panel.dataset.parts || 0);
    this.pre = panel.querySelector("[data-logs]");
    this.logsHave = this.pre?.textContent.length ?? 0;
    // A panel may be taken again, by the next one who follows it.
    for (const form of panel.querySelectorAll("[data-cancel]")) form.onsubmit = (event) => this.cancel(event);
    for (const link of panel.querySelectorAll("[data-share]")) link.onclick = share;
    clearTimeout(this.waiting);
    if (panel.dataset.status === "Starting" && this.part) this.waiting = setTimeout(() => this.refresh(), WAITING_MS);
    if (this.pre) this.pre.scrollTop = this.pre.scrollHeight;
    if (this.part && !panel.querySelector("[data-clock]")) this.end();
  }

  end() {
    this.ended = true;
    this.source?.close();
    clearTimeout(this.waiting);
    this.timers.forEach(clearInterval);
  }

  tick() {
    const clock = this.panel.querySelector("[data-clock]");
    if (clock) clock.textContent = duration(performance.now() - this.born);
  }

  output({ index, output: part }) {
    if (this.panel.dataset.display !== "text" || typeof part !== "string") return this.refresh();
    if (index < this.parts) return;
    if (index > this.parts) return this.refresh();
    if (!this.text) {
      this.text = document.createElement("div");
      this.text.className = "text";
      this.panel.querySelector("[data-output]").replaceChildren(this.text);
    }
    this.text.append(part);
    this.parts += 1;
  }

  // What the panel has already is skipped: events start from the first.
  logs(text) {
    const from = Math.max(0, this.logsHave - this.logsSeen);
    this.logsSeen += text.length;
    if (!this.pre || from >= text.length) return;
    const atEnd = this.pre.scrollHeight - this.pre.scrollTop - this.pre.clientHeight < 8;
    this.pre.append(text.slice(from));
    this.logsHave = this.logsSeen;
    if (atEnd) this.pre.scrollTop = this.pre.scrollHeight;
  }

  refresh(after = REFRESH_MS) {
    if (after === 0) this.last = true;
    if (this.asked || !this.part) return;
    this.asked = true;
    setTimeout(() => this.draw(), after);
  }

  async draw() {
    this.last = false;
    try {
      const answer = await fetch(this.part, { headers: { accept: "text/html" } });
      if (answer.ok && !this.ended) this.replace(await answer.text());
    } catch {
      this.last = true; // The server is away for a moment.
      await new Promise((done) => setTimeout(done, WAITING_MS));
    } finally {
      this.asked = false;
      if (this.last && !this.ended) this.refresh(REFRESH_MS);
    }
  }

  replace(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("panel");
    if (!fresh) return;
    const pair = (selector) => [this.panel.querySelector(selector), fresh.querySelector(selector)];
    const [before, after] = pair("[data-output]");
    const [oldLogs, newLogs] = pair(".logs");
    const [oldText, newText] = pair("[data-logs]");
    if (oldLogs && newLogs) newLogs.open = oldLogs.open;
    // What came while the server drew is not taken back, what is the same stays, and what plays goes on.
    const behind = this.text && fresh.querySelector("[data-clock]") && Number(fresh.dataset.parts) <= this.parts;
    const same = before && after && before.innerHTML === after.innerHTML;
    const focused = this.panel.contains(document.activeElement) && document.activeElement.matches("button, a, summary");
    if (behind) fresh.dataset.parts = this.parts;
    if (oldText && newText && newText.textContent.length <= oldText.textContent.length) newText.replaceWith(oldText);
    this.panel.replaceWith(fresh);
    if (behind || same) after.replaceWith(before);
    this.took(fresh);
    if (focused) (fresh.querySelector(".actions button, .actions a") ?? fresh).focus({ preventScroll: true });
    say(fresh.dataset.status);
  }

  async cancel(event) {
    event.preventDefault();
    const button = event.target.querySelector("button");
    const body = new FormData(event.target);
    button.disabled = true;
    button.textContent = "Canceling …";
    try {
      await fetch(event.target.action, { method: "POST", body, headers: { accept: "text/html" } });
    } finally {
      this.refresh(0);
    }
  }
}

async function share(event) {
  event.preventDefault();
  const link = event.currentTarget;
  try {
    await navigator.clipboard.writeText(link.href);
    link.textContent = "Link copied";
    say("Link copied");
  } catch {
    const field = document.createElement("input");
    field.readOnly = true;
    field.value = link.href;
    field.setAttribute("aria-label", "Link to share");
    link.after(field);
    field.select();
  }
}

function duration(ms) {
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1000);
  const two = (number) => String(number).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor(seconds / 60) % 60)} min`;
}
