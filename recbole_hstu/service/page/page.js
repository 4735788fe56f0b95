// What clients may not trust: titles and tokens. They reach the page as text alone.
"use strict";

const K = 10;
const HOUR = 3600;
const MAX_EXPLAINED = 100;
const byId = (id) => document.getElementById(id);

const state = {
  models: [],
  history: [], // {item, title, time in seconds}, oldest first
  at: Math.floor(Date.now() / 1000),
  ranks: new Map(), // model -> item -> rank in the list before
  explained: null, // {item, title}; null: the first of the list
  token: "",
  turn: 0, // an answer to an older question is not shown
};

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children); // strings become text
  return made;
}

const titleOf = (entry) => entry.title ?? entry.item;

function say(words, isError = false) {
  byId("status").textContent = words;
  byId("status").classList.toggle("error", isError);
}

async function ask(path, body) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const options = { headers };
  if (body) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  const response = await fetch(path, options).catch(() => {
    throw new Error("the service does not answer");
  });
  if (response.status === 401) byId("token-form").hidden = false;
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

// Runs what changes the page; what fails is said, not thrown.
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    say(error.message, true);
  }
}

// Times: seconds in this script, the model's unit towards the service, local time in the fields.
const sent = (model, seconds) => (model.time_unit === "ms" ? seconds * 1000 : seconds);
const eventOf = (model) => (event) =>
  model.needs_time ? [event.item, sent(model, event.time)] : event.item;

function fieldValue(seconds) {
  const local = new Date(seconds * 1000);
  local.setMinutes(local.getMinutes() - local.getTimezoneOffset());
  return local.toISOString().slice(0, 19);
}

function secondsOf(field) {
  const value = Math.floor(new Date(field.value).getTime() / 1000);
  if (Number.isNaN(value)) throw new Error("that is no date and time");
  return value;
}

async function search() {
  const query = byId("query").value;
  const { items } = await ask(`items?limit=20&query=${encodeURIComponent(query)}`);
  if (query !== byId("query").value) return;
  byId("found").replaceChildren(
    ...items.map((entry) =>
      element("li", {}, element("span", { className: "title", textContent: titleOf(entry) }),
        element("button", {
          type: "button", textContent: "Add", "aria-label": `Add ${titleOf(entry)} to the history`,
          onclick: () => add(entry),
        }))),
  );
  if (!items.length) byId("found").append(element("li", { textContent: "No such item." }));
}

function add(entry) {
  state.history.push({ item: entry.item, title: entry.title, time: state.at });
  state.at += HOUR;
  state.explained = null;
  return refresh(`${titleOf(entry)} added.`);
}

function remove(place) {
  const [gone] = state.history.splice(place, 1);
  state.explained = null;
  refresh(`${titleOf(gone)} removed.`);
  const buttons = byId("history").querySelectorAll("button");
  (buttons[Math.min(place, buttons.length - 1)] ?? byId("query")).focus();
}

function showHistory() {
  state.history.sort((a, b) => a.time - b.time); // stable
  byId("history-empty").hidden = state.history.length > 0;
  byId("at").value = fieldValue(state.at);
  byId("history").replaceChildren(...state.history.map(historyRow));
}

function historyRow(event, place) {
  const name = titleOf(event);
  return element("li", {}, element("span", { className: "title", textContent: name }),
    element("input", {
      type: "datetime-local", step: "1", value: fieldValue(event.time),
      "aria-label": `Time of ${name}`,
      onchange: ({ target }) => attempt(() => {
        event.time = secondsOf(target);
        return refresh("Time changed.");
      }),
    }),
    element("button", {
      type: "button", textContent: "Remove", "aria-label": `Remove ${name}`,
      onclick: () => remove(place),
    }));
}

function refresh(words) {
  showHistory();
  return attempt(() => showLists(words));
}

async function showLists(words) {
  const turn = ++state.turn;
  if (!state.history.length) {
    byId("lists").replaceChildren();
    byId("explained").textContent = "";
    state.ranks.clear();
    say(words);
    return;
  }
  const answers = await Promise.all(state.models.map((model) => ask("recommend", {
    model: model.name, k: Math.min(K, model.items), on_unknown: "ignore",
    histories: [state.history.map(eventOf(model))],
    at: model.needs_time ? sent(model, state.at) : null,
  })));
  if (turn !== state.turn) return;
  const lists = answers.map((answer) => answer.lists[0]);
  byId("lists").replaceChildren(...lists.map((list, i) => listColumn(state.models[i], list)));
  lists.forEach((list, i) => state.ranks.set(
    state.models[i].name, new Map(list.map((entry, place) => [entry.item, place + 1]))));
  say([words, common(lists), leftOut(answers)].join(" ").trim());
  await explain(lists, turn);
}

function common(lists) {
  if (lists.length < 2) return "";
  const shared = lists[0].filter((entry) =>
    lists.every((list) => list.some((other) => other.item === entry.item)));
  return `${shared.length} items are in every list.`;
}

function leftOut(answers) {
  const unknown = answers.map((answer, i) => [state.models[i].name, answer.unknown]);
  return unknown.filter(([, count]) => count)
    .map(([name, count]) => `${name} does not know ${count} of the events.`).join(" ");
}

