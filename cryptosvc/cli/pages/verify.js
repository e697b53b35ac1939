// Proof that an entry is in the log, judged here in the browser, from octets as they came.
// docs/log-format.md describes every step; the RFC 6962 audit path is verified as in RFC 9162 section 2.1.3.2.

const KEY_ID_OCTETS = 4;
const P256_OCTETS = 32;

export function octetsOfBase64(text) {
  return Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
}

export function hexOf(octets) {
  return Array.from(octets, (one) => one.toString(16).padStart(2, "0")).join("");
}

function octetsOfHex(text) {
  if (!/^([0-9a-f]{2})*$/.test(text)) throw new Error("this is not hex");
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

function joined(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function same(one, other) {
  return one.length === other.length && one.every((octet, at) => octet === other[at]);
}

async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined(...parts)));
}

export async function leafHash(entry) {
  return sha256(Uint8Array.of(0), entry);
}

async function nodeHash(left, right) {
  return sha256(Uint8Array.of(1), left, right);
}

// The root an audit path leads to; null where the path does not fit an entry of this index in a tree of this size.
export async function rootOf(leaf, index, size, path) {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return null;
  let [at, last, root] = [index, size - 1, leaf];
  for (const sibling of path) {
    if (last === 0 || sibling.length !== 32) return null;
    if (at % 2 === 1 || at === last) {
      root = await nodeHash(sibling, root);
      while (at % 2 === 0 && at !== 0) [at, last] = [at / 2, Math.floor(last / 2)];
    } else {
      root = await nodeHash(root, sibling);
    }
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  return last === 0 ? root : null;
}

// Throws where the tree of the second checkpoint does not begin with that of the first (RFC 9162 section 2.1.4.2).
export async function requireExtended(first, second, path) {
  if (first.size > second.size) throw new Error(`the log had ${first.size} entries and now has ${second.size}: it was put back`);
  if (first.size === second.size || first.size === 0) {
    if (path.length || (first.size && !same(first.root, second.root))) throw new Error("the log was forked");
    return;
  }
  const whole = first.size === 2 ** Math.round(Math.log2(first.size));
  const [seed, ...others] = whole ? [first.root, ...path] : path;
  if (seed === undefined || !path.every((one) => one.length === 32)) throw new Error("the proof is in no form");
  let [at, last] = [first.size - 1, second.size - 1];
  while (at % 2 === 1) [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  let [before, after] = [seed, seed];
  for (const sibling of others) {
    if (last === 0) throw new Error("the proof does not fit trees of these sizes");
    if (at % 2 === 1 || at === last) {
      before = await nodeHash(sibling, before);
      after = await nodeHash(sibling, after);
      while (at % 2 === 0 && at !== 0) [at, last] = [at / 2, Math.floor(last / 2)];
    } else {
      after = await nodeHash(after, sibling);
    }
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  if (last !== 0) throw new Error("the proof does not fit trees of these sizes");
  if (!same(before, first.root) || !same(after, second.root)) throw new Error("the log was forked, or put back and grown again");
}

// A C2SP signed note: origin, size and root, each on a line; an empty line; signature lines.
function readNote(note) {
  const cut = note.indexOf("\n\n");
  const text = note.slice(0, cut + 1);
  const lines = text.split("\n");
  if (cut < 0 || lines.length !== 4 || !note.endsWith("\n")) throw new Error("this is not a checkpoint");
  if (!/^(0|[1-9][0-9]{0,15})$/.test(lines[1])) throw new Error("its size is in no form");
  const signatures = note.slice(cut + 2, -1).split("\n").map((line) => {
    const found = /^— (\S+) ([A-Za-z0-9+/]+={0,2})$/.exec(line);
    if (!found) throw new Error("a signature line is in no form");
    const octets = octetsOfBase64(found[2]);
    return { name: found[1], id: octets.slice(0, KEY_ID_OCTETS), signature: octets.slice(KEY_ID_OCTETS) };
  });
  return { text, origin: lines[0], size: Number(lines[1]), root: octetsOfBase64(lines[2]), signatures };
}

// r and s of a DER signature, 32 octets each, as WebCrypto takes them.
function rawOfDer(der) {
  if (der[0] !== 0x30 || der[1] !== der.length - 2) throw new Error("the signature is in no form");
  const parts = [];
  let at = 2;
  for (let n = 0; n < 2; n++) {
    const length = der[at + 1];
    if (der[at] !== 0x02 || !length || at + 2 + length > der.length) throw new Error("the signature is in no form");
    let value = der.slice(at + 2, at + 2 + length);
    while (value.length > P256_OCTETS && value[0] === 0) value = value.slice(1);
    if (value.length > P256_OCTETS) throw new Error("the signature is in no form");
    parts.push(joined(new Uint8Array(P256_OCTETS - value.length), value));
    at += 2 + length;
  }
  if (at !== der.length) throw new Error("the signature is in no form");
  return joined(...parts);
}

async function requireSigned(note, origin, publicKey) {
  if (note.origin !== origin) throw new Error(`the checkpoint is of the log ${note.origin}, not of ${origin}`);
  const id = (await sha256(publicKey)).slice(0, KEY_ID_OCTETS);
  const own = note.signatures.filter((one) => one.name === origin && same(one.id, id));
  if (!own.length) throw new Error("it has no signature by the log’s key");
  const kind = { name: "ECDSA", namedCurve: "P-256" };
  const key = await crypto.subtle.importKey("spki", publicKey, kind, false, ["verify"]);
  const text = new TextEncoder().encode(note.text);
  for (const one of own) {
    const good = await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key, rawOfDer(one.signature), text);
    if (!good) throw new Error("its signature does not verify");
  }
}

async function requireCommitted(entry, beside) {
  const encoder = new TextEncoder();
  for (const [name, pair] of Object.entries(beside)) {
    if (!Array.isArray(pair) || pair.length !== 2) throw new Error("what is kept beside it is in no form");
    const nothing = Uint8Array.of(0);
    const digest = await sha256(
      octetsOfHex(pair[0]), nothing, encoder.encode(name), nothing, encoder.encode(pair[1])
    );
    const committed = Object.hasOwn(entry.commitments ?? {}, name) ? entry.commitments[name] : "";
    if (hexOf(digest) !== committed) throw new Error(`${name} is not the value it commits to`);
  }
}

// Judge an entry with its proof. Each step says what was looked at; the first that fails ends it.
// Verdict: "holds", "fails", or "open" where no checkpoint covers the entry yet.
export async function judged(evidence, log) {
  const steps = [];
  const step = async (what, look) => {
    try {
      steps.push({ what, holds: true, seen: (await look()) ?? "" });
      return true;
    } catch (error) {
      steps.push({ what, holds: false, seen: error.message });
      return false;
    }
  };
  const octets = octetsOfBase64(evidence.entry);
  const publicKey = octetsOfBase64(log.log_key);
  let entry, beside, leaf, note;
  const all = [
    ["The entry is read from the octets that are proven", () => {
      entry = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(octets));
      if (entry === null || typeof entry !== "object" || Array.isArray(entry)) throw new Error("it is no entry");
      beside = evidence.withheld ? JSON.parse(evidence.withheld) : {};
      return `${octets.length} octets`;
    }],
    ["What is kept beside it is what it commits to", async () => {
      await requireCommitted(entry, beside);
      const missing = Object.keys(entry.commitments ?? {}).filter((name) => !Object.hasOwn(beside, name));
      return `${Object.keys(beside).length} values` + (missing.length ? `; not kept: ${missing.join(", ")}` : "");
    }],
    ["Its leaf hash", async () => {
      leaf = await leafHash(octets);
      return hexOf(leaf);
    }],
    ["The checkpoint is of this log and signed by its key", async () => {
      note = readNote(evidence.checkpoint);
      await requireSigned(note, log.origin, publicKey);
      return `${note.size} entries, SHA-256 of the key ${hexOf(await sha256(publicKey))}`;
    }],
    ["It extends the checkpoint that was kept", async () => {
      const kept = readNote(log.kept);
      await requireSigned(kept, log.origin, publicKey);
      await requireExtended(kept, note, evidence.consistency.map(octetsOfHex));
      return `${kept.size} entries then, ${note.size} now`;
    }],
  ];
  for (const [what, look] of all) if (!(await step(what, look))) return { verdict: "fails", steps, entry, beside };
  if (evidence.hashes === null && evidence.leaf_index >= note.size) return { verdict: "open", steps, entry, beside };
  const led = await step(`Entry ${evidence.leaf_index} is in the tree the checkpoint signs`, async () => {
    const path = (evidence.hashes ?? []).map(octetsOfHex);
    const root = await rootOf(leaf, evidence.leaf_index, note.size, path);
    if (root === null) throw new Error("the proof does not fit a tree of this size");
    if (!same(root, note.root)) throw new Error(`the proof leads to another root, ${hexOf(root)}`);
    return `${path.length} hashes lead to its root ${hexOf(root)}`;
  });
  return { verdict: led ? "holds" : "fails", steps, entry, beside };
}
