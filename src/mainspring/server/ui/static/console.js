// Keeps an open page as new as the ledger: on a new fact the same address is fetched again, and
// the parts marked data-live are swapped where they differ. Without this file pages just stand.
"use strict";

(() => {
  const body = document.body;
  const line = document.getElementById("line");
  const stream = body.dataset.stream;
  if (!stream || !line) return;

  const said = line.querySelector(".said");
  const project = said.textContent.trim();
  let seq = Number(body.dataset.seq);
  let source = null;
  let waiting = null;
  let due = 0;
  let took = 0;
  let fetching = false;
  let again = false;

  const tell = (state, text) => {
    const shown = project ? `${project} · ${text}` : text;
    line.className = `line ${state}`;
    if (said.textContent !== shown) said.textContent = shown;
  };

  const busy = (part) => {
    const held = document.activeElement;
    const typed = [...part.querySelectorAll("textarea")].some((one) => one.value !== "");
    return typed || (held && part.contains(held) && /^(INPUT|TEXTAREA|SELECT)$/.test(held.tagName));
  };

  const swap = (part, fresh) => {
    if (part.outerHTML === fresh.outerHTML || busy(part)) return;
    const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
    const known = new Set([...part.querySelectorAll("[id^=f]")].map((one) => one.id));
    const held = part.contains(document.activeElement) ? document.activeElement : null;
    const link = held && held.getAttribute("href");
    const log = part.querySelector(".log");
    const bottom = log && log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    for (const id of open) {
      const one = fresh.querySelector(`#${CSS.escape(id)}`);
      if (one) one.open = true;
    }
    if (known.size) {
      for (const one of fresh.querySelectorAll("[id^=f]")) {
        if (!known.has(one.id)) one.classList.add("fresh");
      }
    }
    const placed = document.adoptNode(fresh);
    part.replaceWith(placed);
    if (link) {
      const same = [...placed.querySelectorAll("a")].find((one) => one.getAttribute("href") === link);
      if (same) same.focus({ preventScroll: true });
    }
    const newer = placed.querySelector(".log");
    if (newer && bottom) newer.scrollTop = newer.scrollHeight;
  };

  const plan = () => {
    const soon = [...document.querySelectorAll("[data-again]")].map((one) => Number(one.dataset.again));
    if (soon.length) refresh(Math.min(...soon));
  };

  const read = async () => {
    if (fetching) { again = true; return; }
    fetching = true;
    const began = performance.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      seq = Math.max(seq, Number(fresh.body.dataset.seq) || 0);
      for (const part of document.querySelectorAll("[data-live]")) {
        const found = fresh.getElementById(part.id);
        if (found) swap(part, found);
      }
    } catch {
      if (source && source.readyState === EventSource.OPEN) again = true;
    } finally {
      fetching = false;
      took = performance.now() - began;
    }
    if (again) { again = false; refresh(800); } else plan();
  };

  // The first of several calls counts, else a steady stream of facts would put it off for ever.
  const refresh = (after) => {
    const at = performance.now() + after;
    if (waiting !== null && due <= at) return;
    clearTimeout(waiting);
    due = at;
    waiting = setTimeout(() => { waiting = null; read(); }, after);
  };

  let lost = false;
  const listen = () => {
    if (source) source.close();
    source = new EventSource(`${stream}?after=${seq}`);
    source.onopen = () => {
      tell("live", "live");
      // Whatever was missed while the line was down is read at once.
      if (lost) refresh(0);
      lost = false;
    };
    const heard = (event) => {
      const number = Number(event.lastEventId);
      if (number > seq) seq = number;
      // A page that is dear to make is asked for less often.
      refresh(Math.max(250, 3 * took));
    };
    for (const name of body.dataset.heard.split(" ")) source.addEventListener(name, heard);
    source.onerror = () => {
      lost = true;
      tell("lost", "connection lost, trying again");
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
    };
  };

  // A browser keeps few connections to one host: a page nobody looks at gives its own back.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      if (source) source.close();
      source = null;
      tell("", "paused");
    } else if (!source) {
      refresh(0);
      listen();
    }
  });

  listen();
  plan();
})();
