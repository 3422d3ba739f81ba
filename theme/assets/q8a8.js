// What the pages do by themselves: formulas, commands copied without their prompt, names that break at their
// joints, long tables that can be sorted and filtered. No library but MathJax, which lies beside this file.
"use strict";

const HERE = document.currentScript.src;
const WORDS = {
  en: { filter: "Filter the rows", of: (shown, all) => `${shown} of ${all} rows` },
  ko: { filter: "행 거르기", of: (shown, all) => `${all}행 중 ${shown}행` },
}[document.documentElement.lang] || {};
const LONG_TABLE = 12; // rows; a shorter table is read at a glance
const LONG_NAME = 16; // characters; a shorter name fits every column

// Formulas: pymdownx.arithmatex marks them, MathJax draws them as SVG.
function formulas() {
  if (!document.querySelector(".arithmatex")) return;
  window.MathJax = {
    tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] },
    options: { ignoreHtmlClass: ".*", processHtmlClass: "arithmatex", enableMenu: false },
  };
  const script = document.createElement("script");
  script.src = new URL("mathjax/tex-svg.js", HERE);
  document.head.append(script);
}

// In a block with prompts, the commands alone are copied: lines after `$ `, and what `\` continues.
function prompts() {
  for (const code of document.querySelectorAll("pre > code")) {
    const lines = code.textContent.split("\n");
    if (!lines.some((line) => line.startsWith("$ "))) continue;
    const commands = [];
    let continued = false;
    for (const line of lines) {
      if (continued || line.startsWith("$ ")) commands.push(line.replace(/^\$ /, ""));
      continued = (continued || line.startsWith("$ ")) && line.endsWith("\\");
    }
    code.dataset.copy = commands.join("\n");
  }
}

// A long name may break after its joints, nowhere else.
function joints() {
  const places = ".md-content :not(pre) > code, .md-content h1, .md-content h2, .md-content h3";
  for (const element of document.querySelectorAll(places)) {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    for (const text of texts) {
      if (!text.data.split(/\s/).some((word) => word.length >= LONG_NAME)) continue;
      const parts = text.data.split(/(?<=[_./=:,])(?=\w)/);
      text.replaceWith(...parts.flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part])));
    }
  }
}

const compare = new Intl.Collator(document.documentElement.lang, { numeric: true }).compare;

function numeric(text) {
  const number = text.replace(/[\s,%×+]/g, "").replace("−", "-");
  return number !== "" && !Number.isNaN(Number(number)) ? Number(number) : null;
}

function sort(table, column, header) {
  const falling = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].map((row) => [row.cells[column].textContent.trim(), row]);
  const order = ([a], [b]) => {
    const [x, y] = [numeric(a), numeric(b)];
    return x !== null && y !== null ? x - y : compare(a, b);
  };
  rows.sort((a, b) => (falling ? order(b, a) : order(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function filter(table) {
  const rows = [...table.tBodies[0].rows];
  const bar = document.createElement("div");
  bar.className = "rows";
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = WORDS.filter;
  input.setAttribute("aria-label", WORDS.filter);
  const count = document.createElement("output");
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    count.textContent = WORDS.of(rows.filter((row) => !row.hidden).length, rows.length);
  };
  input.addEventListener("input", apply);
  bar.append(input, count);
  (table.closest(".md-typeset__scrollwrap") || table).before(bar);
  apply();
}

function tables() {
  for (const table of document.querySelectorAll(".md-content table:not(.highlighttable)")) {
    if (!table.tHead || !table.tBodies.length || table.tBodies[0].rows.length <= LONG_TABLE) continue;
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const button = document.createElement("button");
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, column, header));
      header.append(button);
    });
    filter(table);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  formulas();
  prompts();
  joints();
  tables();
});
