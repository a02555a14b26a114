// Choose of two, with strength: 1 or 2 for the better one, pressed again for more; = for a tie.

import { make, say } from "./page.js";
import { shown } from "./text.js";

const STRONGEST = 3;

// `lean`: −3 the first is far better … 0 a tie … 3 the second is far better; null: not said.
export const begin = () => ({ lean: null });

export function restore(task, said) {
  if (!said.ranking) return { lean: null };
  const first = said.ranking[0];
  if (first.length > 1) return { lean: 0 };
  return { lean: (first[0] === task.answers[0].id ? -1 : 1) * (said.strength || 1) };
}

export const best = (task, word) => (word.lean === null ? null : task.answers[word.lean > 0 ? 1 : 0].id);

export const ready = (task, word) => (word.lean === null ? { why: say("judge.choose") } : null);

export function meaning(task, word) {
  if (word.lean === null) return {};
  const ids = task.answers.map(({ id }) => id);
  if (word.lean === 0) return { ranking: [ids], strength: 0 };
  return { ranking: word.lean < 0 ? [[ids[0]], [ids[1]]] : [[ids[1]], [ids[0]]], strength: Math.abs(word.lean) };
}

export function key(task, word, pressed, change) {
  if (pressed === "=") return change({ lean: 0 }), true;
  const side = { 1: -1, 2: 1 }[pressed];
  if (!side) return false;
  const same = Math.sign(word.lean ?? 0) === side;
  change({ lean: side * (same ? Math.min(STRONGEST, Math.abs(word.lean) + 1) : 1) }, { said: say("judge.lean_" + name(side * (same ? Math.min(STRONGEST, Math.abs(word.lean) + 1) : 1))) });
  return true;
}

const name = (lean) => (lean === 0 ? "tie" : `${lean < 0 ? "first" : "second"}_${Math.abs(lean)}`);

export function draw(task, word, change) {
  const cards = task.answers.map(({ id, text }, index) => {
    const chosen = word.lean !== null && word.lean !== 0 && word.lean > 0 === (index === 1);
    return make("article", { class: chosen ? "answer placed" : "answer", "data-id": id, "aria-label": say("judge.answer", { n: index + 1 }) },
      make("header", {}, make("span", { class: "key", "aria-hidden": "true" }, String(index + 1)),
        make("span", { class: "place" }, chosen ? say("judge.better_one") : "")), shown(text, task.opening));
  });
  const options = [];
  for (let lean = -STRONGEST; lean <= STRONGEST; lean += 1) {
    const radio = make("input", { type: "radio", name: "lean", value: lean, "data-focus": `lean-${lean}`, onchange: () => change({ lean }) });
    radio.checked = word.lean === lean;
    options.push(make("label", {}, radio, say(`judge.lean_${name(lean)}`)));
  }
  const scale = make("fieldset", {}, make("legend", { class: "unseen" }, say("judge.choose")), make("div", { class: "scale" }, ...options));
  return { answers: [make("div", { class: "answers" }, ...cards)], summary: [scale] };
}
