// Scales from 1 on, and scales of a person's own.

import { button, keep, make, recall, say } from "./page.js";

const stand = document.querySelector("[data-axes]");
const HIGHEST = Number(stand.dataset.highest);

/** The built-in scales and those that were added in this browser. */
export const axes = () => [...new Set([...stand.dataset.axes.split(" "), ...recall("axes", [])])];

const words = (axis) => (stand.dataset.axes.split(" ").includes(axis) ? say(`all.axis_${axis}`) : axis);

/** Fields for all scales; `values` {axis: number}; `change(values)` is called with new ones. */
export function fields(values, change) {
  const rows = axes().map((axis) => {
    const options = Array.from({ length: HIGHEST }, (_, index) => index + 1).map((value) => {
      const radio = make("input", { type: "radio", name: `axis-${axis}`, value, "data-focus": `${axis}-${value}`, onchange: () => change({ ...values, [axis]: value }) });
      radio.checked = values[axis] === value;
      return make("label", {}, radio, String(value));
    });
    return make("fieldset", {}, make("legend", {}, words(axis)), make("div", { class: "scale" }, ...options));
  });
  const own = make("input", { type: "text", maxlength: 40, "aria-label": say("all.axis_own"), placeholder: say("all.axis_own") });
  const add = button(say("all.axis_add"), () => {
    const name = own.value.trim();
    if (!name) return own.focus();
    keep("axes", [...new Set([...recall("axes", []), name])]);
    change({ ...values });
  });
  return make("div", { class: "axes" }, make("p", { class: "note" }, say("all.axis_scale", { n: HIGHEST })), ...rows, make("div", { class: "row" }, own, add));
}
