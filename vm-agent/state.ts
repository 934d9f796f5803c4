/**
 * What must survive a restart of the agent: which images there are, and where the gateway processes are. A small file, replaced
 * atomically, on a tmpfs: after a reboot of the guest nothing of it holds any more.
 *
 *   (here) ── dumping ── committing ── dumped ── restoring ── settling ── (here)
 *
 * Up to `committing` the processes run here whatever happens: CRIU undoes a dump whose agent has died. From `settling` on they run here
 * again, and only systemd is still to be told; whether they live is no question any more, since they may end by themselves.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { ImageState } from './api.ts';
import type { Placeholder } from './checkpoint/placeholders.ts';

export interface Away {
  phase: 'dumping' | 'committing' | 'dumped' | 'restoring' | 'settling';
  /** The image that is dumped or, from `restoring` on, restored. */
  imageId: string;
  placeholders: Placeholder[];
}

export interface AgentState {
  version: 1;
  images: Record<string, ImageState>;
  /** `null` while the gateway processes are here. */
  away: Away | null;
}

export interface StateFile {
  /** A copy: changes take effect by `write`. */
  read(): AgentState;
  write(change: Partial<Pick<AgentState, 'away'>> & { images?: Record<string, ImageState | null> }): void;
}

/** Opens the state at `path`; a file that is missing or of another version means a fresh start. */
export function openState(path: string): StateFile {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  let state = load(path);
  return {
    read: () => structuredClone(state),
    write(change) {
      const images = Object.entries({ ...state.images, ...change.images }).filter(
        ([, value]) => value !== null,
      );
      state = structuredClone({
        version: 1,
        images: Object.fromEntries(images) as AgentState['images'],
        away: change.away === undefined ? state.away : change.away,
      });
      writeFileSync(`${path}.new`, `${JSON.stringify(state)}\n`, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    },
  };
}

function load(path: string): AgentState {
  try {
    const state = JSON.parse(readFileSync(path, 'utf8')) as AgentState;
    if (state.version === 1) return state;
  } catch {
    // The first start since boot.
  }
  return { version: 1, images: {}, away: null };
}
