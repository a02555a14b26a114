// What every page's script shares: words, elements, news, requests, drafts.

const words = JSON.parse(document.getElementById("words").textContent);

/** The words of a key, with {name} filled in. */
export function say(key, filled = {}) {
  let said = words[key];
  if (said === undefined) throw new Error(`no words for ${key}`);
  for (const [name, value] of Object.entries(filled)) said = said.replaceAll(`{${name}}`, String(value));
  return said;
}

/** An element; what is no element among the children becomes text, so nothing in it can be markup. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const button = (text, act, properties = {}) => make("button", { type: "button", onclick: act, ...properties }, text);

export const byId = (id) => document.getElementById(id);

let hiding;
/** Says something at the foot of the page, to screen readers too. */
export function tell(text, seconds = 5) {
  const news = byId("news");
  news.textContent = text;
  clearTimeout(hiding);
  if (seconds) hiding = setTimeout(() => (news.textContent = ""), seconds * 1000);
}

/** Says something to screen readers alone. */
export const whisper = (text) => (byId("whisper").textContent = text);

/** Sends JSON and returns what comes back; an Error with the server's sentence (see `refusal`) where it refuses. */
export async function send(path, body) {
  const answer = await post(path, body);
  return answer.json();
}

export async function post(path, body, options = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(body), ...options,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(say("all.offline"));
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

/** An Error with the server's sentence, its status, and the judgement that stands where one was made in another window. */
async function refusal(answer) {
  const { status } = answer, told = await answer.json().catch(() => ({}));
  const known = `all.refused_${status}` in words ? say(`all.refused_${status}`) : say("all.refused", { status });
  // What stands before the pages (too large, too much at a time) speaks to programs, in English: then the status tells.
  return Object.assign(new Error(typeof told.error === "string" ? told.error : known), { status, earlier: told.earlier ?? null });
}

/** A new id for a judgement: sent again, it is stored once. (randomUUID is not there without https.) */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What was kept in this browser under a name, or `otherwise`. */
export function recall(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`headwater.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Keeps a value in this browser; null forgets it. */
export function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(`headwater.${name}`);
    else localStorage.setItem(`headwater.${name}`, JSON.stringify(value));
  } catch {
    // Private windows may refuse: then a draft does not survive a reload, and nothing else is lost.
  }
}

/** Milliseconds that a page was in view, counted from `before`. */
export class Stopwatch {
  constructor(before = 0) {
    this.before = before;
    this.since = document.hidden ? null : performance.now();
    document.addEventListener("visibilitychange", () => {
      this.before = this.now();
      this.since = document.hidden ? null : performance.now();
    });
  }
  now() {
    return Math.round(this.before + (this.since === null ? 0 : performance.now() - this.since));
  }
  restart(before = 0) {
    this.before = before;
    this.since = document.hidden ? null : performance.now();
  }
}
