// What a person does on the page, and what then changes.

import {
  byId, element, eventRow, fieldValue, foundRow, items, note, partRow, scoredRow, secondsOf, titleOf,
} from "./elements.js";
import {
  allModels, askAll, contributions, recommend, search, similar, useToken,
} from "./questions.js";

const K = 10;
const SIMILAR = 5;
const FOUND = 20;
const HOUR = 3600;
const MAX_EXPLAINED = 100;

const state = {
  models: [],
  history: [], // {item, title, time in seconds}, oldest first
  at: Math.floor(Date.now() / 1000),
  lists: [], // a model's each
  chosen: null, // the item that is explained, or else the first of the lists
  turn: 0, // an answer to an older question is not shown
  attempts: 0,
};

function say(words) {
  byId("status").textContent = words;
}

// Does what changes the answers. What fails is said, and can be tried again.
async function attempt(action) {
  const attempted = ++state.attempts;
  byId("answers").setAttribute("aria-busy", "true");
  const error = await Promise.resolve().then(action).then(() => null, (thrown) => thrown);
  if (attempted !== state.attempts) return;
  byId("answers").setAttribute("aria-busy", "false");
  byId("answers").classList.toggle("stale", error !== null);
  byId("token-form").hidden = error?.status !== 401;
  byId("problem").hidden = !error || (error.status === 401 && !byId("token").value);
  byId("problem-text").textContent = error?.message ?? "";
  if (error) say("");
  byId("again").hidden = !error?.mayPass;
  byId("again").onclick = () => attempt(action);
}

// Who works by keyboard stays at the same place of a list that is filled anew.
function fill(list, rows) {
  const controls = () => [...list.querySelectorAll("button, input")];
  const place = controls().indexOf(document.activeElement);
  list.replaceChildren(...rows);
  if (place >= 0) (controls().at(place) ?? controls().at(-1) ?? byId("query")).focus();
}

// A column a model, with rows, or with why there are none.
function fillColumns(id, answers, rowsOf) {
  answers.forEach(({ value, reason }, i) => {
    const list = byId(id).children[i].lastElementChild;
    fill(list, reason ? [element("li", {}, note(reason.message))] : rowsOf(value, i));
  });
}

function makeColumns() {
  for (const [id, tag] of [["lists", "ol"], ["parts", "ul"], ["similar-lists", "ol"]]) {
    byId(id).replaceChildren(...state.models.map((model) =>
      element("section", { "aria-label": model.label },
        element("h3", {}, model.label, ...(id === "lists" ? [items(model.items)] : [])),
        ...(id === "lists" ? [note(model.name)] : []),
        ...(id === "lists" && model.needs_time && !model.time_unit
          ? [note("The unit of its times is not known: it is asked in seconds.")] : []),
        element(tag))));
  }
}

async function showFound() {
  const query = byId("query").value;
  const { found, error } = await search(state.models, query, FOUND).then(
    (found) => ({ found }), (error) => ({ found: [], error }));
  if (query !== byId("query").value) return;
  fill(byId("found"), found.map((entry, place) => foundRow(entry, place, add)));
  byId("found-note").textContent = error?.message ??
    (!found.length ? "No item has these words in its title."
      : found.length === FOUND ? `The first ${FOUND}; more words find fewer.` : "");
}

function moveInFound(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const stops = [byId("query"), ...byId("found").querySelectorAll("button")];
  const place = stops.indexOf(document.activeElement) + step;
  stops[Math.max(0, Math.min(place, stops.length - 1))].focus();
}

function add({ item, title }) {
  state.history.push({ item, title, time: state.at });
  state.at += HOUR;
  return refresh(`${titleOf({ item, title })} added.`);
}

function remove(event) {
  state.history.splice(state.history.indexOf(event), 1);
  return refresh(`${titleOf(event)} removed.`);
}

function refresh(words) {
  state.history.sort((a, b) => a.time - b.time); // stable
  byId("at").value = fieldValue(state.at);
  byId("history-empty").hidden = state.history.length > 0;
  byId("clear").hidden = !state.history.length;
  fill(byId("history"), state.history.map((event) =>
    eventRow(event, fieldValue(event.time), changeTime, remove)));
  return attempt(() => answer(words));
}

// The row stays: who types a time goes on typing.
function changeTime(event, field) {
  return attempt(() => {
    event.time = secondsOf(field);
    state.history.sort((a, b) => a.time - b.time);
    return answer("Time changed.");
  });
}

