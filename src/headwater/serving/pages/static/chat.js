// Chat: a conversation in this browser; answers stream in; what people say of them goes into the feedback store.

import { button, byId, keep, make, newId, recall, say, send, Stopwatch, tell, whisper } from "./page.js";
import { stream } from "./stream.js";
import { show, shown } from "./text.js";

const DIALS = ["temperature", "top_p", "longest"];
const state = { turns: [], draft: "", comparing: false, ...recall("chat", {}) };
const talk = byId("talk"), blank = byId("blank"), draft = byId("draft");
const watch = new Stopwatch();
let stopping = null; // AbortController while an answer comes

// A turn is {role, content}; an assistant's has an `answer`, and while two are compared {role: "choice", sides}.
// What belongs to the page alone (an element, an open editor) is kept out of `state`.

function save() {
  keep("chat", { ...state, draft: draft.value, dials: dials(), model: byId("model").value, other: byId("other").value });
}

function dials() {
  return Object.fromEntries(DIALS.map((name) => [name, Number(byId(name).value)]));
}

const conversation = (turns) => turns.map(({ role, content }) => ({ role, content }));

function draw() {
  blank.hidden = state.turns.length > 0;
  talk.replaceChildren(blank, ...state.turns.map(turnElement));
  byId("send").hidden = stopping !== null;
  byId("stop").hidden = stopping === null;
}

function turnElement(turn, place) {
  if (turn.role === "choice") return choiceElement(turn, place);
  const text = shown(turn.content);
  const who = make("span", { class: "who" }, say(turn.role === "user" ? "chat.you" : "chat.model"));
  const element = make("article", { class: `turn ${turn.role}` }, who, text);
  if (turn.role === "assistant") {
    if (turn.coming) text.classList.add("busy");
    who.textContent = turn.answer?.model ?? say("chat.model");
    if (!turn.coming && turn.answer) element.append(answerTools(turn, place, element));
    if (turn.error) element.append(make("p", { class: "told wrong" }, turn.error), again(place));
  } else if (stopping === null) {
    element.append(make("div", { class: "tools" }, button(say("chat.edit"), () => editRequest(place, element), { class: "bare" })));
  }
  return element;
}

function answerTools(turn, place, element) {
  const { answer } = turn;
  const thumb = (up, word) => button(word, () => rate(turn, up), { class: "bare", "aria-pressed": String(answer.up === up) });
  const facts = [answer.finish === "length" ? say("chat.cut") : null, answer.corrected ? say("chat.corrected") : null];
  return make("div", { class: "tools" },
    thumb(true, say("chat.good")), thumb(false, say("chat.bad")),
    button(say("chat.correct"), () => correct(turn, element), { class: "bare" }),
    place === state.turns.length - 1 ? again(place) : null,
    answer.response ? make("a", { class: "facts", href: `/answers/${answer.response}` }, say("chat.lineage")) : null,
    make("span", { class: "facts" }, facts.filter(Boolean).map((fact) => ` · ${fact}`).join("")));
}

const again = (place) => button(say("chat.again"), () => ask(state.turns.slice(0, place)), { class: "bare" });

function choiceElement(turn, place) {
  const coming = turn.sides.some((side) => side.coming);
  const sides = turn.sides.map((side, index) => {
    const text = shown(side.text);
    if (side.coming) text.classList.add("busy");
    return make("section", { class: "side", "aria-label": say("chat.side", { n: index + 1 }) },
      make("span", { class: "who facts" }, say("chat.side", { n: index + 1 })), text,
      side.error ? make("p", { class: "told wrong" }, side.error) : null,
      coming || side.error ? null : make("div", { class: "foot" }, button(say("chat.this_better"), () => choose(place, index))));
  });
  const acts = coming ? null : turn.sides.some((side) => side.error) ? again(place)
    : make("div", { class: "row" }, button(say("chat.both_good"), () => choose(place, null, false)),
      button(say("chat.both_bad"), () => choose(place, null, true)), again(place));
  return make("article", { class: "turn choice" }, make("div", { class: "sides" }, ...sides), acts);
}

/** Has the conversation `turns` answered; what came after is left behind. */
async function ask(turns) {
  if (stopping) return;
  const comparing = state.comparing;
  const turn = comparing
    ? { role: "choice", sides: [0, 1].map(() => ({ text: "", coming: true })) }
    : { role: "assistant", content: "", coming: true };
  state.turns = [...turns, turn];
  stopping = new AbortController();
  draw();
  scrollTo(0, document.body.scrollHeight);
  const models = comparing ? [byId("model").value, byId("other").value] : [byId("model").value];
  try {
    await stream("/chat/answer", { models, conversation: conversation(turns), dials: dials() }, stopping.signal, (line) => take(turn, line));
  } catch (error) {
    if (error.name !== "AbortError") fail(turn, error.message);
  }
  stopping = null;
  settle(turn);
  const near = atEnd();
  watch.restart();
  save();
  draw();
  whisper(say("chat.answered"));
  if (near) scrollTo(0, document.body.scrollHeight);
  draft.focus({ preventScroll: true });
}

function take(turn, line) {
  const side = turn.role === "choice" ? turn.sides[line.side] : turn;
  const key = turn.role === "choice" ? "text" : "content";
  if (line.text) {
    side[key] += line.text;
    const near = atEnd();
    show(talk.lastElementChild.querySelectorAll(".text")[line.side], side[key]);
    if (near) scrollTo(0, document.body.scrollHeight);
  }
  if (line.error) side.error = line.error;
  if (line.id) {
    side.answer = { id: line.id, finish: line.finish, model: line.model, seed: line.seed };
    side.coming = false;
  }
}

