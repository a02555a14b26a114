// Judge: one task after the other; what is begun survives a reload; what is sent is stored once.

import { byId, keep, make, newId, recall, say, send, Stopwatch, tell, whisper } from "./page.js";
import { given, shared } from "./opening.js";
import { shown } from "./text.js";
import * as demonstration from "./demonstration.js";
import * as pair from "./pair.js";
import * as ranking from "./ranking.js";
import * as rating from "./rating.js";

// Each kind has: begin() the empty word, draw(task, word, change) the answers and the tray, ready(task, word) what is
// missing (a sentence) or null, meaning(task, word) what is sent, and may have best(task, word) and key(task, word, key).
const KINDS = { ranking, pair, rating, demonstration };
const HOLD = 5 * 60 * 1000; // milliseconds between two signs that somebody is still at a task
const ASK_AGAIN = 1500; // milliseconds, while new tasks are on their way

const stand = byId("stand"), tray = byId("tray"), note = byId("note");
const watch = new Stopwatch();
let task = null, word = null, past = [], sending = false, warned = false, holding = null;
let elsewhere = null; // what was said of this task in another window, until it is chosen which of the two stands

const draftName = () => `judge.${stand.dataset.person}.${task.id}`;

/** What was said of this task so far: this browser's draft, or the judgement that is corrected, or nothing. */
function begin(said) {
  const empty = { ...KINDS[task.kind].begin(), flags: [], note: "", edit: null, client: newId(), milliseconds: 0, supersedes: null };
  if (!said) return recall(draftName(), empty);
  const { id, flags, note: noted, edit, edit_of, ...rest } = said;
  return {
    ...empty, ...KINDS[task.kind].restore(task, rest, edit), supersedes: id, note: noted ?? "",
    flags: (flags ?? []).filter((flag) => flag !== "skip"), edit: edit_of ? { of: edit_of, text: edit } : null,
  };
}

function receive(state, said = null) {
  task = state.task;
  warned = false;
  past = [];
  settle(null);
  showProgress(state.progress);
  for (const id of ["asked", "tray"]) byId(id).hidden = !task;
  byId("shared-note").hidden = true;
  byId("none").hidden = Boolean(task);
  stand.replaceChildren();
  clearInterval(holding);
  if (!task) return (delete stand.dataset.task, nothing(state));
  word = begin(said);
  tray.classList.remove("idle");
  stand.dataset.task = task.id;
  watch.restart(word.milliseconds);
  byId("what").textContent = say(`judge.what_${task.kind}`);
  byId("asked").replaceChildren(...task.conversation.map(turn));
  setApart();
  byId("why").hidden = !task.adjudicates && !said;
  byId("leave").hidden = !said;
  byId("why-words").textContent = said ? say(wasSkipped(said) ? "judge.correcting_skip" : "judge.correcting") : say("judge.adjudicates") + " " + task.opinions.map(opinion).join("; ");
  note.value = word.note;
  note.hidden = !word.note;
  draw();
  scrollTo(0, 0);
  if (task.held) holding = setInterval(() => document.hidden || send("/judge/hold", { task: task.id }).catch(() => {}), HOLD);
}

/** The beginning that all answers share, or that the request gave, and a line that says so. */
function setApart() {
  const texts = task.answers.map(({ text }) => text), alone = texts.length === 1;
  const length = alone ? given(texts[0], task.conversation.at(-1).content) : shared(texts);
  task.opening = { length, label: say(alone ? "judge.asked_for" : "judge.shared") };
  byId("shared-note").hidden = !length;
  byId("shared-note").textContent = say(alone ? "judge.asked_for_note" : "judge.shared_note");
}

const turn = ({ role, content }) =>
  make("div", { class: `turn ${role}` }, make("span", { class: "who" }, say(["user", "assistant", "system"].includes(role) ? `all.role_${role}` : "all.role_user")), shown(content));

/** An order by the numbers of the answers: "2 › 1 = 3". */
const numbered = (groups) => groups.map((group) => group.map((id) => task.answers.findIndex((answer) => answer.id === id) + 1).join(" = ")).join(" › ");

/** What somebody else said: "Ada: 2 › 1 = 3". */
const opinion = ({ name, ranking: groups }) => `${name}: ${numbered(groups)}`;

const wasSkipped = ({ flags }) => (flags ?? []).includes("skip");

