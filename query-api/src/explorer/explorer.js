// The explorer: runs a query with a token, and shows the schema. Everything from the server is put in as text.
"use strict";

const ENDPOINT = "/graphql";
const START = `# Ctrl-Enter runs it. The schema is on the right, once there is a token.
query Latest($first: Int = 5) {
  conversations(first: $first) {
    nodes {
      conversationId
      title
      lastActivityAt
      lastMessage {
        status
        content { ... on TextContent { text } }
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}
`;
// Three wrappers are the most that a type of ours has: a list of something that is not null, itself not null.
const SCHEMA = `query Schema {
  __schema {
    types {
      kind name description
      fields { name description type { ...named } args { name description defaultValue type { ...named } } }
      inputFields { name description type { ...named } }
      enumValues { name description }
      possibleTypes { name }
    }
  }
}
fragment named on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }`;

const at = (id) => document.getElementById(id);
const [token, query, variables, run, result, status, search, docs] =
  ["token", "query", "variables", "run", "result", "status", "search", "docs"].map(at);
let types = [];

// This tab's memory: gone when it is closed, and never shared with other tabs.
const remembered = (field, start) => {
  const key = `chat4all.${field.id}`;
  field.value = sessionStorage.getItem(key) ?? start;
  field.addEventListener("input", () => sessionStorage.setItem(key, field.value));
};

async function ask(body) {
  const headers = { "Content-Type": "application/json" };
  if (token.value.trim()) headers.Authorization = `Bearer ${token.value.trim()}`;
  const answer = await fetch(ENDPOINT, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await answer.text();
  let json;
  try { json = JSON.parse(text); } catch { json = text; }
  return { status: answer.status, json };
}

function show(words, wrong, value) {
  status.value = words;
  status.classList.toggle("wrong", wrong);
  result.textContent = typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

async function runQuery() {
  let given;
  try {
    given = variables.value.trim() ? JSON.parse(variables.value) : {};
  } catch (error) {
    show("the variables are not JSON", true, String(error.message));
    return;
  }
  run.disabled = true;
  const started = performance.now();
  try {
    const { status: code, json } = await ask({ query: query.value, variables: given });
    const took = Math.round(performance.now() - started);
    show(`${code} · ${took} ms`, code !== 200 || Boolean(json.errors), json);
  } catch (error) {
    show("no answer", true, String(error.message));
  } finally {
    run.disabled = false;
  }
}

async function loadSchema() {
  if (!token.value.trim()) return note("Enter a token to see the schema.");
  try {
    const { status: code, json } = await ask({ query: SCHEMA });
    if (code !== 200 || !json.data) return note(json.detail ?? json.errors?.[0]?.message ?? `HTTP ${code}`);
    const order = (type) => (type.name === "Query" ? 0 : type.kind === "SCALAR" ? 2 : 1);
    types = json.data.__schema.types
      .filter((type) => !type.name.startsWith("__"))
      .sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name));
    showSchema();
  } catch (error) {
    note(String(error.message));
  }
}

const element = (name, text, ...children) => {
  const made = document.createElement(name);
  if (text) made.append(text);
  made.append(...children);
  return made;
};
const note = (text) => docs.replaceChildren(element("p", text));

function typeName(type) {
  if (type.kind === "NON_NULL") return `${typeName(type.ofType)}!`;
  if (type.kind === "LIST") return `[${typeName(type.ofType)}]`;
  return type.name;
}

// Fields, input fields and values are shown alike: a name, what it takes, what it gives, and what it is for.
function membersOf(type) {
  const argument = (arg) =>
    `${arg.name}: ${typeName(arg.type)}${arg.defaultValue == null ? "" : ` = ${arg.defaultValue}`}`;
  const fields = (type.fields ?? type.inputFields ?? []).map((field) => ({
    name: field.name + (field.args?.length ? `(${field.args.map(argument).join(", ")})` : ""),
    gives: typeName(field.type),
    about: [field.description, ...(field.args ?? []).map((arg) => arg.description && `${arg.name}: ${arg.description}`)],
  }));
  const values = (type.enumValues ?? []).map(({ name, description }) => ({ name, gives: "", about: [description] }));
  const possible = (type.possibleTypes ?? []).map(({ name }) => ({ name, gives: "possible type", about: [] }));
  return [...fields, ...values, ...possible].map((member) => ({
    ...member,
    about: member.about.filter(Boolean).join(" · "),
  }));
}

function showSchema() {
  if (!types.length) return;
  const wanted = search.value.trim().toLowerCase();
  const has = (...texts) => texts.some((text) => text?.toLowerCase().includes(wanted));
  const found = types.flatMap((type) => {
    const members = membersOf(type);
    const whole = has(type.name, type.description);
    const some = members.filter((member) => has(member.name, member.gives, member.about));
    if (wanted && !whole && !some.length) return [];
    const list = element("dl");
    for (const member of wanted && !whole ? some : members) {
      const name = element("dt", member.name);
      if (member.gives) name.append(": ", element("i", member.gives));
      list.append(name);
      if (member.about) list.append(element("dd", member.about));
    }
    const kind = element("small", ` ${type.kind.toLowerCase().replace("_", " ")}`);
    const details = element("details", "", element("summary", type.name, kind));
    if (type.description) details.append(element("p", type.description));
    details.append(list);
    details.open = wanted ? true : type.name === "Query";
    return [details];
  });
  docs.replaceChildren(...(found.length ? found : [element("p", "Nothing has that word.")]));
}

// Tab indents, and Escape then Tab leaves the field, so that the keyboard is not caught in it.
let escaped = false;
query.addEventListener("keydown", (event) => {
  if (event.key === "Tab" && !event.shiftKey && !escaped) {
    event.preventDefault();
    query.setRangeText("  ", query.selectionStart, query.selectionEnd, "end");
    query.dispatchEvent(new Event("input"));
  }
  escaped = event.key === "Escape";
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !run.disabled) {
    event.preventDefault();
    runQuery();
  }
});
run.addEventListener("click", runQuery);
search.addEventListener("input", showSchema);
token.addEventListener("change", loadSchema);

remembered(token, "");
remembered(query, START);
remembered(variables, "");
loadSchema();
