// Asks for the password over the viewer when the session has ended: nothing is left, nothing is lost.
import { useEffect, useRef, useState, type FormEvent } from 'react';

import { ApiProblem } from '../../../shared/client';
import { login } from '../../../shared/session';
import { codeText } from '../words';

export interface LoginDialogProps {
  /** Who was logged in; may be changed. */
  name: string;
  onDone: () => void;
}

export function LoginDialog({ name, onDone }: LoginDialogProps) {
  const [user, setUser] = useState(name);
  const [password, setPassword] = useState('');
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const first = useRef<HTMLInputElement>(null);

  useEffect(() => first.current?.focus(), []);

  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setBusy(true);
    setProblem('');
    login(user, password)
      .then(onDone)
      .catch((error: unknown) => {
        const code = error instanceof ApiProblem ? error.code : '';
        setProblem(codeText(code) || 'The login failed.');
        setPassword('');
      })
      .finally(() => setBusy(false));
  };

  // OHIF's hotkeys listen on the document; what is typed here is for nobody else.
  const keep = (event: React.KeyboardEvent): void => event.stopPropagation();

  return (
    <div className="rl-veil" onKeyDown={keep}>
      <form className="rl-dialog" role="dialog" aria-modal="true" aria-labelledby="rl-login-title" data-cy="rl-login" onSubmit={submit}>
        <h2 id="rl-login-title">The session has ended</h2>
        <p className="rl-dim">Log in to go on. What is open stays open; corrections not yet sent are kept in this browser.</p>
        <label>
          Name
          <input
            ref={name === '' ? first : undefined}
            data-cy="rl-login-name"
            autoComplete="username"
            required
            maxLength={200}
            value={user}
            onChange={event => setUser(event.target.value)}
          />
        </label>
        <label>
          Password
          <input
            ref={name === '' ? undefined : first}
            data-cy="rl-login-password"
            type="password"
            autoComplete="current-password"
            required
            value={password}
            onChange={event => setPassword(event.target.value)}
          />
        </label>
        {problem !== '' && (
          <p className="rl-error" role="alert">
            {problem}
          </p>
        )}
        <div className="rl-row">
          <button type="submit" data-cy="rl-login-submit" disabled={busy}>
            {busy ? 'Logging in …' : 'Log in'}
          </button>
        </div>
      </form>
    </div>
  );
}
