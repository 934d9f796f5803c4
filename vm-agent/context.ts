/** What every operation of the agent works with; made once, by main.ts. */

import type { Log } from '../common/log.ts';
import type { Launcher } from '../criu/launcher.ts';
import type { ImageStore } from './images.ts';
import type { StateFile } from './state.ts';
import type { UnitReader } from './systemd/unit.ts';

export interface AgentContext {
  vm: string;
  templateId: string;
  criuVersion: string;
  /** The address that the agent listens on; its network is not part of what moves. */
  managementAddress: string;
  /** Paths of the compiled helpers, see scripts/build-helpers. */
  helpers: { notifyAs: string; standIns: string; observer: string };
  /** Starts what a wake waits for. */
  launcher: Launcher;
  /** Folder of the gates at which CRIU waits. */
  gates: string;
  images: ImageStore;
  state: StateFile;
  units: UnitReader;
  log: Log;
}