/** A judgement in a few words. */
function inShort({ ranking: groups, axes, edit, edit_of, flags, note: noted }) {
  const parts = [
    groups && numbered(groups), ...Object.entries(axes ?? {}).map(([axis, value]) => `${axis} ${value}`),
    flags?.includes("all-bad") && say("judge.all_bad"), flags?.includes("flag") && say("judge.flag"),
    edit && (edit_of ? say("judge.edited") : `“${edit.length > 80 ? edit.slice(0, 80) + "…" : edit}”`), noted && `“${noted}”`,
  ];
  return parts.filter(Boolean).join("; ");
}

/** Judged in another window meanwhile: what was said there, and what is said here, until one of them is chosen. Null: no more. */
function settle(earlier) {
  elsewhere = earlier;
  byId("elsewhere").hidden = !earlier;
  if (!earlier) return;
  byId("elsewhere-words").textContent = wasSkipped(earlier) ? say("judge.elsewhere_skip") : say("judge.elsewhere", { said: inShort(earlier) });
  byId("elsewhere").focus();
  byId("elsewhere").scrollIntoView({ block: "nearest" });
}

/** This window's judgement takes the place of the other's. */
async function replace() {
  if (!elsewhere) return;
  Object.assign(word, { supersedes: elsewhere.id, client: newId() });
  settle(null);
  await submit();
}

/** The other window's judgement stands; the draft of this one goes. */
async function keepFirst() {
  keep(draftName(), null);
  if (await next()) tell(say("judge.elsewhere_stands"), 3);
}

/** Back from a judgement that was to be corrected; it stays as it is. */
async function leave() {
  keep(draftName(), null);
  await next();
}

function nothing(state) {
  byId("what").textContent = say("judge.title");
  byId("why").hidden = true;
  byId("none-title").textContent = say(state.coming ? "judge.coming" : "judge.nothing");
  byId("none-note").textContent = state.coming ? say("judge.coming_note") : state.problem ?? say("judge.nothing_note");
  tray.hidden = state.progress.own === 0;
  tray.classList.add("idle");
  byId("word").replaceChildren();
  if (state.coming) setTimeout(() => task || next(), ASK_AGAIN);
}

function showProgress({ own, left }) {
  byId("far-words").textContent = say("judge.far", { own, left });
  byId("far").max = Math.max(1, own + left);
  byId("far").value = own;
}

/** Everything that depends on the word; what had the focus has it again. */
function draw() {
  const focused = document.activeElement?.dataset.focus, start = document.activeElement?.selectionStart;
  const card = document.activeElement?.closest("[data-id]")?.dataset.id;
  const kind = KINDS[task.kind], { answers, summary } = kind.draw(task, word, change);
  stand.replaceChildren(...answers);
  byId("word").replaceChildren(...summary);
  if (word.edit) putEditor();
  byId("all-bad").hidden = byId("edit").hidden = !kind.best;
  byId("all-bad").setAttribute("aria-pressed", String(word.flags.includes("all-bad")));
  byId("flag").setAttribute("aria-pressed", String(word.flags.includes("flag")));
  byId("note-open").setAttribute("aria-expanded", String(!note.hidden));
  byId("skip").disabled = Boolean(word.supersedes);
  const again = focused && (document.querySelector(`[data-focus="${CSS.escape(focused)}"]`) ?? document.querySelector(`[data-id="${card}"] button`));
  if (again) (again.focus({ preventScroll: true }), typeof start === "number" && again.setSelectionRange?.(start, start));
}

/** A new word in place of the old one, which "undo" brings back. `quiet`: typing, which undo leaves to the field. */
function change(changes, { quiet = false, said = null } = {}) {
  if (!quiet) past.push(structuredClone(word));
  warned = false;
  Object.assign(word, changes);
  save();
  if (!quiet) draw();
  if (said) whisper(said);
}

function save() {
  word.milliseconds = watch.now();
  keep(draftName(), word);
}

// The editor for the best answer, inside its card

function putEditor() {
  const card = stand.querySelector(`[data-id="${word.edit.of}"]`);
  const area = make("textarea", {
    rows: Math.min(14, word.edit.text.split("\n").length + 2), "aria-label": say("judge.edited"), dir: "auto", "data-focus": "edit",
    oninput: () => change({ edit: { ...word.edit, text: area.value } }, { quiet: true }),
  });
  area.value = word.edit.text;
  card?.append(area);
}

