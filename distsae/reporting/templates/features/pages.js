/* Shows the features of one SAE, from files that script tags can read where `fetch` may not: the page works from a
   disk. `data/index.js` has a line about each feature, `data/shard-000000.js` everything about 64 of them, and only the
   shard of the shown feature is read. All text gets into the page as text, never as markup. */
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const KEPT_SHARDS = 12;
  const shards = new Map();  // number -> content, the last used ones
  const waiting = new Map(); // number -> functions to call with it
  let index = null;          // of data/index.js
  let order = [];            // features in the list
  let shown = null;          // feature on the page, null for the overview
  let names = [];            // lower-case text that is searched
  let explanations = {};     // of data/explanations.js: feature -> [words, detection, fuzzing]

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "class") made.className = value;
      else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  };
  const drawn = (name, attributes, ...children) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const number = (value, digits = 3) =>
    value === 0 ? "0" : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(1)
      : String(Number(value.toPrecision(digits)));
  const grouped = (value) => value.toLocaleString("en-US");
  const share = (count) => {
    if (!count) return "dead";
    const part = 100 * count / index.rows;
    return part >= 10 ? `${part.toFixed(0)}%` : part >= 0.01 ? `${part.toPrecision(2)}%` : `${grouped(count)}×`;
  };
  const visible = (text) => text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/\r/g, "␍");
  const named = (text) => visible(text.trim() === "" ? text.replace(/ /g, "␣") : text.trim()) || "∅";

  /* The list */

  const rowHeight = () => (matchMedia("(max-width: 800px)").matches ? 40 : 28);

  const compare = {
    density: (a, b) => index.count[b] - index.count[a] || a - b,
    rarest: (a, b) => index.count[a] - index.count[b] || a - b,
    largest: (a, b) => index.largest[b] - index.largest[a] || a - b,
    name: (a, b) => (names[a] < names[b] ? -1 : names[a] > names[b] ? 1 : a - b),
    number: (a, b) => a - b,
  };

  const search = () => {
    const words = $("query").value.trim().toLowerCase();
    const withDead = $("dead").checked;
    const exact = /^#?\d+$/.test(words) ? Number(words.replace("#", "")) : null;
    order = [];
    for (let f = 0; f < index.count.length; f++) {
      if (f === exact) continue;
      if (!withDead && !index.count[f]) continue;
      if (words && !names[f].includes(words)) continue;
      order.push(f);
    }
    order.sort(compare[$("sort").value]);
    if (exact !== null && exact < index.count.length) order.unshift(exact);
    const all = index.count.length;
    $("found").textContent = order.length === all ? `${grouped(all)} features`
      : `${grouped(order.length)} of ${grouped(all)} features`;
    $("rows").style.height = `${order.length * rowHeight()}px`;
    $("list").scrollTop = 0;
    listed();
    mark(false);
  };

  const listed = () => {
    const height = rowHeight(), list = $("list");
    const first = Math.max(Math.floor(list.scrollTop / height) - 5, 0);
    const last = Math.min(Math.ceil((list.scrollTop + list.clientHeight) / height) + 5, order.length);
    const made = [];
    for (let place = first; place < last; place++) {
      const f = order[place];
      const label = element("span", { class: "label" });
      if (explanations[f]) label.append(explanations[f][0]);
      else index.label[f].forEach((text, n) => label.append(...(n ? [element("i", {}, "·")] : []), named(text)));
      const row = element("a", {
        class: "row", href: `#${f}`, id: `row-${f}`, role: "option", tabindex: "-1", "aria-posinset": place + 1,
        "aria-setsize": order.length, "aria-selected": String(f === shown),
      }, element("span", { class: "number" }, String(f)), label, element("span", { class: "share" }, share(index.count[f])));
      row.style.top = `${place * height}px`;
      made.push(row);
    }
    $("rows").replaceChildren(...made);
  };

  /* Shows which row is that of the shown feature, and scrolls to it if asked. */
  const mark = (scroll) => {
    const place = shown === null ? -1 : order.indexOf(shown), list = $("list"), height = rowHeight();
    if (scroll && place >= 0) {
      const top = place * height;
      if (top < list.scrollTop) list.scrollTop = top;
      if (top + height > list.scrollTop + list.clientHeight) list.scrollTop = top + height - list.clientHeight;
    }
    listed();
    if (place >= 0) list.setAttribute("aria-activedescendant", `row-${shown}`);
    else list.removeAttribute("aria-activedescendant");
  };

  const walk = (step) => {
    if (!order.length) return;
    const place = shown === null ? -1 : order.indexOf(shown);
    const next = place < 0 ? (step > 0 ? 0 : order.length - 1) : Math.min(Math.max(place + step, 0), order.length - 1);
    location.hash = `#${order[next]}`;
  };

  /* Reading */

  const read = (shard, then) => {
    if (shards.has(shard)) {
      const content = shards.get(shard);
      shards.delete(shard);
      shards.set(shard, content);
      then(content);
      return;
    }
    if (waiting.has(shard)) { waiting.get(shard).push(then); return; }
    waiting.set(shard, [then]);
    const name = `data/shard-${String(shard).padStart(6, "0")}.js`;
    const script = element("script", { src: name, charset: "utf-8" });
    script.addEventListener("load", () => script.remove());
    script.addEventListener("error", () => {
      script.remove();
      waiting.delete(shard);
      $("feature").replaceChildren(element("p", { class: "note", role: "alert" },
        `${name} cannot be read. Make the pages again, or copy the whole folder.`));
    });
    document.head.append(script);
  };

  window.distsaeShard = (shard, content) => {
    shards.set(shard, content);
    if (shards.size > KEPT_SHARDS) shards.delete(shards.keys().next().value);
    const then = waiting.get(shard) || [];
    waiting.delete(shard);
    then.forEach((call) => call(content));
  };

  window.distsaeExplanations = (content) => { explanations = content; }; // it is read before the index

  window.distsaeIndex = (content) => {
    index = content;
    names = index.label.map((label, f) => [...(explanations[f] || []).slice(0, 1), label.map((text) => text.trim()).join(" "),
      index.text[f]].join("\n").toLowerCase());
    search();
    follow();
  };

  /* The page of a feature */

  const bars = (heights, label, ticks, titles) => {
    const width = 250, height = 192, bottom = 172, highest = Math.max(...heights, 1), each = width / heights.length;
    const parts = [drawn("title", {}, label)];
    heights.forEach((count, n) => {
      const tall = count ? Math.max(bottom * count / highest, 1.5) : 0;
      parts.push(drawn("rect", { x: n * each + 0.5, y: bottom - tall, width: Math.max(each - 1, 0.6), height: tall },
        drawn("title", {}, titles[n])));
    });
    parts.push(drawn("line", { x1: 0, x2: width, y1: bottom + 0.5, y2: bottom + 0.5 }));
    for (const [place, text] of ticks) {
      const anchor = place < 0.08 ? "start" : place > 0.92 ? "end" : "middle";
      parts.push(drawn("text", { x: place * width, y: height - 4, "text-anchor": anchor }, text));
    }
    return drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...parts);
  };

  const edge = (bin) => 2 ** (bin / index.per_octave - index.octaves);

  const histogram = (flat) => {
    const first = flat[0], last = flat[flat.length - 2];
    const heights = new Array(last - first + 1).fill(0);
    for (let n = 0; n < flat.length; n += 2) heights[flat[n] - first] = flat[n + 1];
    const titles = heights.map((count, n) =>
      `${number(edge(first + n - 1))} to ${number(edge(first + n))}: ${grouped(count)} tokens`);
    const middle = (first - 1 + last) / 2;
    return bars(heights, "Histogram of activations: the scale is one of ratios", [
      [0, number(edge(first - 1))], [0.5, number(edge(middle))], [1, number(edge(last))],
    ], titles);
  };

  const token = (text) => element("span", { class: "token" }, visible(text).replace(/ /g, "␣"));

  const effects = (title, flat, words, kind) => element("table", {}, element("caption", {}, title),
    element("tbody", {}, ...chunks(flat, 2).map(([word, value]) => element("tr", {}, element("td", {}, token(words[word])),
      element("td", { class: kind }, number(value, 2))))));

  const chunks = (flat, size) => {
    const parts = [];
    for (let n = 0; n < flat.length; n += size) parts.push(flat.slice(n, n + size));
    return parts;
  };

  const link = (f) => {
    const label = explanations[f] ? explanations[f][0] : (index.label[f] || []).map(named).join(" · ");
    return element("a", { href: `#${f}`, title: label }, String(f), label ? element("span", { class: "sr" }, " ") : "",
      label ? ` ${label}` : " dead");
  };

  const neighbours = (caption, rows, head) => element("table", {}, element("caption", {}, caption),
    element("tbody", {}, ...rows.map(([f, value]) => element("tr", {}, element("td", {}, link(f)), element("td", {}, value)))),
    ...head);

  const contextOf = (context, words, largest) => {
    const [, document_, first, peak, tokens, sparse] = context;
    const acts = new Map(chunks(sparse, 2));
    const text = element("div", { class: "text", dir: "auto" });
    tokens.forEach((word, n) => {
      const written = (part) => part.split(/(\n)/).map((piece) =>
        piece === "\n" ? element("span", { class: "break" }, "↵") : piece);
      const act = acts.get(n);
      if (act === undefined) { text.append(...written(words[word])); return; }
      const spaces = /^ +(?=[^ ])/.exec(words[word]); // they stay outside, so that no colour is left at the end of a line
      if (spaces) text.append(spaces[0]);
      const content = written(spaces ? words[word].slice(spaces[0].length) : words[word]);
      const strength = act / largest;
      const made = element("mark", { class: [n === peak ? "peak" : "", strength > 0.5 ? "hot" : ""].join(" ").trim() },
        ...content);
      made.style.setProperty("--a", String(0.12 + 0.83 * strength));
      made.dataset.token = words[word];
      made.dataset.act = number(act, 4);
      made.dataset.position = String(first + n);
      text.append(made);
    });
    const top = acts.get(peak);
    return element("li", {}, element("div", { class: "act", title: `context ${context[0]}, document ${document_}` },
      element("span", { class: "sr" }, "activation "), number(top, 4)), text);
  };

  const contexts = (title, note, list, words, largest) => list.length ? [
    element("h3", {}, title, element("small", {}, note)),
    element("ol", { class: "contexts" }, ...list.map((context) => contextOf(context, words, largest))),
  ] : [];

  const fact = (name, value) => element("div", {}, element("dt", {}, name), element("dd", {}, value));

  const page = (f, content) => {
    const one = content.f[f - content.first], words = content.v, cards = [];
    if (one.h.length) cards.push(element("section", { class: "card histogram" },
      element("h3", {}, "Activations", element("small", {}, "tokens")), histogram(one.h)));
    if (one.p.length) cards.push(element("section", { class: "card logits" },
      element("h3", {}, "Direct effect on the logits"), element("div", { class: "pair" },
        effects("promotes", one.p, words, "up"), effects("suppresses", one.q, words, "down"))));
    if (one.n.length || one.r.length) {
      const together = one.r.length ? neighbours("fire together (corr.)",
        chunks(one.r, 3).map(([g, value]) => [g, number(value, 2)]), []) : "";
      cards.push(element("section", { class: "card related" }, element("h3", {}, "Related features", element("small", {}, "by decoder, by firing")), element("div", { class: "pair" },
        neighbours("nearest (cosine)", chunks(one.n, 2).map(([g, value]) => [g, number(value, 2)]), []), together)));
    }
    const label = index.label[f].map(named).join(" · ");
    const [words_, ...scores] = explanations[f] || [];
    const score = (value) => (value === null ? "no score" : number(value, 2));
    $("feature").replaceChildren(
      element("div", { class: "head" }, element("h2", {}, `Feature ${f}`), element("span", { class: "label" }, label),
        element("div", { class: "walk" },
          element("button", { type: "button", title: "Feature before (k)", onclick: () => walk(-1) }, "‹ Before"),
          element("button", { type: "button", title: "Next feature (j)", onclick: () => walk(1) }, "Next ›"))),
      element("dl", { class: "facts" },
        fact("fires on", one.c ? `${grouped(one.c)} of ${grouped(index.rows)} tokens` : "no token"),
        ...(one.c ? [fact("one in", `${grouped(Math.round(index.rows / one.c))}`), fact("mean", number(one.m)),
          fact("largest", number(one.x))] : [])),
      ...(words_ ? [element("p", { class: "explanation" }, words_, element("small", { title: "balanced accuracy" },
        ` detection ${score(scores[0])}, fuzzing ${score(scores[1])}`))] : []),
      ...(cards.length ? [element("div", { class: "cards" }, ...cards)] : []),
      ...contexts("Top contexts", "the largest activation of each context", one.t, words, one.x),
      ...contexts("Sampled contexts", "from all over the range of its activations", one.s, words, one.x),
      ...(one.c ? [] : [element("p", { class: "note" }, "It fires on no token of this text, so there is nothing to read.")]),
    );
    $("feature").scrollTop = 0;
  };

  const overview = () => {
    const alive = index.count.filter((count) => count).length, all = index.count.length;
    const logs = index.count.filter((count) => count).map((count) => Math.log10(count / index.rows));
    const low = Math.floor(logs.reduce((a, b) => Math.min(a, b), 0));
    const heights = new Array(Math.max(-low, 1) * 8).fill(0);
    logs.forEach((value) => { heights[Math.min(Math.floor((value - low) * 8), heights.length - 1)] += 1; });
    const ticks = [];
    for (let power = low; power <= 0; power++) ticks.push([(power - low) / Math.max(-low, 1), power ? `1e${power}` : "1"]);
    const titles = heights.map((count, n) => `${number(10 ** (low + n / 8), 2)} to ${number(10 ** (low + (n + 1) / 8), 2)}: ${grouped(count)} features`);
    $("feature").replaceChildren(
      element("div", { class: "head" }, element("h2", {}, "All features")),
      element("dl", { class: "facts" }, fact("features", grouped(all)), fact("that fire", grouped(alive)),
        fact("dead", grouped(all - alive)), fact("tokens read", grouped(index.rows)),
        fact("features per token", number(index.count.reduce((a, b) => a + b, 0) / Math.max(index.rows, 1)))),
      element("div", { class: "cards" }, element("section", { class: "card histogram" },
        element("h3", {}, "Densities", element("small", {}, "features by share of tokens")),
        bars(heights, "Histogram of densities", ticks, titles))),
      element("p", { class: "note" }, `Text: ${index.contexts} contexts of the ${index.split} split of ${index.corpus}. `
        + "Choose a feature in the list, or press j for the first one; / searches by number, token or text."),
    );
  };

  const follow = () => {
    const wanted = /^#(\d+)$/.exec(location.hash);
    document.body.classList.remove("listing");
    $("open-list").setAttribute("aria-expanded", "false");
    const f = wanted ? Number(wanted[1]) : null;
    if (f === null || f >= index.count.length) {
      shown = null;
      document.title = `${index.name} · features`;
      overview();
      mark(false);
      return;
    }
    shown = f;
    document.title = `Feature ${f} · ${index.name}`;
    mark(true);
    read(Math.floor(f / index.shard), (content) => { if (shown === f) page(f, content); });
  };

  /* What the reader does */

  const theme = (next) => {
    if (next) document.documentElement.dataset.theme = next;
    try {
      if (next) localStorage.setItem("distsae-theme", next);
      else if (["light", "dark"].includes(localStorage.getItem("distsae-theme"))) {
        document.documentElement.dataset.theme = localStorage.getItem("distsae-theme");
      }
    } catch { /* some browsers give a page from a disk no storage */ }
  };
  const otherTheme = () => {
    const now = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    theme(now === "dark" ? "light" : "dark");
  };
  const help = (open) => {
    $("keys").hidden = !open;
    $("help").setAttribute("aria-expanded", String(open));
  };
  const listing = () => {
    const open = document.body.classList.toggle("listing");
    $("open-list").setAttribute("aria-expanded", String(open));
    if (open) { listed(); mark(true); }
  };
  const tip = (target, x, y) => {
    const made = target && target.closest ? target.closest("mark") : null, box = $("tip");
    box.hidden = !made;
    if (!made) return;
    box.replaceChildren(element("b", {}, visible(made.dataset.token).replace(/ /g, "␣")), ` ${made.dataset.act}`,
      ` · position ${made.dataset.position}`);
    box.style.left = `${Math.max(Math.min(x + 10, innerWidth - box.offsetWidth - 8), 4)}px`;
    box.style.top = `${y + 18 + box.offsetHeight > innerHeight ? y - box.offsetHeight - 10 : y + 16}px`;
  };

  theme(null);
  let timer = 0;
  $("query").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 60); });
  $("find").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    search();
    if (order.length) { location.hash = `#${order[0]}`; $("query").blur(); }
  });
  $("sort").addEventListener("change", search);
  $("dead").addEventListener("change", search);
  $("list").addEventListener("scroll", () => requestAnimationFrame(listed), { passive: true });
  $("theme").addEventListener("click", otherTheme);
  $("help").addEventListener("click", () => help($("keys").hidden));
  $("open-list").addEventListener("click", listing);
  $("choose").addEventListener("click", listing);
  $("before").addEventListener("click", () => walk(-1));
  $("after").addEventListener("click", () => walk(1));
  for (const kind of ["mouseover", "click"]) {
    $("feature").addEventListener(kind, (event) => tip(event.target, event.clientX, event.clientY));
  }
  $("feature").addEventListener("mouseleave", () => tip(null, 0, 0));
  $("feature").addEventListener("scroll", () => tip(null, 0, 0), { passive: true });
  addEventListener("hashchange", () => { if (index) follow(); });
  addEventListener("resize", () => {
    if (!index) return;
    $("rows").style.height = `${order.length * rowHeight()}px`;
    mark(true);
  });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !index) return;
    if (event.key === "Escape") {
      if (!$("keys").hidden) help(false);
      else if (document.body.classList.contains("listing")) listing();
      else if (document.activeElement === $("query")) {
        if ($("query").value) { $("query").value = ""; search(); mark(true); } else $("query").blur();
      }
      return;
    }
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement.tagName);
    if (typing) return;
    const inFeature = $("feature").contains(document.activeElement);
    const step = { j: 1, k: -1, ...(inFeature ? {} : { ArrowDown: 1, ArrowUp: -1 }) }[event.key];
    if (step) { event.preventDefault(); walk(step); }
    if (event.key === "/") { event.preventDefault(); if (matchMedia("(max-width: 800px)").matches && !document.body.classList.contains("listing")) listing(); $("query").focus(); $("query").select(); }
    if (event.key === "?") help($("keys").hidden);
    if (event.key === "t") otherTheme();
  });
})();
