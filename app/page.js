// What a person does becomes one event, with what was on the screen when it was done: the server does not take an
// answer for an image that it had not shown yet. Tells whether it was sent.
function act(what) {
  const shown = document.querySelector('[data-shown]');
  if (shown && shown.tagName === 'IMG' && !shown.complete) return false;
  emitEvent('act', { what, shown: shown ? shown.dataset.shown : '' });
  return true;
}
// They are kept until the next ones are known, so that they are there at once when they are shown.
let ahead = [];
function fetchAhead(urls) {
  ahead = urls.map(url => { const image = new Image(); image.src = url; return image; });
}
// Without any class there is nothing to press: the first is typed. The page may ask for it late, when one was typed
// and is not shown yet: the next key is to be a choice then, and no letter.
let isTyped = false;
function awaitFirstClass() {
  if (!isTyped && !document.querySelector('[data-act^="label:"]')) document.querySelector('.typed input').focus();
}
function cells() { return [...document.querySelectorAll('.cell')]; }
function move(key) {
  const all = cells();
  if (!all.length) return;
  const at = all.findIndex(cell => cell.hasAttribute('data-cursor'));
  const across = all.filter(cell => cell.offsetTop === all[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[key];
  const to = at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + step));
  if (at >= 0) all[at].removeAttribute('data-cursor');
  all[to].setAttribute('data-cursor', '');
  all[to].scrollIntoView({ block: 'nearest' });
}
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = event.target, key = event.key;
  if (at.closest('input, textarea')) {
    // Before the first class one is in the field already, and the key that leads there is no letter of a name.
    if (key === '/' && at.closest('.typed') && !at.value) event.preventDefault();
    // A class whose image is not there yet stays in the field, to be sent by the next Enter.
    if (key === 'Enter' && at.closest('.typed') && act('typed:' + at.value)) {
      isTyped = true;
      at.blur();
    }
    if (key === 'Escape') at.blur();
    return;
  }
  if ((key === 'Enter' || key === ' ') && at.closest('button, a')) return;
  if (key === 'Tab' || (key.length > 1 && !['Enter', 'Backspace', 'Escape'].includes(key) && !key.startsWith('Arrow'))) return;
  event.preventDefault();
  const grid = document.querySelector('.cells');
  if (grid && key.startsWith('Arrow')) return move(key);
  if (event.repeat) return;
  if (key === '/') {
    const input = document.querySelector('.typed input');
    return input && input.focus();
  }
  if (grid && key.toLowerCase() === 'x') {
    const cell = document.querySelector('.cell[data-cursor]');
    return cell && act(cell.dataset.act);
  }
  act('key:' + key);
});
document.addEventListener('click', event => {
  const at = event.target.closest('[data-act]');
  if (!at) return;
  // Enter is to take the guess next, not to press the button once more.
  if (event.detail) at.blur();
  act(at.dataset.act);
});
