// The chat's page: shows what the room says, how the connection ended, and comes back with growing pauses.
"use strict";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 5000;
const STABLE_AFTER = 3000;
const MAX_LINES = 500;
const MAX_ROWS = 50;

const element = (id) => document.getElementById(id);
const crashButtons = [...document.querySelectorAll("[data-crash]")];

let socket = null;
let timer = null;
let stableTimer = null;
let pause = FIRST_PAUSE;

function setStatus(state, text) {
  element("status").dataset.state = state;
  element("status").textContent = text;
  // Not `disabled`: that would take the focus away from whoever pressed the button.
  for (const button of [...crashButtons, element("say").querySelector("button")]) {
    button.setAttribute("aria-disabled", String(state !== "open"));
  }
}

// Everything that comes from outside becomes text, never markup.
function addLine(text, name) {
  const log = element("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const line = document.createElement("p");
  if (name === undefined) {
    line.className = "note";
    line.textContent = text;
  } else {
    const who = document.createElement("span");
    who.className = "name";
    who.textContent = `${name}: `;
    line.append(who, text);
  }
  log.append(line);
  while (log.childElementCount > MAX_LINES) {
    log.firstElementChild.remove();
  }
  if (atEnd) {
    log.scrollTop = log.scrollHeight;
  }
}

function showGuests(names) {
  element("guests").textContent = names.length ? `Here: ${names.join(", ")}` : "You are not in the room.";
}

function showClose(event, wait) {
  const row = document.createElement("tr");
  const reason = event.reason || (event.code === 1006 ? "no close frame: the line was cut, or the server refused" : "—");
  for (const text of [new Date().toLocaleTimeString(), event.code, reason, `${(wait / 1000).toFixed(1)} s`]) {
    const cell = document.createElement("td");
    cell.textContent = text;
    row.append(cell);
  }
  row.cells[2].className = "reason";
  element("closed").prepend(row);
  if (element("closed").childElementCount > MAX_ROWS) {
    element("closed").lastElementChild.remove();
  }
}

function receive(event) {
  const news = JSON.parse(event.data);
  switch (news.kind) {
    case "room":
      setStatus("open", `Connected: the room is process ${news.os_pid}`);
      break;
    case "joined":
      addLine(`${news.name} came in.`);
      showGuests(news.guests);
      break;
    case "left":
      addLine(`${news.name} left.`);
      showGuests(news.guests);
      break;
    case "said":
      addLine(news.text, news.name);
      break;
  }
}

function connect() {
  timer = null;
  setStatus("connecting", "Connecting…");
  const url = new URL("ws/chat", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("name", element("name").value);
  socket = new WebSocket(url);
  socket.addEventListener("open", () => {
    setStatus("open", "Connected");
    stableTimer = setTimeout(() => { pause = FIRST_PAUSE; }, STABLE_AFTER);
  });
  socket.addEventListener("message", receive);
  socket.addEventListener("close", (event) => {
    clearTimeout(stableTimer);
    const wait = pause * (0.8 + 0.4 * Math.random());
    pause = Math.min(LONGEST_PAUSE, pause * 2);
    setStatus("closed", `Closed with ${event.code}; coming back`);
    addLine(`The connection closed: ${event.code} ${event.reason}`.trim());
    showGuests([]);
    showClose(event, wait);
    timer = setTimeout(connect, wait);
  });
}

// Returns whether there was a connection to send it on.
function send(message) {
  const open = socket !== null && socket.readyState === WebSocket.OPEN;
  if (open) {
    socket.send(JSON.stringify(message));
  }
  return open;
}

element("say").addEventListener("submit", (event) => {
  event.preventDefault();
  if (send({ kind: "say", text: element("text").value })) {
    element("text").value = "";
  }
});

element("name").addEventListener("change", () => {
  sessionStorage.setItem("name", element("name").value);
  if (socket && socket.readyState === WebSocket.OPEN) {
    pause = FIRST_PAUSE;
    socket.close(1000, "new name");
  }
});

for (const button of crashButtons) {
  button.addEventListener("click", () => send({ kind: "crash", how: button.dataset.crash }));
}

addEventListener("pagehide", () => {
  clearTimeout(timer);
  if (socket) {
    socket.close(1000);
  }
});
addEventListener("pageshow", (event) => {
  if (event.persisted) {
    connect();
  }
});

element("name").value = sessionStorage.getItem("name") || `guest-${Math.floor(1000 * Math.random())}`;
connect();