function listColumn(model, list) {
  const before = state.ranks.get(model.name);
  return element("section", { "aria-label": model.name },
    element("h3", { textContent: state.models.length > 1 ? model.name : model.kind }),
    element("ol", {}, ...list.map((entry, i) => listRow(entry, i + 1, before))));
}

function listRow(entry, rank, before) {
  const name = titleOf(entry);
  const button = (text, label, onclick) =>
    element("button", { type: "button", textContent: text, "aria-label": label, onclick });
  const why = button("Why", `What each event contributes to ${name}`, () => {
    state.explained = entry;
    return refresh("");
  });
  why.dataset.item = entry.item;
  return element("li", {}, element("span", { className: "rank", textContent: rank }),
    element("span", { className: "title", textContent: name }),
    element("span", { className: "change", textContent: change(rank, before, entry.item) }),
    element("span", { className: "score", textContent: entry.score.toFixed(3) }),
    why,
    button("Similar", `Items similar to ${name}`, () => attempt(() => showSimilar(entry))),
    button("Add", `Add ${name} to the history`, () => add(entry)));
}

function change(rank, before, item) {
  if (!before) return "";
  if (!before.has(item)) return "new";
  const up = before.get(item) - rank;
  return up ? `${up > 0 ? "▲" : "▼"} ${Math.abs(up)}` : "";
}

async function explain(lists, turn) {
  const chosen = state.explained ?? lists.find((list) => list.length)?.[0];
  if (!chosen || state.history.length > MAX_EXPLAINED) {
    byId("explained").textContent = chosen
      ? `Contributions are shown up to ${MAX_EXPLAINED} events.` : "";
    return;
  }
  const found = await Promise.allSettled(state.models.map((model) => ask("contributions", {
    model: model.name, items: [chosen.item], history: state.history.map(eventOf(model)),
    at: model.needs_time ? sent(model, state.at) : null,
  })));
  if (turn !== state.turn) return;
  for (const button of document.querySelectorAll("#lists [data-item]")) {
    const isChosen = button.dataset.item === chosen.item;
    button.setAttribute("aria-pressed", isChosen);
    button.closest("li").classList.toggle("chosen", isChosen);
  }
  byId("explained").textContent = `Bars: what each event contributes to the score of ` +
    `${titleOf(chosen)}: the score as it is minus the score without the event (leave one out).`;
  found.forEach((answer, i) => showParts(state.models[i], answer.value?.contributions ?? []));
}

function showParts(model, contributions) {
  const values = contributions.map((row) => row?.[0] ?? null);
  const widest = Math.max(...values.map(Math.abs), Number.MIN_VALUE);
  [...byId("history").children].forEach((row, place) => {
    const value = values[place] ?? null;
    row.append(part(state.models.length > 1 ? model.name : "", value, widest));
  });
}

function part(name, value, widest) {
  const bar = element("span");
  bar.style.width = `${(100 * Math.abs(value ?? 0)) / widest}%`;
  const sign = value > 0 ? "up" : "down";
  const sides = ["left", "right"].map((side) => element("span", { className: side }));
  sides[value > 0 ? 1 : 0].append(bar);
  return element("div", { className: "part" },
    ...(name ? [element("span", { className: "name", textContent: name, title: name })] : []),
    element("span", { className: `bar ${sign}`, "aria-hidden": "true" }, ...sides),
    element("span", {
      className: `score ${sign}`,
      textContent: value === null ? "–" : `${value > 0 ? "+" : ""}${value.toFixed(3)}`,
    }));
}

async function showSimilar(entry) {
  const path = `similar/${encodeURIComponent(entry.item)}`;
  const lists = await Promise.all(state.models.map((model) => ask(
    `${path}?k=${Math.min(K, model.items - 1)}&model=${encodeURIComponent(model.name)}`)));
  byId("similar-title").textContent = `Similar to ${titleOf(entry)}`;
  byId("similar-lists").replaceChildren(...lists.map(({ items }, i) => element("section", {},
    element("h3", { textContent: state.models.length > 1 ? state.models[i].name : "" }),
    element("ol", {}, ...items.map((other, place) => element("li", {},
      element("span", { className: "rank", textContent: place + 1 }),
      element("span", { className: "title", textContent: titleOf(other) }),
      element("span", { className: "score", textContent: other.score.toFixed(3) }),
      element("button", {
        type: "button", textContent: "Add", "aria-label": `Add ${titleOf(other)} to the history`,
        onclick: () => add(other),
      })))))));
  byId("similar").hidden = false;
  byId("similar-title").focus();
}

async function start() {
  state.models = (await ask("models")).models;
  byId("token-form").hidden = true;
  byId("models").textContent = state.models.map((model) =>
    `${model.kind} (${model.name}), ${model.items.toLocaleString()} items of ${model.dataset}`,
  ).join("; ");
  byId("request").hidden = !state.models.some((model) => model.needs_time);
  say("");
  showHistory();
  await search();
}

let typing;
byId("query").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => attempt(search), 150);
});
byId("at").addEventListener("change", ({ target }) => attempt(() => {
  state.at = secondsOf(target);
  return refresh("Time of the request changed.");
}));
byId("clear").addEventListener("click", () => {
  state.history = [];
  state.explained = null;
  refresh("History cleared.");
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = byId("token").value;
  attempt(start);
});
attempt(start);
