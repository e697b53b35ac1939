// The auditor's console. Every text is set as text; nothing that came from the log is ever read as markup.

import { timeline } from "/timeline.js";
import { judged, hexOf } from "/verify.js";

const main = document.getElementById("main");
const COLUMNS = ["kind", "operation", "key", "content", "message", "outcome", "rule", "clause", "caller"];
let log = null;
let turn = 0;

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

function plain(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function table(caption, columns, rows) {
  const head = make("tr", {}, ...columns.map((one) => make("th", { scope: "col" }, one)));
  const body = rows.map((row) =>
    make("tr", {}, ...row.map((cell, at) => make(at ? "td" : "th", at ? {} : { scope: "row" }, cell)))
  );
  const made = make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, made);
}

function facts(pairs) {
  return make("dl", {}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function entryLink(index) {
  return make("a", { href: `#/entry?index=${index}` }, `entry ${index}`);
}

function keyLink(key) {
  return key ? make("a", { href: `#/key?${new URLSearchParams({ id: key })}` }, key) : "";
}

async function ask(view, parameters = []) {
  const answer = await fetch(`/api/${view}?${new URLSearchParams(parameters)}`.replace(/\?$/, ""), {
    headers: { "X-Console-Secret": sessionStorage.getItem("secret") ?? "" },
    cache: "no-store",
  });
  if (answer.headers.get("Content-Type") !== "application/json") throw { message: (await answer.text()).trim(), rule: "" };
  const document = await answer.json();
  if (!answer.ok) throw document.error;
  return document;
}

function show(title, ...children) {
  document.title = `${title} – Audit console`;
  const heading = make("h1", { tabindex: "-1" }, title);
  main.replaceChildren(heading, ...children);
  heading.focus();
}

function alarm(error) {
  const clause = error.clause ? ` (${error.clause})` : "";
  const rule = error.rule ? make("p", { class: "quiet" }, `rule ${error.rule}`) : null;
  return make("section", { class: "verdict fails", role: "alert" }, make("h2", {}, `No answer${clause}`),
    make("p", {}, error.message ?? String(error)), rule);
}

// ---- query

function nanoseconds(text) {
  if (!text) return "";
  const at = Date.parse(/[zZ]|[+-]\d\d:?\d\d$/.test(text) || !text.includes("T") ? text : `${text}Z`);
  if (!Number.isFinite(at) || at < 0) throw { message: `${text} is not a date or an ISO 8601 moment`, rule: "" };
  return String(BigInt(at) * 1000000n);
}

function condition(field, value) {
  const options = Object.entries(log.fields).map(([name, meaning]) => {
    const one = make("option", { value: name, title: meaning }, name);
    one.selected = name === field;
    return one;
  });
  const box = make("div", { class: "condition" });
  const input = make("input", { name: "value" });
  input.value = value;
  box.append(
    make("label", {}, "Field", make("select", { name: "field" }, ...options)),
    make("label", {}, "Value (any of several, with commas)", input),
    make("button", { type: "button", onclick: () => box.remove() }, "Remove condition")
  );
  return box;
}

function queryForm(parameters) {
  const asked = parameters.getAll("where").map((one) => [one.slice(0, one.indexOf("=")), one.slice(one.indexOf("=") + 1)]);
  const conditions = make("fieldset", {}, make("legend", {}, "Conditions, all of which hold"));
  for (const [field, value] of asked.length ? asked : [["key", ""]]) conditions.append(condition(field, value));
  const order = make("select", { name: "oldest" }, make("option", { value: "" }, "newest first"), make("option", { value: "1" }, "oldest first"));
  order.value = parameters.get("oldest") ?? "";
  const times = ["from", "to"].map((name) => {
    const input = make("input", { name, placeholder: "2026-11-23T10:00:00Z" });
    input.value = parameters.get(name) ?? "";
    return make("label", {}, name === "from" ? "Not before (UTC)" : "Before (UTC)", input);
  });
  const submit = (event) => {
    event.preventDefault();
    const found = new URLSearchParams();
    for (const box of conditions.querySelectorAll(".condition")) {
      const value = box.querySelector("input").value.trim();
      if (value) found.append("where", `${box.querySelector("select").value}=${value}`);
    }
    for (const name of ["from", "to", "oldest"]) if (form.elements[name].value.trim()) found.set(name, form.elements[name].value.trim());
    found.set("asked", "1");
    go(`#/query?${found}`);
  };
  const form = make("form", { onsubmit: submit, "aria-label": "Question" }, conditions, ...times,
    make("label", {}, "Order", order),
    make("button", { type: "button", onclick: () => conditions.append(condition("key", "")) }, "Add condition"),
    make("button", { type: "submit", class: "first" }, "Ask"));
  return form;
}

async function query(parameters, own) {
  const form = queryForm(parameters);
  const answer = make("section", { "aria-live": "polite", id: "answer" });
  show("Query", form, answer);
  if (!parameters.has("asked")) return;
  const asked = parameters.getAll("where").flatMap((one) => {
    const at = one.indexOf("=");
    return one.slice(at + 1).split(",").map((value) => ["where", `${one.slice(0, at)}=${value.trim()}`]);
  });
  try {
    asked.push(["start", nanoseconds(parameters.get("from"))], ["stop", nanoseconds(parameters.get("to"))]);
    asked.push(["oldest", parameters.get("oldest") ?? ""]);
    await page(asked, "", [], answer, own);
  } catch (error) {
    answer.replaceChildren(alarm(error));
  }
}

async function page(asked, cursor, before, answer, own) {
  const found = await ask("query", [...asked, ["cursor", cursor]].filter(([, value]) => value));
  if (own !== turn) return;
  const rows = [...before, ...found.rows];
  const cells = rows.map((row) => [entryLink(row.leaf_index), row.time,
    ...COLUMNS.map((name) => (name === "key" && row.key && !row.key.includes(" ") ? keyLink(row.key) : plain(row[name])))]);
  const caption = `${rows.length} ${rows.length === 1 ? "entry" : "entries"}${found.cursor ? " so far" : ""}, of a log of ${found.size}`;
  const more = found.cursor
    ? make("button", { type: "button", onclick: () => page(asked, found.cursor, rows, answer, own).catch((error) => answer.append(alarm(error))) }, "More")
    : null;
  answer.replaceChildren(table(caption, ["entry", "time", ...COLUMNS], cells), ...(more ? [more] : []));
}

// ---- one key

async function key(parameters, own) {
  const id = parameters.get("id") ?? "";
  const input = make("input", { name: "id", required: "" });
  input.value = id;
  const submit = (event) => {
    event.preventDefault();
    go(`#/key?${new URLSearchParams({ id: input.value.trim() })}`);
  };
  const form = make("form", { onsubmit: submit, "aria-label": "Key" }, make("label", {}, "Key id", input),
    make("button", { type: "submit", class: "first" }, "Show"));
  show(id ? `Key ${id}` : "Key", form);
  if (!id) return;
  try {
    const story = await ask("key", [["id", id]]);
    if (own === turn) main.append(...life(story));
  } catch (error) {
    main.append(alarm(error));
  }
}

function life(story) {
  if (!story.entries) return [make("p", {}, "No entry names this key.")];
  const use = (one) => (one ? make("span", {}, entryLink(one.leaf_index), `, ${one.time}`) : "never");
  const drawing = timeline(story);
  const because = (one) => Object.entries(one.because).map((pair) => pair.join(" ").trim()).join("; ");
  return [
    facts([["Entries", plain(story.entries)], ["First use", use(story.first_use)], ["Last use", use(story.last_use)],
      ["Modules", story.modules.join(", ")], ["Callers", Object.entries(story.callers).map(([name, count]) => `${name}: ${count}`).join(", ")]]),
    make("h2", {}, "Life"),
    ...(drawing ? [drawing, make("p", { class: "quiet" }, "Blue: changes, with the state they led to. Red: refusals. Green: uses by month. The tables say the same.")] : []),
    table("Changes", ["entry", "time", "version", "state", "because", "approvals"],
      story.changes.map((one) => [entryLink(one.leaf_index), one.time, plain(one.version), plain(one.state), because(one), plain(one.approvals.length)])),
    table("Uses", ["content", "operation", "outcome", "count"],
      story.uses.map((one) => [one.content, one.operation, one.outcome, plain(one.count)])),
    table("Refusals", ["entry", "time", "caller", "rule", "clause"],
      story.refusals.map((one) => [entryLink(one.leaf_index), one.time, one.caller, one.rule, one.clause])),
    make("p", {}, make("a", { href: `#/query?${new URLSearchParams([["where", `key=${story.key}`], ["asked", "1"]])}` }, "All its entries")),
  ];
}

// ---- one entry

const VERDICTS = {
  holds: ["holds", "Verified in this browser: the entry is in the log"],
  fails: ["fails", "This does not verify: do not believe this entry"],
  open: ["open", "Not covered by a checkpoint yet: try again in a minute"],
};

async function entry(parameters, own) {
  const index = parameters.get("index") ?? "";
  const input = make("input", { name: "index", inputmode: "numeric", pattern: "0|[1-9][0-9]*", required: "" });
  input.value = index;
  const submit = (event) => {
    event.preventDefault();
    go(`#/entry?${new URLSearchParams({ index: input.value.trim() })}`);
  };
  const form = make("form", { onsubmit: submit, "aria-label": "Entry" }, make("label", {}, "Number of the entry, from 0", input),
    make("button", { type: "submit", class: "first" }, "Show"));
  show(index ? `Entry ${index}` : "Entry", form);
  if (!index) return;
  try {
    const evidence = await ask("entry", [["index", index]]);
    if (String(evidence.leaf_index) !== index) throw { message: "the service gave another entry", rule: "" };
    const found = await judged(evidence, log);
    if (own !== turn) return;
    main.append(verdict(found));
    if (found.entry) main.append(...contents(found));
    const why = await ask("why", [["index", index]]);
    if (own === turn) main.append(...told(why));
  } catch (error) {
    if (own === turn) main.append(alarm(error));
  }
}

function verdict(found) {
  const [style, words] = VERDICTS[found.verdict];
  const steps = found.steps.map((one) => make("li", {}, `${one.holds ? "✓" : "✗"} ${one.what}: ${one.seen}`));
  return make("section", { class: `verdict ${style}`, role: "status", id: "verdict" }, make("h2", {}, words), make("ol", {}, ...steps));
}

function contents(found) {
  const shown = Object.entries(found.entry).filter(([name]) => name !== "commitments");
  const beside = Object.entries(found.beside ?? {}).map(([name, pair]) => [name, plain(pair[1])]);
  return [
    make("h2", {}, "What it says"),
    facts(shown.map(([name, value]) => [name, said(name, value)])),
    make("h2", {}, "Kept beside it"),
    beside.length ? facts(beside) : make("p", { class: "quiet" }, "Nothing."),
  ];
}

function said(name, value) {
  if (name === "key") return keyLink(plain(value));
  const at = name === "time" && /^[0-9]{1,19}$/.test(value) ? new Date(Number(BigInt(value) / 1000000n)) : null;
  return at && Number.isFinite(at.getTime()) ? `${at.toISOString()} (${value})` : plain(value);
}

function told(why) {
  const approvals = why.approvals.map((one) => ["proposal", "act", "custodian", "at", "verdict"].map((name) => plain(one[name])));
  const reason = Object.entries(why.decision);
  return [
    make("h2", {}, "Why"),
    make("p", { class: "quiet" }, "Retold on this machine from entries of the log; signatures are verified again."),
    reason.length ? facts(reason.map(([name, value]) => [name, plain(value)])) : make("p", {}, "No decision stands behind it."),
    make("p", {}, why.policy_set),
    ...why.policies.flatMap((one) => [make("h3", {}, one.id), make("pre", {}, one.text || "its text is not kept")]),
    ...(approvals.length ? [table("Approvals", ["proposal", "act", "custodian", "at", "verdict"], approvals)] : []),
  ];
}

// ---- where we are

const VIEWS = { query, key, entry };

function go(address) {
  if (location.hash === address) route();
  else location.hash = address;
}

async function route() {
  const own = ++turn;
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const view = Object.hasOwn(VIEWS, path) ? path : "query";
  for (const one of document.querySelectorAll("nav a")) {
    if (one.getAttribute("href") === `#/${view}`) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  await VIEWS[view](new URLSearchParams(search ?? ""), own);
}

async function begin() {
  const given = /^#secret=([\w-]+)$/.exec(location.hash);
  if (given) {
    sessionStorage.setItem("secret", given[1]);
    history.replaceState(null, "", "#/query");
  }
  try {
    log = await ask("about");
  } catch (error) {
    show("Audit console", alarm(error));
    return;
  }
  const digest = await crypto.subtle.digest("SHA-256", Uint8Array.from(atob(log.log_key), (one) => one.charCodeAt(0)));
  document.getElementById("about").textContent = `${log.origin}, key SHA-256 ${hexOf(new Uint8Array(digest)).slice(0, 16)}…, at ${log.target}`;
  window.addEventListener("hashchange", route);
  await route();
}

begin();