function edit() {
  const best = KINDS[task.kind].best?.(task, word);
  if (best === undefined) return;
  if (best === null) return tell(say("judge.place_first"));
  if (word.edit?.of === best) return change({ edit: null });
  change({ edit: { of: best, text: task.answers.find((answer) => answer.id === best).text } });
  stand.querySelector("[data-focus=edit]").focus();
}

// Sending

async function submit() {
  if (!task || sending) return;
  if (elsewhere) return tell(say("judge.elsewhere_choose"));
  const missing = KINDS[task.kind].ready(task, word), flagged = word.flags.length > 0;
  if (missing && !(missing.may && warned) && !flagged) {
    warned = Boolean(missing.may);
    return tell(missing.why);
  }
  const edited = word.edit && word.edit.text.trim() && word.edit.text !== task.answers.find(({ id }) => id === word.edit.of)?.text ? word.edit : null;
  await deliver({
    ...KINDS[task.kind].meaning(task, word), flags: word.flags, note: word.note.trim() || null,
    ...(edited ? { edit: edited.text, edit_of: edited.of } : {}),
  });
}

async function deliver(meaning) {
  if (sending) return;
  sending = true;
  const name = draftName();
  save();
  try {
    const state = await send("/judge/say", { task: task.id, client_id: word.client, milliseconds: watch.now(), supersedes: word.supersedes, ...meaning });
    keep(name, null);
    receive(state);
    tell(say(meaning.flags?.includes("skip") ? "judge.skipped" : "judge.stored"), 3);
  } catch (error) {
    sending = false;
    if (error.status !== 409 || !error.earlier?.id) return tell(error.message, 0);
    if (wasSkipped(meaning)) return keepFirst(); // judged there, and nothing was said here
    tell("");
    settle(error.earlier);
  }
  sending = false;
}

const skip = () => task && !elsewhere && !word.supersedes && deliver({ flags: ["skip"], note: word.note.trim() || null });

/** Takes back the last step; where there is none, leads to the judgement before, to correct it. */
async function back() {
  if (past.length) {
    word = { ...past.pop(), note: word.note };
    (save(), draw());
    return whisper(say("judge.undone"));
  }
  try {
    const state = await send("/judge/back", { before: word?.supersedes ?? null });
    tell("");
    if (!state.task) return tell(say("judge.no_earlier"));
    receive(state, state.said);
  } catch (error) {
    tell(error.message, 0);
  }
}

async function next() {
  try {
    receive(await send("/judge/next", {}));
    return true;
  } catch (error) {
    tell(error.message, 0);
    return false;
  }
}

function toggle(flag) {
  change({ flags: word.flags.includes(flag) ? word.flags.filter((other) => other !== flag) : [...word.flags, flag] });
}

function openNote() {
  note.hidden = !note.hidden;
  byId("note-open").setAttribute("aria-expanded", String(!note.hidden));
  if (!note.hidden) note.focus();
}

const ACTS = { u: back, s: skip, b: () => !byId("all-bad").hidden && toggle("all-bad"), f: () => toggle("flag"), n: openNote, e: edit };
for (const [id, act] of Object.entries({ back, skip, "all-bad": ACTS.b, flag: ACTS.f, "note-open": openNote, edit, submit, replace, "keep-first": keepFirst, leave })) {
  byId(id).addEventListener("click", (event) => {
    if (event.detail) event.currentTarget.blur(); // by mouse: the keys stay free
    act();
  });
}
note.addEventListener("input", () => change({ note: note.value }, { quiet: true }));

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("textarea, input, select");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return submit();
  if (event.key === "Escape" && field) return field.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (field && field.type !== "radio") return;
  if (event.key === "g") return (byId("guide").open = !byId("guide").open);
  if (!task) return event.key === "u" ? back() : undefined;
  if (event.key === "Enter") return event.target.closest("button, a, summary") ? undefined : (event.preventDefault(), submit());
  if (KINDS[task.kind].key?.(task, word, event.key, change)) return event.preventDefault();
  const act = ACTS[event.key.toLowerCase()];
  if (act) (event.preventDefault(), act());
});
addEventListener("pagehide", () => task && save());

next();
