'use strict';

// Names of problems in words of people; anything else is shown by its code.
const WORDS = {
  login_refused: 'Name, password or code is wrong, or the code was used already.',
  too_many_tries: 'Too many tries.',
  audit_unavailable: 'Nobody can log in now: the audit cannot be written. Tell an administrator.',
  database_unavailable: 'The database does not answer. Try again in a moment.',
  origin_foreign: 'This page was opened under an address that the gateway does not know.',
  host_unknown: 'This page was opened under a name that the gateway does not know.',
  request: 'Give a name, and a password or a code.',
};

const form = document.getElementById('login');
const told = document.getElementById('told');
const field = (id) => document.getElementById(id);

/** Where the person wanted to go: a place on this origin, or the front page. */
function destination() {
  const next = new URLSearchParams(location.search).get('next') || '/';
  if (!/^\/(?![/\\])/.test(next)) return '/';
  try {
    const place = new URL(next, location.origin);
    return place.origin === location.origin && !place.pathname.startsWith('/login')
      ? place.pathname + place.search + place.hash
      : '/';
  } catch {
    return '/';
  }
}

function tell(text) {
  told.textContent = text;
  told.hidden = !text;
}

function words(problem, status) {
  const code = problem && typeof problem.code === 'string' ? problem.code : '';
  let text = WORDS[code] || `It did not work (${code || 'status ' + status}).`;
  if (code === 'too_many_tries' && Number.isFinite(problem.seconds)) {
    text += ` Try again in ${Math.max(1, Math.ceil(problem.seconds / 60))} min.`;
  }
  return text;
}

async function logIn() {
  const name = field('name').value.trim();
  const password = field('password').value;
  const code = field('code').value.trim();
  if (!name || (!password && !code)) {
    tell(WORDS.request);
    field(name ? 'password' : 'name').focus();
    return;
  }
  const answer = await fetch('/api/login', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(password ? { name, password } : { name, code }),
    credentials: 'same-origin',
  });
  if (answer.ok) {
    location.replace(destination());
    return;
  }
  tell(words(await answer.json().catch(() => null), answer.status));
  const again = password ? field('password') : field('code');
  again.value = '';
  again.focus();
}

form.addEventListener('submit', async (submitted) => {
  submitted.preventDefault();
  const button = form.querySelector('button');
  button.disabled = true;
  tell('');
  try {
    await logIn();
  } catch {
    tell('The gateway does not answer. Is radloop running?');
  } finally {
    button.disabled = false;
  }
});

// Whoever is logged in already, in this or another tab, need not do it again.
fetch('/api/session', { credentials: 'same-origin' })
  .then((answer) => {
    if (answer.ok) location.replace(destination());
  })
  .catch(() => {});
