// Write an answer of one's own.

import { make, say } from "./page.js";

export const begin = () => ({ text: "" });
export const restore = (task, said, edit) => ({ text: edit ?? "" });
export const ready = (task, word) => (word.text.trim() ? null : { why: say("judge.write_first") });
export const meaning = (task, word) => ({ edit: word.text.trim() ? word.text : null });

export function draw(task, word, change) {
  const area = make("textarea", {
    rows: 10, id: "own", dir: "auto", "data-focus": "own", oninput: () => change({ text: area.value }, { quiet: true }),
  });
  area.value = word.text;
  return { answers: [make("label", { class: "above", for: "own" }, say("judge.own_answer")), area], summary: [] };
}
