// What the page is made of. Titles and tokens are not to be trusted: they become text alone.

export const byId = (id) => document.getElementById(id);
export const titleOf = (entry) => entry.title ?? entry.item;
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children); // strings become text
  return made;
}

export const textIn = (className, textContent) => element("span", { className, textContent });
export const items = (count) => textIn("note", `${count.toLocaleString("en")} items`);
export const note = (textContent) => element("p", { className: "note", textContent });

const plus = () => element("span", { className: "sign", "aria-hidden": "true" }, "+");

export function foundRow(entry, place, onAdd) {
  return element("li", {}, element("button", {
    type: "button", className: "found", tabIndex: place ? -1 : 0, // arrow keys reach the others
    "aria-label": `Add ${titleOf(entry)}`, onclick: () => onAdd(entry),
  }, textIn("title", titleOf(entry)), plus()));
}

// A row of a list of scores; `change` is a word on its rank.
export function scoredRow(entry, rank, change, onAdd, onChoose) {
  const name = titleOf(entry);
  const title = onChoose
    ? element("button", {
        type: "button", className: "title choose", textContent: name,
        "aria-label": `Why ${name}`, onclick: () => onChoose(entry),
      })
    : textIn("title", name);
  const row = element("li", { className: "scored" }, textIn("rank", rank), title,
    textIn("change", change), textIn("score", entry.score.toFixed(3)),
    element("button", {
      type: "button", className: "add", "aria-label": `Add ${name}`, onclick: () => onAdd(entry),
    }, plus()));
  row.dataset.item = entry.item;
  return row;
}

export function eventRow(event, value, onTime, onRemove) {
  const name = titleOf(event);
  return element("li", {}, textIn("title", name),
    element("button", {
      type: "button", className: "remove", textContent: "Remove",
      "aria-label": `Remove ${name}`, onclick: () => onRemove(event),
    }),
    element("input", {
      type: "datetime-local", className: "timed", step: "1", value, required: true,
      "aria-label": `Time of ${name}`, onchange: ({ target }) => onTime(event, target),
    }));
}

// An event and what it contributes, as a number and as a bar to the left or right of zero; or why
// there is no number.
export function partRow(event, value, widest) {
  const bar = element("span", { className: value < 0 ? "down" : "up" });
  const isNumber = typeof value === "number";
  bar.style.width = `${isNumber ? (50 * Math.abs(value)) / widest : 0}%`;
  return element("li", { className: "part" }, textIn("title", titleOf(event)),
    textIn("score", isNumber ? signed(value) : value),
    element("span", { className: "bar", "aria-hidden": "true" }, bar));
}

export function fieldValue(seconds) {
  const local = new Date(seconds * 1000);
  local.setMinutes(local.getMinutes() - local.getTimezoneOffset());
  return local.toISOString().slice(0, 19);
}

export function secondsOf(field) {
  const value = Math.floor(new Date(field.value).getTime() / 1000);
  if (Number.isNaN(value)) throw new Error("Fill in the date and the time.");
  return value;
}
