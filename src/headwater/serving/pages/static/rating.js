// Rate one answer on several scales.

import { fields } from "./axes.js";
import { make, say } from "./page.js";
import { shown } from "./text.js";

export const begin = () => ({ axes: {} });
export const restore = (task, said) => ({ axes: said.axes ?? {} });
export const best = (task) => task.answers[0].id;
export const ready = (task, word) => (Object.keys(word.axes).length ? null : { why: say("judge.rate_one") });
export const meaning = (task, word) => ({ axes: Object.keys(word.axes).length ? word.axes : null });

export function draw(task, word, change) {
  const [{ id, text }] = task.answers;
  const card = make("article", { class: "answer", "data-id": id, "aria-label": say("judge.answer", { n: 1 }) }, shown(text, task.opening));
  return { answers: [card, fields(word.axes, (axes) => change({ axes }))], summary: [] };
}
