// The state of the page and what changes it; elements.js makes what it shows.
"use strict";

const K = 10;
const HOUR = 3600;
const MAX_EXPLAINED = 100;

const state = {
  models: [],
  history: [], // {item, title, time in seconds, row}
  lists: [], // a model's each
  at: Math.floor(Date.now() / 1000),
  ranks: new Map(), // model -> item -> rank in the list before
  explained: null, // {item, title}; null: the first of the list
  token: "",
  turn: 0, // an answer to an older question is not shown
};

const addButton = (entry) => button("Add", `Add ${titleOf(entry)} to the history`, () => add(entry));

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

function asked(model) {
  const events = [...state.history].sort((a, b) => a.time - b.time); // stable
  return {
    model: model.name,
    at: model.needs_time ? sent(model, state.at) : null,
    events: events.map((event) =>
      model.needs_time ? [event.item, sent(model, event.time)] : event.item),
    rows: events.map((event) => event.row),
  };
}

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
      element("li", {}, textIn("title", titleOf(entry)), addButton(entry))),
  );
  if (!items.length) byId("found").append(element("li", { textContent: "No such item." }));
}

async function add(entry) {
  const fromLists = byId("lists").contains(document.activeElement);
  state.history.push({ item: entry.item, title: entry.title, time: state.at });
  state.at += HOUR;
  state.explained = null;
  await refresh(`${titleOf(entry)} added.`);
  if (fromLists) byId("lists").focus();
}

function remove(event) {
  const place = state.history.indexOf(event);
  state.history.splice(place, 1);
  state.explained = null;
  refresh(`${titleOf(event)} removed.`);
  const buttons = byId("history").querySelectorAll("button");
  (buttons[Math.min(place, buttons.length - 1)] ?? byId("query")).focus();
}

function showHistory() {
  state.history.sort((a, b) => a.time - b.time);
  byId("history-empty").hidden = state.history.length > 0;
  byId("at").value = fieldValue(state.at);
  for (const event of state.history) event.row = historyRow(event);
  byId("history").replaceChildren(...state.history.map((event) => event.row));
}

function historyRow(event) {
  const name = titleOf(event);
  const field = element("input", {
    type: "datetime-local", step: "1", value: fieldValue(event.time), required: true,
    "aria-label": `Time of ${name}`,
    // The row stays: who types a time goes on typing.
    onchange: () => attempt(() => {
      event.time = secondsOf(field);
      return showLists("Time changed.");
    }),
  });
  return element("li", {}, textIn("title", name), element("span", { className: "actions" },
    field, button("Remove", `Remove ${name}`, () => remove(event))));
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
  if (state.models.some((model) => model.needs_time) &&
      state.history.some((event) => event.time > state.at)) {
    throw new Error("The request lies before an event: choose a later time for the request.");
  }
  const answers = await Promise.all(state.models.map((model) => {
    const { events, at } = asked(model);
    const k = Math.min(K, model.items);
    return ask("recommend", { model: model.name, k, on_unknown: "ignore", histories: [events], at });
  }));
  if (turn !== state.turn) return;
  state.lists = answers.map((answer) => answer.lists[0]);
  byId("lists").replaceChildren(...state.lists.map(listColumn));
  state.lists.forEach((list, i) => state.ranks.set(
    state.models[i].name, new Map(list.map((entry, place) => [entry.item, place + 1]))));
  say([words, common(state.lists), leftOut(answers)].join(" ").trim());
  await explain(turn);
}

function common(lists) {
  if (lists.length < 2) return "";
  const shared = lists[0].filter((entry) =>
    lists.every((list) => list.some((other) => other.item === entry.item)));
  return `In every list: ${shared.length} of ${lists[0].length} items.`;
}

function leftOut(answers) {
  const unknown = answers.map((answer, i) => [state.models[i].label, answer.unknown]);
  return unknown.filter(([, count]) => count)
    .map(([name, count]) => `${name} does not know ${count} of the events.`).join(" ");
}

