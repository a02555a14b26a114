// A ranking while it is made: groups of answer ids, best first. Every function gives a new one.

const copy = (order) => order.map((group) => [...group]).filter((group) => group.length);

/** Without this answer. */
export const without = (order, id) => copy(order.map((group) => group.filter((other) => other !== id)));

/** This answer next, after all that are placed; or tied with the last of them. */
export function place(order, id, tied = false) {
  const rest = without(order, id);
  if (tied && rest.length) rest.at(-1).push(id);
  else rest.push([id]);
  return rest;
}

/** The number of the group that holds this answer; −1 where it is not placed. */
export const groupOf = (order, id) => order.findIndex((group) => group.includes(id));

/** This answer into a group of its own before the `gap`-th group (as they stand now); the last gap is behind all. */
export function intoGap(order, id, gap) {
  const found = order.map((group) => group.filter((other) => other !== id));
  found.splice(gap, 0, [id]);
  return copy(found);
}

/** This answer tied with group number `target` (as they stand now). */
export const intoGroup = (order, id, target) =>
  copy(order.map((group, place) => (place === target ? [...group.filter((other) => other !== id), id] : group.filter((other) => other !== id))));

/** One step better (−1) or worse (+1): out of a tie first, then past the next group. */
export function step(order, id, by) {
  const now = groupOf(order, id);
  if (now < 0) return order;
  if (order[now].length > 1) return intoGap(order, id, by < 0 ? now : now + 1);
  const next = now + by;
  return next < 0 || next >= order.length ? order : intoGap(order, id, by < 0 ? next : next + 1);
}

/** Tied with the group above. */
export function tieAbove(order, id) {
  const now = groupOf(order, id);
  return now < 1 ? order : intoGroup(order, id, now - 1);
}