const atEnd = () => innerHeight + scrollY > document.body.scrollHeight - 200;

function fail(turn, why) {
  for (const side of turn.sides ?? [turn]) side.error = why;
}

/** After an end or a stop: what is there stays; an answer that was stopped can be asked anew, but not judged. */
function settle(turn) {
  for (const side of turn.sides ?? [turn]) {
    if (side.coming && !side.error) side.error = say("chat.stopped");
    side.coming = false;
  }
}

async function rate(turn, up) {
  const { answer } = turn;
  if (answer.up === up) return;
  const word = { kind: "thumb", answers: [answer.id], up, supersedes: answer.rated ?? null };
  await sayIt(word, (stored) => Object.assign(answer, { up, rated: stored.judgement, response: stored.answers[0].response }));
}

async function choose(place, better, allBad = false) {
  const turn = state.turns[place], answers = turn.sides.map((side) => side.answer.id);
  const word = { kind: "pair", answers, better, all_bad: allBad };
  await sayIt(word, ({ answers: written }) => {
    const side = better ?? 0;
    state.turns[place] = { role: "assistant", content: turn.sides[side].text, answer: { ...turn.sides[side].answer, ...written[side] } };
    tell(say("chat.were", { one: written[0].model, other: written[1].model }), 9);
  });
}

/** Sends a judgement; the same id again where the first try may have arrived. */
async function sayIt(word, then) {
  const key = JSON.stringify(word);
  pending.set(key, pending.get(key) ?? newId());
  try {
    const body = { ...word, client_id: pending.get(key), milliseconds: watch.now() };
    const stored = await send("/chat/judge", body).catch((error) => {
      if (error.status !== 409 || !error.earlier) throw error;
      return send("/chat/judge", { ...body, client_id: newId(), supersedes: error.earlier }); // corrected in another window meanwhile
    });
    then(stored);
    pending.delete(key);
    if (word.kind !== "pair") tell(say("chat.stored"), 3);
    save();
    draw();
  } catch (error) {
    tell(error.message, 0);
  }
}
const pending = new Map();

function editor(element, text, label, done) {
  const area = make("textarea", { rows: Math.min(14, text.split("\n").length + 1), "aria-label": label, dir: "auto" });
  area.value = text;
  const form = make("form", { class: "editor", onsubmit: (event) => (event.preventDefault(), area.value.trim() && done(area.value)) }, area,
    make("div", { class: "row" }, make("button", { class: "main" }, label), button(say("chat.cancel"), draw)));
  element.replaceChildren(form);
  area.focus();
}

function editRequest(place, element) {
  editor(element, state.turns[place].content, say("chat.ask_again"), (text) =>
    ask([...state.turns.slice(0, place), { role: "user", content: text.trim() }]));
}

function correct(turn, element) {
  editor(element, turn.content, say("chat.keep_correction"), (text) => {
    const word = { kind: "correction", answers: [turn.answer.id], text, supersedes: turn.answer.corrected ?? null };
    return sayIt(word, (stored) => {
      turn.content = text;
      Object.assign(turn.answer, { corrected: stored.judgement, response: stored.answers[0].response });
    });
  });
}

// The composer, the dials, the comparison

function submit() {
  const text = draft.value.trim();
  if (!text || stopping) return;
  if (state.turns.at(-1)?.role === "choice") return tell(say("chat.choose_first"));
  draft.value = "";
  ask([...state.turns.filter((turn) => !turn.error), { role: "user", content: text }]);
}

byId("composer").addEventListener("submit", (event) => (event.preventDefault(), submit()));
draft.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) (event.preventDefault(), submit());
});
draft.addEventListener("input", save);
byId("stop").addEventListener("click", () => stopping?.abort());
byId("fresh").addEventListener("click", () => {
  stopping?.abort();
  state.turns = [];
  (save(), draw(), draft.focus());
});
for (const starter of document.querySelectorAll("[data-starter]")) {
  starter.addEventListener("click", () => ((draft.value = starter.textContent), submit()));
}
function showComparing() {
  byId("compare").setAttribute("aria-pressed", String(state.comparing));
  byId("compare").setAttribute("aria-expanded", String(state.comparing));
  byId("against").hidden = !state.comparing;
}
byId("compare").addEventListener("click", () => ((state.comparing = !state.comparing), showComparing(), save()));
byId("dials-open").addEventListener("click", ({ currentTarget }) => {
  byId("dials").hidden = !byId("dials").hidden;
  currentTarget.setAttribute("aria-expanded", String(!byId("dials").hidden));
});
for (const name of DIALS) {
  const input = byId(name);
  if (state.dials?.[name] !== undefined) input.value = state.dials[name];
  const showValue = () => (byId(`${name}-now`).textContent = input.value);
  input.addEventListener("input", () => (showValue(), save()));
  showValue();
}
for (const id of ["model", "other"]) {
  const select = byId(id);
  if ([...select.options].some((option) => option.value === state[id])) select.value = state[id];
  select.addEventListener("change", save);
}
draft.value = state.draft;
for (const turn of state.turns) settle(turn); // a reload while an answer came
showComparing();
draw();
draft.focus({ preventScroll: true });
