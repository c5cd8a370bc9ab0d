/** Looking for tokens in a vocabulary. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post, wellFormed } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Field, Select, Toggle, Wide } from "../../common/ui.js";
import { encodings, fromHex, readable, titleOf } from "./state.js";

/**
 * @typedef {{id: number, bytes: string, control: boolean, parts: {id: number, bytes: string}[] | null}} Entry bytes: hexadecimal
 */

const PAUSE = 120; // milliseconds without a key before the server is asked
const SHOWN = 50;

/** @type {import("@preact/signals").Signal<string>} */
const encoding = urlState("in", "run");
/** @type {import("@preact/signals").Signal<string>} */
const query = urlState("find", "berry");
/** @type {import("@preact/signals").Signal<string>} */
const by = urlState("by", "text");
/** @type {import("@preact/signals").Signal<boolean>} */
const ignoreCase = urlState("case", false);
const limit = signal(SHOWN);
/** @type {import("@preact/signals").Signal<{total: number, tokens: Entry[]} | null>} */
const found = signal(null);

export function Vocabulary() {
  const failure = useAnswer(found, async (signal) => {
    const isId = by.value === "id";
    return post("/app/tokens/search", {
      encoding: encoding.value, query: isId ? query.value.trim() || "0" : wellFormed(query.value), by: isId ? "id" : "text",
      ignore_case: ignoreCase.value, limit: limit.value,
    }, { signal });
  }, [encoding.value, query.value, by.value, ignoreCase.value, limit.value], PAUSE);
  const fewer = () => (limit.value = SHOWN);
  const options = encodings.value.map(({ name }) => ({ value: name, label: titleOf(name) }));
  const kinds = [{ value: "text", label: "tokens that contain" }, { value: "id", label: "tokens from the id" }];
  return html`
    <p>All tokens that an encoding knows. Each is a single byte, two earlier tokens merged, or a control token that no text becomes.</p>
    <div class="controls">
      <${Select} label="Encoding" value=${encoding} options=${options} onChange=${fewer} />
      <${Select} label="Find" value=${by} options=${kinds} onChange=${fewer} />
      <${Field} label=${by.value === "id" ? "Id" : "Text, with its spaces"}>${(/** @type {string} */ id) => html`
        <input id=${id} type="search" class="mono" maxlength="200" spellcheck=${false} value=${query.value}
          onInput=${(/** @type {any} */ event) => {
            query.value = event.currentTarget.value;
            fewer();
          }} />`}<//>
      ${by.value !== "id" && html`<${Toggle} label="ignore case" value=${ignoreCase} />`}
    </div>
    <${ErrorNote} error=${failure} />
    ${found.value ? html`<${Results} ...${found.value} />` : !failure && html`<${Busy} />`}`;
}

/** @param {{total: number, tokens: Entry[]}} props */
function Results({ total, tokens }) {
  const size = total.toLocaleString("en");
  return html`<p role="status">${by.value === "id" ? `${size} tokens in all` : `${size} ${total === 1 ? "token" : "tokens"}`}</p>
    <${Wide} label="tokens"><table>
      <thead><tr><th class="number">id</th><th>token</th><th>bytes</th><th>how it was made</th></tr></thead>
      <tbody>${tokens.map((entry) => html`<tr key=${entry.id}>
        <td class="number">${entry.id}</td><td><${Shown} ...${entry} /></td>
        <td><code>${entry.bytes.replace(/..(?=.)/g, "$& ")}</code></td><td><${Made} ...${entry} /></td></tr>`)}</tbody>
    </table><//>
    ${by.value !== "id" && total > tokens.length && limit.value < 200
      && html`<p><${Button} onClick=${() => (limit.value = 200)}>Show up to 200<//></p>`}
    ${by.value !== "id" && total > 200 && limit.value === 200 && html`<p class="hint">The first 200; ask for more letters.</p>`}`;
}

/** @param {{bytes: string, control?: boolean}} props */
function Shown({ bytes, control = false }) {
  return html`<span class=${control ? "token-control" : "token-text"}>${readable(fromHex(bytes))}</span>`;
}

/** @param {Entry} props */
function Made({ bytes, control, parts }) {
  if (control) return "a control token";
  if (parts) return html`<${Part} ...${parts[0]} /> + <${Part} ...${parts[1]} />`;
  return bytes.length === 2 ? "a single byte" : "a whole piece, to which no merges lead";
}

/** A link to the part itself. @param {{id: number, bytes: string}} props */
function Part({ id, bytes }) {
  const go = () => {
    by.value = "id";
    query.value = String(id);
  };
  return html`<button type="button" class="part" title="look at this token" onClick=${go}><${Shown} bytes=${bytes} /> <small>${id}</small></button>`;
}
