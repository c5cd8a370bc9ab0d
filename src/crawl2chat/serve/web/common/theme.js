/** The theme as scripts need it that paint on a canvas, where style sheets have no say. */

import { signal } from "@preact/signals";

const system = matchMedia("(prefers-color-scheme: dark)");
/** Whether colours are the dark theme's. */
export const dark = signal(isDark());
const look = () => (dark.value = isDark());
system.addEventListener("change", look);
new MutationObserver(look).observe(document.documentElement, { attributeFilter: ["data-theme"] });

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme === "dark" || (theme !== "light" && system.matches);
}

/**
 * A colour of the style sheet, such as `--main`, as a canvas takes it.
 * @param {string} name
 * @returns {string}
 */
export function cssColour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
