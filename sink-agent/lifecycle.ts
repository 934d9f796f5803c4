/**
 * The life of a sink, and what each request means in each state: pure, so that it can be tested without a container.
 *
 *             restore          run             trigger, freeze       checkpoint
 *   prepared ────────▶ restored ────▶ running ───────────────▶ frozen ─────────▶ dumped
 *                        ▲   └──────────▲── freeze ──────────────▲│                │
 *                        │              └────────── run ──────────┘                │
 *                        └───────────────────── restore ───────────────────────────┘
 *
 * When the container of a restored, running or frozen sink ends from outside, the sink is `lost`, from where nothing leads but `destroy`.
 *
 * Every request is safe to repeat: what has been done already is answered with the present state. `destroy` is for any state, but
 * a sink that may hold the only copy of its processes wants `force`.
 */
import type { SinkState } from './api.ts';

export type SinkRequest = 'restore' | 'run' | 'freeze' | 'checkpoint';
export type Admission = 'go' | 'already' | { refused: string };

const ADMISSION: Record<SinkRequest, Partial<Record<SinkState, 'go' | 'already'>>> = {
  restore: { prepared: 'go', dumped: 'go', restored: 'already' },
  run: { restored: 'go', frozen: 'go', running: 'already' },
  freeze: { restored: 'go', running: 'go', frozen: 'already', lost: 'already' },
  checkpoint: { frozen: 'go', dumped: 'already' },
};

/**
 * @param sameImage whether the request names the image that the sink holds now: another one is never `already` there.
 */
export function admit(request: SinkRequest, state: SinkState, sameImage = true): Admission {
  const answer = ADMISSION[request][state];
  if (answer === 'already' && !sameImage) return { refused: `it is ${state} with another image` };
  const from = Object.keys(ADMISSION[request]).join(', ');
  return answer ?? { refused: `it is ${state}; ${request} is for a sink that is ${from}` };
}

/** Whether processes live in a sink in that state. */
export function isInhabited(state: SinkState): boolean {
  return state === 'restored' || state === 'running' || state === 'frozen';
}

/**
 * Whether ending the sink now could lose processes that exist nowhere else.
 * @param ran they have run here, so that the VM's own image is older. @param sent the VM has the image of the way back, verified.
 */
export function mayHoldOnlyCopy(state: SinkState, ran: boolean, sent: boolean): boolean {
  if (!ran || state === 'lost') return false;
  return state !== 'dumped' || !sent;
}
