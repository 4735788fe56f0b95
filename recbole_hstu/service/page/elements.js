// Elements of the page. Titles and tokens are not to be trusted: they become text alone.
"use strict";

const byId = (id) => document.getElementById(id);
const titleOf = (entry) => entry.title ?? entry.item;

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children); // strings become text
  return made;
}

function say(words, isError = false) {
  byId("status").textContent = words;
  document.body.classList.toggle("error", isError);
}

function button(text, label, onclick) {
  return element("button", { type: "button", textContent: text, "aria-label": label, onclick });
}

const textIn = (className, textContent) => element("span", { className, textContent });

function part(name, value, widest) {
  const bar = element("span");
  bar.style.width = `${(100 * Math.abs(value ?? 0)) / widest}%`;
  const sign = value > 0 ? "up" : "down";
  const sides = ["left", "right"].map((side) => element("span", { className: side }));
  sides[value > 0 ? 1 : 0].append(bar);
  return element("div", { className: "part" },
    textIn("name", name),
    element("span", { className: `bar ${sign}`, "aria-hidden": "true" }, ...sides),
    textIn(`score ${sign}`,
      value === null ? "the only event" : `${value > 0 ? "+" : ""}${value.toFixed(3)}`));
}
