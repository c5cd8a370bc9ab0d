/** A conversation as a chat model reads it: with control tokens, and with what it learns from. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post, wellFormed } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Button, Busy, ErrorNote, Toggle } from "../../common/ui.js";
import { cutOf, decode, visibleWhole } from "./state.js";

const PAUSE = 80; // milliseconds without a key before the server is asked
const ROLES = ["system", "user", "assistant", "tool"];
const NEXT = { system: "user", user: "assistant", assistant: "user", tool: "assistant" };

/* role, text, role, text … */
/** @type {import("@preact/signals").Signal<string[]>} */
const turns = urlState("chat", ["system", "Be brief.", "user", "What is 2+2?", "assistant", "It is 4."]);
/** @type {import("@preact/signals").Signal<boolean>} */
const prompt = urlState("prompt", false);
/** @type {import("@preact/signals").Signal<{cut: import("./state.js").Cut, mask: Uint8Array, control: Uint8Array} | null>} */
const seen = signal(null);

export function Conversation() {
  const failure = useAnswer(seen, async (signal) => {
    const messages = rows().map(({ role, content }) => ({ role, content: wellFormed(content) }));
    const { header, arrays } = await post("/app/tokens/chat", { messages, add_generation_prompt: prompt.value }, { signal });
    const bytes = (/** @type {string} */ name) => /** @type {Uint8Array} */ (arrays[name].data);
    return { cut: cutOf("run", header.text, arrays, 0), mask: bytes("mask"), control: bytes("control") };
  }, [turns.value, prompt.value], PAUSE);
  const all = rows();
  const add = () => {
    const last = /** @type {keyof typeof NEXT} */ (all.at(-1)?.role ?? "system");
    turns.value = [...turns.value, NEXT[last] ?? "user", ""];
  };
  return html`
    <p>A chat model reads one long text in which control tokens say who speaks. Text never becomes a control token: typed,
      it is cut like any other. In training, the model learns only from what the assistant writes; the rest it reads.</p>
    <div class="turns">${all.map((turn, i) => html`<${Turn} key=${i} i=${i} role=${turn.role} content=${turn.content} />`)}</div>
    <div class="controls"><${Button} onClick=${add} disabled=${all.length >= 64}>Add a message<//>
      <${Toggle} label="ask for an answer (the assistant’s header at the end)" value=${prompt} /></div>
    <${ErrorNote} error=${failure} />
    ${seen.value ? html`<${Rendered} ...${seen.value} />` : !failure && html`<${Busy} />`}`;
}

function rows() {
  const list = turns.value.map(String);
  return list.flatMap((role, i) => (i % 2 ? [] : [{ role: ROLES.includes(role) ? role : "user", content: list[i + 1] ?? "" }]));
}

/** @param {{i: number, role: string, content: string}} props */
function Turn({ i, role, content }) {
  /** @param {number} place @param {string} value */
  const set = (place, value) => (turns.value = turns.value.with(2 * i + place, value));
  const remove = () => (turns.value = turns.value.toSpliced(2 * i, 2));
  return html`<div class="turn">
    <select aria-label=${`role of message ${i + 1}`} value=${role}
      onChange=${(/** @type {any} */ event) => set(0, event.currentTarget.value)}>
      ${ROLES.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select>
    <textarea aria-label=${`text of message ${i + 1}`} rows="2" maxlength="20000" value=${content}
      onInput=${(/** @type {any} */ event) => set(1, event.currentTarget.value)}></textarea>
    <${Button} kind="quiet" onClick=${remove} label=${`remove message ${i + 1}`}>✕<//>
  </div>`;
}

/** @param {{cut: import("./state.js").Cut, mask: Uint8Array, control: Uint8Array}} props */
function Rendered({ cut, mask, control }) {
  const learned = mask.reduce((sum, one) => sum + one, 0);
  let token = 0;
  const drawn = Array.from(cut.groups, (last) => {
    const first = token;
    token = last;
    const text = decode(cut.bytes.subarray(first ? cut.ends[first - 1] : 0, cut.ends[last - 1]));
    const kind = control[first] ? " control" : "";
    const ids = Array.from(cut.ids.subarray(first, last)).join(" ");
    return html`<span key=${first} class=${`token colour-${first % 5}${kind}${mask[first] ? " learned" : ""}`}
      title=${`${ids}${mask[first] ? ", learned from" : ", read only"}`}>${control[first] ? text : visibleWhole(text).replaceAll("⏎", "⏎\n")}</span>`;
  });
  return html`<div class="card">
    <p><strong>${cut.ids.length.toLocaleString("en")}</strong> tokens; the loss is taken on
      <strong> ${learned.toLocaleString("en")}</strong> of them.</p>
    <p class="legend"><span class="token colour-0 control">control token</span>
      <span class="token colour-1 learned">learned from (underlined)</span> <span class="token colour-2">read only</span></p>
    <div class="tokens state" role="group" tabindex="0" aria-label="the conversation as tokens">${drawn}</div>
  </div>`;
}
