// Questions to the service. Times are seconds on the page; a model gets them in its own unit, or as
// seconds where that is not known.

let token = "";

export function useToken(given) {
  token = given;
}

async function ask(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = { headers };
  if (body) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  const response = await fetch(path, options).catch(() => {
    throw Object.assign(new Error("The service does not answer."), { mayPass: true });
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const error = new Error(answer.detail ?? `The service answers ${response.status}.`);
  const { status } = response;
  throw Object.assign(error, { status, mayPass: status === 429 || status >= 500 });
}

// The same question to every model: its answers, of which some may be errors. Where all are, it
// fails; not where they say that their models have no answer to such a question.
export async function askAll(models, question, { mayRefuse = false } = {}) {
  const settled = await Promise.allSettled(models.map(question));
  const fails = ({ reason }) => reason && !(mayRefuse && reason.status === 409);
  if (settled.every(fails)) throw settled[0].reason;
  return settled.map(({ value, reason }) => ({ value, reason }));
}

const timed = (model, seconds) => (model.time_unit === "ms" ? seconds * 1000 : seconds);

// Events oldest first.
function asked(model, events, at) {
  if (!model.needs_time) return { model: model.name, events: events.map(({ item }) => item) };
  const pairs = events.map(({ item, time }) => [item, timed(model, time)]);
  return { model: model.name, events: pairs, at: timed(model, at) };
}

// Models under their kind, with a number where there are two of a kind.
export async function allModels() {
  const { models } = await ask("models");
  return models.map((model, i) => {
    const isAlone = models.filter(({ kind }) => kind === model.kind).length === 1;
    return { ...model, label: isAlone ? model.kind : `${model.kind} ${i + 1}` };
  });
}

// In the catalogues of all models, each item once.
export async function search(models, query, limit) {
  const answers = await Promise.all(models.map(({ name }) =>
    ask(`items?${new URLSearchParams({ limit, query, model: name })}`)));
  const found = new Map();
  for (const entry of answers.flatMap(({ items }) => items)) {
    if (!found.has(entry.item)) found.set(entry.item, entry);
  }
  return [...found.values()].slice(0, limit);
}

export async function recommend(model, history, at, k) {
  const { events, ...rest } = asked(model, history, at);
  const body = { ...rest, histories: [events], k: Math.min(k, model.items), on_unknown: "ignore" };
  const { lists, unknown } = await ask("recommend", body);
  return { list: lists[0], unknown };
}

// A number an event: the score as it is minus the score without the event; null for an event that
// the model does not know, and for the only other one.
export async function contributions(model, history, at, item) {
  const { events, ...rest } = asked(model, history, at);
  const body = { ...rest, history: events, items: [item], on_unknown: "ignore" };
  const answer = await ask("contributions", body);
  return answer.contributions.map((ofItems) => ofItems?.[0] ?? null);
}

export async function similar(model, item, k) {
  const most = Math.min(k, model.items - 1);
  const query = `k=${most}&model=${encodeURIComponent(model.name)}`;
  return (await ask(`similar/${encodeURIComponent(item)}?${query}`)).items;
}