function requestAt(seconds) {
  state.at = seconds;
  return refresh("Time of the request changed.");
}

async function answer(words) {
  const turn = ++state.turn;
  const isEmpty = !state.history.length;
  for (const id of ["lists-note", "lists", "why", "similar"]) byId(id).hidden = isEmpty;
  byId("empty").hidden = !isEmpty;
  if (isEmpty) {
    state.lists = [];
    say(words);
    return;
  }
  if (state.models.some((model) => model.needs_time) && state.history.at(-1).time > state.at) {
    throw new Error("The request lies before an event. Choose a later time for the request.");
  }
  const answers = await askAll(state.models, (model) =>
    recommend(model, state.history, state.at, K));
  if (turn === state.turn) await showLists(words, answers);
}

function showLists(words, answers) {
  const before = state.lists;
  state.lists = answers.map(({ value }) => value?.list ?? []);
  fillColumns("lists", answers, ({ list }, i) => list.map((entry, place) =>
    scoredRow(entry, place + 1, moved(before[i], entry, place), add, choose)));
  say([words, inAll(state.lists), ...answers.map(leftOut)].join(" "));
  return explain();
}

function moved(before, { item }, place) {
  if (!before?.length) return "";
  const earlier = before.findIndex((other) => other.item === item);
  if (earlier < 0) return "new";
  if (earlier === place) return "";
  return earlier > place ? `up ${earlier - place}` : `down ${place - earlier}`;
}

function inAll(all) {
  const lists = all.filter((list) => list.length);  // a model that refuses has none
  if (lists.length < 2) return "";
  const shared = lists[0].filter(({ item }) =>
    lists.every((list) => list.some((other) => other.item === item)));
  return `The lists share ${shared.length} of ${K} items.`;
}

function leftOut({ value }, i) {
  const count = value?.unknown ?? 0;
  return count ? `${state.models[i].label} does not know ${count} of the events.` : "";
}

async function choose(entry) {
  state.chosen = entry.item;
  await attempt(explain);
  say(`What each event contributes to ${titleOf(entry)} and what is similar stands below.`);
  byId("parts").scrollIntoView({ block: "nearest" });
}

async function explain() {
  const { turn, models, history, at, chosen: asked } = state;
  const listed = state.lists.flat();
  const chosen = listed.find(({ item }) => item === asked) ?? listed[0];
  byId("why").hidden = byId("similar").hidden = !chosen;
  if (!chosen) return;
  for (const row of byId("lists").querySelectorAll(".scored")) {
    row.setAttribute("aria-current", row.dataset.item === chosen.item);
  }
  const events = [...history];
  const mayRefuse = true;
  const [parts, alike] = await Promise.all([
    events.length > MAX_EXPLAINED
      ? models.map(() => ({ reason: new Error(`Shown for up to ${MAX_EXPLAINED} events.`) }))
      : askAll(models, (model) => contributions(model, events, at, chosen.item), { mayRefuse }),
    askAll(models, (model) => similar(model, chosen.item, SIMILAR), { mayRefuse }),
  ]);
  if (turn !== state.turn || asked !== state.chosen) return;  // another was chosen since
  byId("why-title").textContent = `Why ${titleOf(chosen)}`;
  fillColumns("parts", parts, (values) => {
    const widest = Math.max(...values.map(Math.abs), Number.MIN_VALUE);
    const why = events.length === 1 ? "the only event" : "not compared";
    return events.map((event, place) => partRow(event, values[place] ?? why, widest));
  });
  byId("similar-title").textContent = `Similar to ${titleOf(chosen)}`;
  fillColumns("similar-lists", alike, (found) =>
    found.map((entry, place) => scoredRow(entry, place + 1, "", add)));
}

async function start() {
  state.models = await allModels();
  byId("main").hidden = false;
  document.body.classList.toggle("timeless", !state.models.some((model) => model.needs_time));
  makeColumns();
  await showFound();
  await refresh("");
}

let typing;
byId("query").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(showFound, 150);
});
byId("search").addEventListener("keydown", moveInFound);
byId("at").addEventListener("change", ({ target }) =>
  attempt(() => requestAt(secondsOf(target))));
for (const later of document.querySelectorAll("[data-hours]")) {
  later.addEventListener("click", () => requestAt(state.at + later.dataset.hours * HOUR));
}
byId("clear").addEventListener("click", () => {
  state.history = [];
  byId("query").focus();
  refresh("History cleared.");
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(byId("token").value);
  attempt(start);
});
attempt(start);
