// Is the page dark or light? As the system is, until somebody switches; the switch is remembered in this browser alone.
const KEY = "sizewise-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function kept() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function apply() {
  document.documentElement.dataset.theme = kept() ?? (dark.matches ? "dark" : "light");
}

/** Follows the system and what was chosen before. */
export function followTheme() {
  apply();
  dark.addEventListener("change", apply);
}

/** The other one. */
export function switchTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // Nothing can be remembered: it is switched for this view.
  }
  document.documentElement.dataset.theme = next;
}