function listColumn(list, number) {
  const model = state.models[number];
  const before = state.ranks.get(model.name);
  return element("section", { "aria-label": model.label },
    element("h3", { textContent: model.label }),
    element("ol", {}, ...list.map((entry, i) => listRow(entry, i + 1, before))));
}

function listRow(entry, rank, before) {
  const name = titleOf(entry);
  const why = button("Why", `What each event contributes to ${name}`, () => {
    state.explained = entry;
    return attempt(() => explain(state.turn));
  });
  why.dataset.item = entry.item;
  return element("li", {}, textIn("rank", rank), textIn("title", name),
    textIn("change", change(rank, before, entry.item)), textIn("score", entry.score.toFixed(3)),
    element("span", { className: "actions" }, why,
      button("Similar", `Items similar to ${name}`, () => attempt(() => showSimilar(entry))),
      addButton(entry)));
}

function change(rank, before, item) {
  if (!before) return "";
  if (!before.has(item)) return "new";
  const up = before.get(item) - rank;
  return up ? `${up > 0 ? "▲" : "▼"} ${Math.abs(up)}` : "";
}

async function explain(turn) {
  const chosen = state.explained ?? state.lists.find((list) => list.length)?.[0];
  if (!chosen || state.history.length > MAX_EXPLAINED) {
    byId("explained").textContent = chosen
      ? `Contributions are shown up to ${MAX_EXPLAINED} events.` : "";
    return;
  }
  for (const why of document.querySelectorAll("#lists [data-item]")) {
    const isChosen = why.dataset.item === chosen.item;
    why.setAttribute("aria-pressed", isChosen);
    why.closest("li").classList.toggle("chosen", isChosen);
  }
  const questions = state.models.map(asked);
  const found = await Promise.allSettled(questions.map(({ model, at, events }) =>
    ask("contributions", { model, at, history: events, items: [chosen.item] })));
  if (turn !== state.turn) return;
  byId("explained").textContent = `Bars: what each event contributes to the score of ` +
    `${titleOf(chosen)}: the score as it is minus the score without the event (leave one out).`;
  for (const old of byId("history").querySelectorAll(".part")) old.remove();
  found.forEach((answer, i) =>
    showParts(state.models[i], questions[i].rows, answer.value?.contributions ?? []));
}

function showParts(model, rows, contributions) {
  const values = rows.map((_, place) => contributions[place]?.[0] ?? null);
  const widest = Math.max(...values.map(Math.abs), Number.MIN_VALUE);
  rows.forEach((row, place) => row.append(part(model.label, values[place], widest)));
}

async function showSimilar(entry) {
  const path = `similar/${encodeURIComponent(entry.item)}`;
  const lists = await Promise.all(state.models.map((model) => ask(
    `${path}?k=${Math.min(K, model.items - 1)}&model=${encodeURIComponent(model.name)}`)));
  byId("similar-title").textContent = `Similar to ${titleOf(entry)}`;
  byId("similar-lists").replaceChildren(...lists.map(({ items }, i) => element("section", {},
    element("h3", { textContent: state.models[i].label }),
    element("ol", {}, ...items.map((other, place) => element("li", {},
      textIn("rank", place + 1), textIn("title", titleOf(other)),
      textIn("score", other.score.toFixed(3)), addButton(other)))))));
  byId("similar").hidden = false;
  byId("similar-title").focus();
}

async function start() {
  state.models = (await ask("models")).models;
  const kinds = state.models.map((model) => model.kind);
  state.models.forEach((model, i) => {
    const isAlone = kinds.filter((kind) => kind === model.kind).length === 1;
    model.label = isAlone ? model.kind : `${model.kind} ${i + 1}`;
  });
  byId("token-form").hidden = true;
  byId("models").textContent = state.models.map((model) =>
    `${model.label} (${model.name}), ${model.items.toLocaleString()} items of ${model.dataset}`,
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
