// Rank K answers: by keys, buttons or dragging. Typed as it is written: 3 1 = 2 4.

import { button, make, say } from "./page.js";
import { draggable } from "./drag.js";
import * as orders from "./order.js";
import { shown } from "./text.js";

export const begin = () => ({ order: [], tie: false });
export const restore = (task, said) => ({ order: said.ranking ?? [] });
export const best = (task, word) => word.order[0]?.[0] ?? null;
export const meaning = (task, word) => ({ ranking: word.order.length ? word.order : null });

const unplaced = (task, word) => task.answers.filter(({ id }) => orders.groupOf(word.order, id) < 0);

export function ready(task, word) {
  const left = unplaced(task, word).length;
  if (!left) return null;
  const placed = task.answers.length - left;
  return placed < 2 ? { why: say("judge.place_all") } : { why: say("judge.missing", { n: left }), may: true };
}

export function key(task, word, pressed, change) {
  if (pressed === "=") return change({ tie: !word.tie && word.order.length > 0 }), true;
  if (pressed === "Backspace") {
    const last = word.order.at(-1)?.at(-1);
    if (last !== undefined) change({ order: orders.without(word.order, last), tie: false }, { said: say("judge.undone") });
    return true;
  }
  const answer = /^[1-9]$/.test(pressed) ? task.answers[Number(pressed) - 1] : undefined;
  if (!answer) return false;
  set(task, word, change, orders.place(word.order, answer.id, word.tie));
  return true;
}

function set(task, word, change, order) {
  change({ order, tie: false }, { said: told(task, order) });
}

const numberOf = (task, id) => task.answers.findIndex((answer) => answer.id === id) + 1;

/** The order in words, for who hears it. */
const told = (task, order) => say("judge.order") + " " + order.map((group) => group.map((id) => numberOf(task, id)).join(` ${say("judge.tied_with")} `)).join(", ");

export function draw(task, word, change) {
  const cards = task.answers.map(({ id, text }, index) => card(task, word, change, id, text, index + 1));
  return { answers: [make("div", { class: "answers" }, ...cards)], summary: [tray(task, word, change)] };
}

function card(task, word, change, id, text, number) {
  const group = orders.groupOf(word.order, id), placed = group >= 0, tied = placed && word.order[group].length > 1;
  const act = (name, order) => button(say(`judge.sign_${name}`), (event) => {
    if (event.detail) event.currentTarget.blur();
    set(task, word, change, order());
  }, { class: "bare", "aria-label": say(`judge.${name}`, { n: number }), title: say(`judge.${name}`, { n: number }), "data-focus": `${id}-${name}` });
  const tools = placed
    ? [act("better", () => orders.step(word.order, id, -1)), act("worse", () => orders.step(word.order, id, 1)),
       group > 0 ? act("tie", () => orders.tieAbove(word.order, id)) : null, act("remove", () => orders.without(word.order, id))]
    : [act("place", () => orders.place(word.order, id)), word.order.length ? act("place_tied", () => orders.place(word.order, id, true)) : null];
  const header = make("header", {},
    make("span", { class: "key", "aria-hidden": "true" }, String(number)),
    make("span", { class: "unseen" }, say("judge.answer", { n: number })),
    make("span", { class: "place" }, placed ? say(tied ? "judge.place_is_tied" : "judge.place_is", { n: group + 1 }) : ""),
    make("span", { class: "tools" }, ...tools), make("span", { class: "grip", "aria-hidden": "true" }, "⋮⋮"));
  const element = make("article", { class: placed ? "answer placed" : "answer", "data-id": id, "aria-label": say("judge.answer", { n: number }) }, header, shown(text, task.opening));
  draggable(header, String(number), target, (over) => drop(task, word, change, id, over));
  return element;
}

const target = (element) => element?.closest(".order .group, .order .gap") ?? null;

function drop(task, word, change, id, over) {
  const place = Number(over.dataset.place);
  const order = over.classList.contains("gap") ? orders.intoGap(word.order, id, place) : orders.intoGroup(word.order, id, place);
  set(task, word, change, order);
}

function tray(task, word, change) {
  const gap = (place, sign) => make("span", { class: "gap", "data-place": place, "aria-hidden": "true" }, sign);
  const parts = [gap(0, "")];
  for (const [place, group] of word.order.entries()) {
    const chips = group.map((id) => {
      const number = numberOf(task, id);
      const chip = button(make("span", { class: "key" }, String(number)), () => show(id), { class: "chip", "aria-label": say("judge.see", { n: number }) });
      draggable(chip, String(number), target, (over) => drop(task, word, change, id, over));
      return chip;
    });
    const joined = chips.flatMap((chip, index) => (index ? ["=", chip] : [chip]));
    parts.push(make("span", { class: "group", "data-place": place }, make("span", { class: "rank" }, say("judge.rank", { n: place + 1 })), ...joined));
    parts.push(gap(place + 1, place + 1 < word.order.length ? "›" : ""));
  }
  const left = unplaced(task, word).map(({ id }) => numberOf(task, id));
  if (word.tie) parts.push(make("span", { class: "rest" }, say("judge.tie_next")));
  else if (left.length) parts.push(make("span", { class: "rest" }, say(word.order.length ? "judge.still" : "judge.how", { numbers: left.join(" ") })));
  return make("div", { class: "order" }, ...parts);
}

function show(id) {
  document.querySelector(`[data-id="${id}"]`)?.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}
