// The few things that every panel does with the page.

/** The element with that id. */
export const $ = (id) => document.getElementById(id);

/** An element with these attributes and children; text becomes text, never markup. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** What stands in a field, one thing a line, without empty ones. */
export const lines = (id) => $(id).value.split("\n").map((line) => line.trim()).filter(Boolean);

/** A short word to the user where something was done, or went wrong. */
export function say(id, text, kind = "") {
  $(id).className = kind;
  $(id).textContent = text;
}

/** Copy a text; the button that was pressed says so for a moment. */
export async function copy(text, button) {
  const label = (button.dataset.label ??= button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "The browser does not allow it";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

/** Tabs as the ARIA Authoring Practices have them: arrows, Home and End move, and the panel follows. */
export function tabs(list) {
  const all = [...list.querySelectorAll('[role="tab"]')];
  const show = (tab) => {
    for (const each of all) {
      const chosen = each === tab;
      each.setAttribute("aria-selected", chosen);
      each.tabIndex = chosen ? 0 : -1;
      $(each.getAttribute("aria-controls")).hidden = !chosen;
    }
  };
  list.addEventListener("click", (event) => event.target.role === "tab" && show(event.target));
  list.addEventListener("keydown", (event) => {
    const at = all.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const tab = all[(to + all.length) % all.length];
    tab.focus();
    show(tab);
  });
}
