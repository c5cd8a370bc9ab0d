/** The frame around all pages: navigation, theme, and the page that the address names. */

import { html, render } from "htm/preact";
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { about, loadAbout } from "./common/about.js";
import { keyWanted, setKey } from "./common/api.js";
import { LectureBar } from "./common/lecture.js";
import { readAddress, showState, tooLong } from "./common/state.js";
import { Button, ErrorNote } from "./common/ui.js";

/** @type {{path: string, name: string, title: string, says: string}[]} */
export const PAGES = [
  { path: "/lecture", name: "lecture", title: "Lecture", says: "the way from crawl to chat, one demonstration after the other" },
  { path: "/data", name: "data", title: "Data", says: "which pages were kept, which were dropped, and why" },
  { path: "/tokens", name: "tokens", title: "Tokens", says: "how text is cut into what a model reads" },
  { path: "/training", name: "training", title: "Training", says: "loss, rewards and speed of every stage, also while it runs" },
  { path: "/base", name: "base", title: "Base", says: "what a base model compresses, recites and knows, and how it learns from its prompt" },
  { path: "/sampling", name: "sampling", title: "Sampling", says: "which token comes next, and how it is drawn" },
  { path: "/inside", name: "inside", title: "Inside", says: "every number on the way through the network" },
  { path: "/chat", name: "chat", title: "Chat", says: "talk to every stage of the run" },
  { path: "/honesty", name: "honesty", title: "Honesty", says: "what a model knows, and whether it says when it does not" },
  { path: "/thinking", name: "thinking", title: "Thinking", says: "the same problem at once, step by step and with the calculator: what tokens buy" },
  { path: "/rollouts", name: "rollouts", title: "Rollouts", says: "what reinforcement learning drew, step by step, and how it was rewarded" },
  { path: "/ranking", name: "ranking", title: "Ranking", says: "rank answers, as people do for reward models" },
  { path: "/preferences", name: "preferences", title: "Preferences", says: "how far a reward model can be followed before it is gamed" },
  { path: "/runs", name: "runs", title: "Runs", says: "choose a recipe, change its settings, start runs and follow them" },
];
const HOME = { path: "/", name: "home", title: "Start", says: "" };

/** @type {import("@preact/signals").Signal<{Page: any, at: typeof HOME} | null>} */
const shown = signal(null);
const failure = signal(/** @type {Error | null} */ (null));
const theme = signal(localStorage.getItem("theme") ?? "auto");
const keySent = signal(false);
const large = signal(localStorage.getItem("large") === "yes");

/** Go to an address of ours, as a link does. @param {string} address */
export function go(address) {
  history.pushState(null, "", address);
  open();
}

/** @param {boolean} [back] whether the address came by the back or forward button, and so says all of the state */
async function open(back = false) {
  const at = PAGES.find((page) => page.path === location.pathname) ?? HOME;
  failure.value = null;
  try {
    addStyle(`/web/pages/${at.name}/page.css`);
    const { default: Page } = await import(`/web/pages/${at.name}/page.js`);
    if (at.path !== location.pathname && at !== HOME) return; // gone on meanwhile
    document.title = at === HOME ? "crawl2chat" : `${at.title} · crawl2chat`;
    shown.value = { Page, at };
    if (back || location.hash) readAddress();
    else showState();
    // on a phone the links are a row that scrolls
    requestAnimationFrame(() => document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" }));
  } catch (error) {
    failure.value = error instanceof Error ? error : new Error(String(error));
  }
}

/** @param {string} href */
function addStyle(href) {
  if (document.querySelector(`link[href="${href}"]`)) return;
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
}

/** Links to our pages don't load everything again. @param {MouseEvent} event */
function follow(event) {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  const ours = link && link.origin === location.origin && !link.hasAttribute("download") && link.target !== "_blank";
  if (!ours || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (!["/", ...PAGES.map((page) => page.path)].includes(link.pathname)) return;
  if (link.getAttribute("href")?.startsWith("#")) return;
  event.preventDefault();
  go(link.href);
}

function applyLook() {
  document.documentElement.dataset.theme = theme.value;
  document.documentElement.classList.toggle("large", large.value);
  localStorage.setItem("theme", theme.value);
  localStorage.setItem("large", large.value ? "yes" : "no");
}

/** @type {Record<string, string>} */
const NEXT_THEME = { auto: "dark", dark: "light", light: "auto" };

function Look() {
  const turn = () => {
    theme.value = NEXT_THEME[theme.value] ?? "auto";
    applyLook();
  };
  const resize = () => {
    large.value = !large.value;
    applyLook();
  };
  return html`<div class="look">
    <${Button} kind="quiet" onClick=${turn} label=${`colours: ${theme.value}; change`}
      title="colours: as the system, dark, light">${{ auto: "◐", dark: "●", light: "○" }[theme.value]} ${theme.value}<//>
    <${Button} kind="quiet" onClick=${resize} pressed=${large.value} title="large type, as for a projector"
      label="large type">A⁺<//>
  </div>`;
}

function KeyForm() {
  const box = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => box.current?.focus(), []);
  const send = (/** @type {Event} */ event) => {
    event.preventDefault();
    setKey(box.current?.value ?? "");
    keySent.value = true;
    start();
  };
  return html`<form class="key card" onSubmit=${send}>
    <label for="key">This server wants its key (that of --key-variable). It is kept until this tab is closed.</label>
    <input id="key" ref=${box} type="password" autocomplete="off" /> <button class="button main">Go on</button>
    <${ErrorNote} error=${keySent.value ? new Error("The server refused that key.") : null} />
  </form>`;
}

function Shell() {
  const at = shown.value?.at;
  const Page = shown.value?.Page;
  return html`
    <a class="skip" href="#main" onClick=${(/** @type {Event} */ event) => {
      event.preventDefault();
      document.getElementById("main")?.focus();
    }}>Skip to the page</a>
    <header class="top">
      <a class="brand" href="/">crawl2chat</a>
      <nav aria-label="Pages">
        ${PAGES.map((page) => html`<a key=${page.path} href=${page.path}
          aria-current=${page.path === at?.path ? "page" : undefined}>${page.title}</a>`)}
      </nav>
      <span class="run" title="the run's folder">${about.value?.name}</span>
      <${Look} />
    </header>
    ${at && at.path !== "/lecture" && html`<${LectureBar} go=${go} />`}
    <main id="main" tabindex="-1" class=${`page-${at?.name ?? "none"}`}>
      ${keyWanted.value && html`<${KeyForm} />`}
      <${ErrorNote} error=${failure.value} />
      ${tooLong.value.page === at?.path && tooLong.value.names.length > 0 && html`<p class="hint" role="status">What you entered is too long for a link: this page’s
        address does not hold it, and it is gone when the page is loaded again.</p>`}
      ${about.value && Page && html`<${Page} key=${at?.path} />`}
    </main>`;
}

async function start() {
  try {
    await loadAbout();
    failure.value = null;
  } catch (error) {
    if (!keyWanted.value) failure.value = /** @type {Error} */ (error);
  }
}

applyLook();
addEventListener("popstate", () => open(true));
addEventListener("hashchange", readAddress);
document.addEventListener("click", follow);
render(html`<${Shell} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
start();
open();
