// Openings that answers have in common: set apart, so that a reader finds at once where they begin to differ.

const LONGEST = 2000; // characters of a beginning that a request gives

/** Where words end: a list of the places, from the first word on. In Chinese and Japanese words are found, too. */
function ends(text) {
  const found = [];
  for (const { segment, index } of new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)) found.push(index + segment.length);
  return found;
}

/** The last place up to `length` at which a word ends in each of the texts, and no code begins before it. */
function cut(texts, length) {
  const code = texts[0].slice(0, length).search(/`|~~~/); // its marks are drawn, not shown
  const most = code < 0 ? length : code;
  const places = texts.map((text) => new Set(ends(text.slice(0, most + 200))));
  for (let place = most; place > 0; place -= 1) if (places.every((each) => each.has(place))) return place;
  return 0;
}

const says = (text) => /[\p{L}\p{N}]/u.test(text);

/** The length of the beginning that all texts have in common, whole words only; 0 where there is none, or where all are equal. */
export function shared(texts) {
  const [first, ...others] = texts;
  if (!others.length || others.every((text) => text === first)) return 0;
  let length = 0;
  while (length < first.length && others.every((text) => text[length] === first[length])) length += 1;
  const found = cut(texts, length);
  return says(first.slice(0, found)) ? found : 0;
}

/** The length of the beginning of an answer that stands in the request, where it was told how to begin; at least two words. */
export function given(text, request) {
  let length = 0;
  while (length < Math.min(text.length, LONGEST) && request.includes(text.slice(0, length + 1).trim())) length += 1;
  const found = cut([text], length), words = [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(text.slice(0, found))];
  return words.filter(({ isWordLike }) => isWordLike).length > 1 ? found : 0;
}
