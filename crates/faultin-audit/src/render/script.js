// Opens the square that the address names, and names the square that is open.
const named = () => document.getElementById(decodeURIComponent(location.hash.slice(1)));
const open = () => { const square = named(); if (square?.matches?.('[popover]:not(:popover-open)')) square.showPopover(); };
for (const square of document.querySelectorAll('[popover]')) {
  square.addEventListener('toggle', (event) => {
    const address = location.pathname + location.search;
    if (event.newState === 'open') history.replaceState(null, '', address + '#' + square.id);
    else if (named() === square) history.replaceState(null, '', address);
  });
}
addEventListener('hashchange', open);
open();

// Arrow keys go from square to square.
const rows = [...document.querySelectorAll('.heat tr')].map((row) => [...row.querySelectorAll('.square')]).filter((row) => row.length);
document.querySelector('.heat').addEventListener('keydown', (event) => {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const row = rows.findIndex((row) => row.includes(event.target));
  if (!step || row < 0) return;
  const next = rows[row + step[0]]?.[rows[row].indexOf(event.target) + step[1]];
  if (next) { next.focus(); event.preventDefault(); }
});
